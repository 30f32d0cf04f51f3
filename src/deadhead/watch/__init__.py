"""Watching a network through training: what is recorded from outside while the caller's own loop runs. Imports what
lies below it, never `remove`."""

from deadhead.watch.adjustments import Watch, watch

__all__ = ["Watch", "watch"]
