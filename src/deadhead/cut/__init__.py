"""From a plan to the user's own module, smaller: what can be cut, surgery, repairs, verification, saved results."""
