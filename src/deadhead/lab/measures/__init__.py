"""What experiments measure that is no single call of the library: removal curves, densities, tests of shape."""
