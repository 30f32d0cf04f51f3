"""Writing files: all of several or none, beside and renamed, or line by line. Everything that the package writes goes
through here."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Write several files, all of them or none: beside their names first, then renamed.

    Parent folders that are missing are made. Where anything fails, or the run is interrupted, every file is as it was
    and the folders that were made are removed. Temporary names are random, so that two processes that write the same
    files do not meet; each file is then that of the one which came last.

    Args:
        contents: What to write for each path; text is encoded as UTF-8.

    Raises:
        OSError: A folder cannot be made or written, or a path names a folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_together({Path(folder, "new", "a.txt"): "one", Path(folder, "b.bin"): b"two"})
        ...     Path(folder, "new", "a.txt").read_text()
        'one'
    """
    token = secrets.token_hex(8)
    beside = {path: path.with_name(f".{path.name[:40]}.{token}.part") for path in contents}
    before = {path: path.with_name(f".{path.name[:40]}.{token}.before") for path in contents}
    made: list[Path] = []
    replaced: list[Path] = []
    try:
        for path, content in contents.items():
            _make_folder(path.parent, made)
            beside[path].write_bytes(content.encode() if isinstance(content, str) else content)
        for path in contents:
            if len(contents) > 1:  # a single rename happens or does not: nothing to undo
                if path.exists():
                    _duplicate(path, before[path])
                replaced.append(path)
            os.replace(beside[path], path)
    except BaseException:
        for path in replaced:
            _restore(path, beside[path], before[path])
        _remove(*beside.values(), *(before[path] for path in contents if path not in replaced))
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # another process may have put something there
                folder.rmdir()
        raise
    _remove(*before.values())


def append_line(path: Path, line: str) -> None:
    """Append one line to a file, made with its folder where there is none.

    A process that is killed leaves the lines before it whole, and at most the last one incomplete; the next line that
    is appended then starts anew.

    Args:
        path: the file.
        line: without its end.

    Raises:
        OSError: the file cannot be made or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     append_line(Path(folder, "new", "lines.txt"), "one")
        ...     append_line(Path(folder, "new", "lines.txt"), "two")
        ...     Path(folder, "new", "lines.txt").read_text()
        'one\\ntwo\\n'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """`value` as JSON that every parser reads: NaN and infinities are null, what JSON has no type for is text.

    Args:
        value: Numbers, texts, and mappings and sequences of them, nested; keys become text.
        indent: Spaces for each level; by default everything is on one line.

    Example:
        >>> json_text({"loss": float("nan"), "where": Path("a/b"), 3: (1, 2.5)})
        '{"loss": null, "where": "a/b", "3": [1, 2.5]}'
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, and note each that was not there."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        try:
            each.mkdir()
        except FileExistsError:
            continue
        made.append(each)


def _duplicate(path: Path, other: Path) -> None:
    """A second name for a file, or a copy where the file system has no second names."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copy2(path, other)


def _restore(path: Path, beside: Path, before: Path) -> None:
    """Put the earlier file back, or take the new one away; where that fails, the earlier one stays under `before`."""
    with contextlib.suppress(OSError):
        if before.exists():
            os.replace(before, path)
            before.unlink(missing_ok=True)  # renaming one name of a file to another of its names leaves both
        elif not beside.exists():
            path.unlink(missing_ok=True)


def _remove(*paths: Path) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()
