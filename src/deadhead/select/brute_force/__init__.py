"""Brute force: the unit whose removal costs least, round after round, exactly or by a race."""
