"""Consumers as a least-squares problem: what they read and give, and who can take over for whom. Imports gates."""
