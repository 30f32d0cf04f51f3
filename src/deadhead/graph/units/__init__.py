"""Units: labels that run through a graph and tell which parameter slices belong together, by a rule for each op."""
