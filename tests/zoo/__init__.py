"""Architectures that people use, small and with random weights."""
