"""Registries of one form: entries by name, whose options are the keywords of their functions."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from deadhead.errors import DeadheadError


@dataclass(frozen=True)
class Entry:
    """One entry of a registry: its name, and the function whose keyword-only arguments are its options."""

    name: str
    function: Callable[..., Any]

    @property
    def options(self) -> dict[str, Any]:
        """The options and their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """The first sentence of the function's docstring, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").split("\n\n")[0].split())


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """Entries of one kind by name.

    Args:
        kind: what an entry is, for errors, such as "criterion".
        plural: what several are, such as "criteria"; entry points of the group `deadhead.<plural>` are loaded when an
            entry is asked for, so that other packages can add theirs.
        error: the exception that a name or an option that does not exist raises.
        group: the entry points' group `deadhead.<group>`, where it is not the plural.

    >>> registry: Registry[Entry] = Registry("colour", "colours", DeadheadError)
    >>> def red(paper, *, shade=1.0):
    ...     "Paint it red."
    >>> registry.add(Entry("red", red))
    >>> registry["red"].options, registry["red"].summary
    ({'shade': 1.0}, 'Paint it red.')
    >>> registry["rad"]
    Traceback (most recent call last):
    deadhead.errors.DeadheadError: There is no colour 'rad'; did you mean 'red'? The colours are red.
    """

    def __init__(self, kind: str, plural: str, error: type[DeadheadError], *, group: str = "") -> None:
        self.kind, self.plural, self.error = kind, plural, error
        self._group = f"deadhead.{group or plural}"
        self._entries: dict[str, E] = {}
        self._loaded = False

    def add(self, entry: E) -> None:
        """Add an entry; raises `ValueError` where the name is taken."""
        if entry.name in self._entries:
            raise ValueError(f"two entries of the name {entry.name!r} among the {self.plural}")
        self._entries[entry.name] = entry

    def _all(self) -> dict[str, E]:
        if not self._loaded:
            self._loaded = True
            for found in entry_points(group=self._group):
                try:
                    found.load()
                except Exception as error:  # another package's fault must not stop this one
                    warnings.warn(
                        f"The entry point {found.name} = {found.value} of the group {self._group} cannot be loaded "
                        f"({type(error).__name__}: {error}); its {self.plural} are missing.",
                        stacklevel=4,
                    )
        return self._entries

    def __getitem__(self, name: str) -> E:
        entries = self._all()
        if name not in entries:
            near = difflib.get_close_matches(str(name), entries, 1)
            names = f"{self.plural} are {', '.join(sorted(entries))}."
            hint = f"did you mean {near[0]!r}? The {names}" if near else f"the {names}"
            raise self.error(f"There is no {self.kind} {name!r}; {hint}")
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def check_options(self, name: str, given: Mapping[str, Any]) -> None:
        """Raise the registry's error where an entry has no option of a name that is given."""
        known = self[name].options
        for option in given:
            if option not in known:
                has = f"its options are {', '.join(known)}" if known else "it has none"
                raise self.error(f"The {self.kind} {name} has no option {option!r}; {has}.")
