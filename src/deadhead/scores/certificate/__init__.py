"""Bounds on what a removal can cost, from operator norms downstream."""
