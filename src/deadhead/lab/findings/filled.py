"""Sentences with placeholders for numbers, filled from results over seeds, so that no number is typed in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deadhead.errors import DeadheadError
from deadhead.lab.judges import Results, digits, over_seeds

PLACEHOLDER = re.compile(r"\{([^{}]+?)(?:\[(\d+)\])?(:[a-z%]+)?\}")


def filled(text: str, results: Results, variants: Mapping[str, Results] | None = None) -> str:
    """A text whose placeholders are replaced by means over seeds, with their range.

    `{name}` is a result; `{name[2]}` the third of a list; `{name.key}` an entry of a mapping; `{variant.name}` a result
    of a variant. `{name:mean}` leaves the range out, `{name:%}` gives percent, and `{name:mean%}` both.

    Args:
        text: with placeholders.
        results: one mapping for each seed.
        variants: results by the variant's name; one that was not run reads "(not run)".

    Raises:
        DeadheadError: a placeholder names no result.

    >>> filled("Half go at {loss} ({share:mean%} of all).", [{"loss": 1.0, "share": 0.5}, {"loss": 2.0, "share": 0.7}])
    'Half go at 1.5 (1 to 2) (60 % of all).'
    """
    variants = variants or {}

    def value(found: re.Match[str]) -> str:
        name, at, form = found[1], found[2], found[3] or ""
        first, _, rest = name.partition(".")
        source = variants[first] if rest and first in variants else results
        if not source:
            return "(not run)"
        path = rest if rest and first in variants else name
        scale = 100.0 if "%" in form else 1.0
        numbers = [scale * x for each in source for x in _numbers(_looked_up(each, path, text), at)]
        if not numbers:
            return "(no case)"
        number = over_seeds(path, numbers)
        return (digits(number.mean) if "mean" in form else number.span) + (" %" if "%" in form else "")

    return PLACEHOLDER.sub(value, text)


def _looked_up(results: Mapping[str, Any], path: str, text: str) -> Any:
    if path in results:
        return results[path]
    first, _, rest = path.partition(".")
    if rest and isinstance(results.get(first), Mapping):
        return _looked_up(results[first], rest, text)
    raise DeadheadError(f"There is no result {path!r} for the sentence {text[:60]!r}: use one of {', '.join(results)}.")


def _numbers(value: Any, at: str | None) -> Iterator[float]:
    if value is None:
        return
    if isinstance(value, (list, tuple)):
        for each in value if at is None else [value[int(at)]]:
            yield from _numbers(each, None)
    else:
        yield float(value)
