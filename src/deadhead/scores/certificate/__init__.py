"""Upper bounds on what a removal can cost, from operator norms of the layers behind it."""
