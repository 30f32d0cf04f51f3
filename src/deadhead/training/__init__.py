"""Wing: what is recorded while the caller's own training loop runs. Imports the path, never another wing."""

from deadhead.training.watch import Watch, watch

__all__ = ["Watch", "watch"]
