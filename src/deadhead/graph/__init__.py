"""What a network computes and which units can be removed: tracing, replay, labels, costs. Imports ground files only."""
