"""Scores of single weights, and the Hessian by them."""
