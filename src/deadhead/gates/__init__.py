"""The loss as a function of gates on units, and what their consumers read: moments, slopes. Imports graph and data."""
