"""The shape of an experiment: typed settings, a function to plain results, claims with judges, and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deadhead.errors import DeadheadError
from deadhead.lab.judges import SEEDS, Judge, Judgement
from deadhead.registry import Entry


@dataclass(frozen=True)
class Claim:
    """What a document says, and how results over seeds decide on it.

    Args:
        id: its number, such as "A1.1"; what stands before the point is its row among the features.
        where: document and section.
        sentence: the claim in one sentence.
        number: the document's number or shape.
        judge: from results over seeds to a verdict.
        example: made-up results of one seed for which it holds.
        counter: made-up results of one seed, merged over `example`, for which it does not hold.
        note: what was chosen where the document is silent, or why a judge is what it is.
        picture: name of the figure that shows it.
        why: a paragraph on why it does not hold, or only in part, shown then. Its numbers are placeholders, as in
            `filled`.
        variants: names of the experiment's variants whose verdicts, by the same judge, stand below that paragraph.
    """

    id: str
    where: str
    sentence: str
    number: str
    judge: Judge
    example: Mapping[str, Any]
    counter: Mapping[str, Any]
    note: str = ""
    picture: str = ""
    why: str = ""
    variants: tuple[str, ...] = ()

    def made_up(self, *, holds: bool) -> Judgement:
        """The verdict on made-up results: that of `example`, or that of `counter`."""
        return self.judge([{**self.example, **({} if holds else self.counter)}] * SEEDS)


@dataclass(frozen=True)
class Document:
    """What several claims have in common.

    Args:
        title: as it is cited, before the section.
        why: {claim: its paragraph on why it does not hold} (default: none has one here).
        variants: {claim: names of the variants below that paragraph}.
    """

    title: str
    why: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def claim(
        self,
        id: str,
        section: str,
        sentence: str,
        number: str,
        judge: Judge,
        example: Mapping[str, Any],
        counter: Mapping[str, Any],
        note: str = "",
        picture: str = "",
        **more: Any,
    ) -> Claim:
        """A claim of this document; arguments as those of `Claim`, with the section for `where`.

        >>> from deadhead.lab.judges import Share
        >>> Document("Evci (2018)").claim("E1.1", "table 2.1", "It costs.", "6", Share("x"), {}, {}).where
        'Evci (2018), table 2.1'
        """
        more = {"why": self.why.get(id, ""), "variants": self.variants.get(id, ()), **more}
        return Claim(id, f"{self.title}, {section}", sentence, number, judge, example, counter, note, picture, **more)


@dataclass(frozen=True)
class Picture:
    """A figure of results over seeds.

    Args:
        name: file name without its suffix.
        caption: one sentence for below the figure.
        size: width and height in inches.
        draw: from an empty figure and the results, and nothing else; of a film, also from the number of its frame.
        frames: how many frames a film has (default: it is a still).
    """

    name: str
    caption: str
    size: tuple[float, float]
    draw: Callable[..., None]
    frames: int = 0


@dataclass(frozen=True)
class Experiment(Entry):
    """An entry of the registry: its function takes settings, a seed and a progress callback, and gives plain results.

    Args:
        settings: the dataclass of its settings; each field has a default, the document's.
        claims: what it decides.
        pictures: its figures.
        quick: settings that differ in a quick run, of about a hundredth of the work.
        takeaway: one or two sentences of what a reader takes away, with placeholders for numbers as in `filled`.
        variants: settings that differ, by name: run on the same seeds to separate the causes of what was found.
    """

    settings: type[Any]
    claims: Sequence[Claim] = ()
    pictures: Sequence[Picture] = ()
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    takeaway: str = ""
    variants: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """The settings and their defaults, and the seed."""
        return {**{each.name: each.default for each in dataclasses.fields(self.settings)}, "seed": 0}

    def read(self, given: Mapping[str, Any], *, quick: bool = False) -> Any:
        """Settings from values by name, checked against the types of their defaults.

        Plain dataclasses do here what pydantic would: settings are numbers, texts and tuples of them, and a misspelt
        or mistyped one gets a sentence that every other registry gives, too, without another dependency.

        Args:
            given: values by name; a list becomes a tuple, and a whole number may stand for a real one.
            quick: start from the quick run's settings.

        Raises:
            DeadheadError: a value has another type than its setting.
        """
        values = {**(self.quick if quick else {}), **given}
        defaults = self.options
        read = {name: _typed(self.name, name, value, defaults[name]) for name, value in values.items()}
        return self.settings(**read)


def _typed(experiment: str, name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        return tuple(_typed(experiment, name, each, default[0]) for each in value) if default else tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise DeadheadError(
            f"The option {name} of the experiment {experiment} is {value!r}: give {_kind(default)}, as in "
            f"{name}={default!r}."
        )
    return value


def _kind(default: Any) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", tuple: "a list"}
    return kinds[type(default)]
