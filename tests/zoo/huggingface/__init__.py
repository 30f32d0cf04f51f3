"""Small models of the architectures in transformers, built from configurations with random weights.

`ENTRIES[name].build()` gives a model in evaluation mode, `ENTRIES[name].inputs(rows)` what it is called with, as
keyword arguments; `built(name)` draws its weights anew with `unit_gain`, so that closing units moves the outputs.
Sizes that mean different things are different numbers, wherever an architecture allows it.
"""

from __future__ import annotations

from zoo.huggingface import images, sound, text
from zoo.huggingface.entry import ENTRIES
from zoo.huggingface.weights import built

__all__ = ["ENTRIES", "built", "images", "sound", "text"]
