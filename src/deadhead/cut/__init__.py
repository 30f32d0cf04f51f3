"""From a plan to the user's own network, smaller: what can be cut, surgery, repairs, verification, saved results."""
