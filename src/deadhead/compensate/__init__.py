"""How the units that remain take over the work of those that are removed: one file for each method. Imports select."""
