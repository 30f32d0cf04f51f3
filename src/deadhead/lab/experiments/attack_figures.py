"""Figures of the experiment `attack`."""

PICTURES = ()
