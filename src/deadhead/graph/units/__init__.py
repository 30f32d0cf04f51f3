"""Units: labels that run through a graph and tell which parameter slices belong together.

`rules/` has a rule for each family of ops, `groups` makes groups of units out of the labels, `matrices` and `windows`
say how a consumer lays out its weight and what it reads. Imports the rest of `graph/`.
"""
