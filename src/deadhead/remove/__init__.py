"""Removal: compensation, the cut itself, and the proof that it computes what was promised. Imports select and below."""
