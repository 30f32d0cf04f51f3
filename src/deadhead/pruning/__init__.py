"""The path of a prune, step by step, and what is known about one: options, candidates, measures, record."""
