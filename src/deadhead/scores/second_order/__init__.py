"""Second-order estimates: the diagonal recursion, the exact second derivative, Gauss-Newton."""
