"""Files are written all or none: whatever fails, what was there is as it was, and nothing else lies beside it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from deadhead.files import json_text, write_together


def held(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_text_and_bytes_are_written_and_folders_made(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("before")
    write_together({tmp_path / "old.txt": "é", tmp_path / "a" / "b" / "new.bin": b"\x00\xff"})
    assert held(tmp_path) == {
        "old.txt": "é".encode(), "a": None, "a/b": None, "a/b/new.bin": b"\x00\xff",
    }  # fmt: skip


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_rename_that_fails_undoes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, links: bool
) -> None:
    (tmp_path / "first").write_text("before")
    (tmp_path / "third").write_text("before")
    was, replace, calls = held(tmp_path), os.replace, []

    def fails_once(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == call:
            raise OSError(28, "No space left on device")
        replace(source, target)

    def unsupported(source: Any, target: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", fails_once)
    if not links:
        monkeypatch.setattr(os, "link", unsupported)
    with pytest.raises(OSError, match="No space"):
        write_together({tmp_path / "first": "after", tmp_path / "new" / "second": "after", tmp_path / "third": "after"})
    assert held(tmp_path) == was
    assert (tmp_path / "first").stat().st_nlink == 1


def test_an_interrupt_while_writing_undoes_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").write_text("before")
    was, write = held(tmp_path), Path.write_bytes

    def interrupted(self: Path, content: bytes) -> int:
        write(self, content[:2])
        if content == b"second":
            raise KeyboardInterrupt
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_together({tmp_path / "first": b"first", tmp_path / "new" / "second": b"second"})
    assert held(tmp_path) == was


def test_a_folder_in_the_place_of_a_file_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("before")
    (tmp_path / "second").mkdir()
    was = held(tmp_path)
    for contents in ({tmp_path / "first": "after", tmp_path / "second": "after"}, {tmp_path / "second": "after"}):
        with pytest.raises(OSError, match="second"):
            write_together(contents)
        assert held(tmp_path) == was
    with pytest.raises(OSError, match="first"):
        write_together({tmp_path / "first" / "below" / "third": "after"})
    assert held(tmp_path) == was


def test_where_an_earlier_file_cannot_be_put_back_it_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").write_text("before")
    replace, calls = os.replace, []

    def works_once(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) > 1:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", works_once)
    with pytest.raises(OSError, match="Input/output"):
        write_together({tmp_path / "first": "after", tmp_path / "second": "after"})
    assert b"before" in held(tmp_path).values()


def test_writers_of_the_same_file_do_not_meet(tmp_path: Path) -> None:
    texts = [letter * 200_000 for letter in "abcdef"]
    errors: list[BaseException] = []

    def write(text: str) -> None:
        try:
            for _ in range(10):
                write_together({tmp_path / "one": text, tmp_path / "two": text})
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(held(tmp_path)) == {"one", "two"}
    assert (tmp_path / "one").read_text() in texts
    assert (tmp_path / "two").read_text() in texts


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    write_together({tmp_path / ("é" * 127): "text"})
    assert list(held(tmp_path)) == ["é" * 127]


def test_json_has_null_for_what_is_no_number_and_text_for_what_it_has_no_type_for() -> None:
    value = {"a": [float("nan"), float("-inf"), 1.5, True, None], 2: {"b": Path("c/d")}, "e": (1, "é")}
    assert json.loads(json_text(value), parse_constant=lambda word: pytest.fail(word)) == {
        "a": [None, None, 1.5, True, None], "2": {"b": "c/d"}, "e": [1, "é"],
    }  # fmt: skip
