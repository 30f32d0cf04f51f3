"""Scores of single weights, and the Hessian of the loss by them."""
