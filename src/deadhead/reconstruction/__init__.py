"""Consumers of units as least-squares problems: statistics, choice of units, refitted weights. Imports gates."""
