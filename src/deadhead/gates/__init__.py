"""The loss as a function of gates on units: one at a time or many at once, moments, slopes. Imports graph and data."""
