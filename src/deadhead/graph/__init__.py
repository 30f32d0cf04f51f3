"""The traced graph: tracing, replay, labels, units. It imports nothing of deadhead but errors."""
