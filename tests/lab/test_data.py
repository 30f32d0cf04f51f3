from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import json
import socket
import struct
import sys
import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import Tensor

from deadhead.errors import DataError, DeadheadError
from deadhead.lab import Split, cifar10_jpeg, digits, load, mnist
from deadhead.lab import data as module
from support.data import needs_data


def idx(values: Tensor, magic: tuple[int, int, int] = (0, 0, 8)) -> bytes:
    """A gzipped idx file, written independently of the reader: byte by byte."""
    header = bytes([*magic, values.dim()]) + b"".join(struct.pack(">I", size) for size in values.shape)
    return gzip.compress(header + bytes(values.flatten().tolist()), mtime=0)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Four small files in place of MNIST's, their digests expected, no data folder, and an empty cache."""
    files = {
        "train-images-idx3-ubyte.gz": idx(torch.arange(5 * 28 * 28).reshape(5, 28, 28) % 256),
        "train-labels-idx1-ubyte.gz": idx(torch.tensor([3, 1, 4, 1, 5])),
        "t10k-images-idx3-ubyte.gz": idx(torch.full((2, 28, 28), 255)),
        "t10k-labels-idx1-ubyte.gz": idx(torch.tensor([9, 2])),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(module, "MNIST_FILES", digests)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DEADHEAD_DATA", raising=False)
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return files


def offline(url: str, timeout: float) -> io.BytesIO:
    raise URLError(socket.gaierror("no network"))


def put(files: dict[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def rows(*parts: Tensor) -> list[tuple[float, ...]]:
    return sorted(tuple(row) for part in parts for row in part.flatten(1).tolist())


def test_digits_splits_share_no_row_and_lose_none() -> None:
    datasets = importlib.import_module("sklearn.datasets")
    split = digits()
    assert split.test_inputs.shape == (360, 1, 8, 8)
    assert split.train_inputs.shape == (1437, 1, 8, 8)
    whole = torch.tensor(datasets.load_digits().data / 16, dtype=torch.float32)
    assert rows(split.train_inputs, split.test_inputs) == rows(whole)


def test_digits_are_stratified_float32_in_unit_range() -> None:
    split = digits()
    assert split.train_inputs.dtype == torch.float32
    assert split.train_targets.dtype == torch.int64
    assert (split.train_inputs.min().item(), split.train_inputs.max().item()) == (0, 1)
    whole = torch.cat([split.train_targets, split.test_targets]).bincount(minlength=10)
    shares = split.test_targets.bincount(minlength=10) - whole * 360 / 1797
    assert shares.abs().max() <= 1
    assert split.classes == tuple("0123456789")


def test_digits_split_follows_from_its_seed() -> None:
    assert torch.equal(digits(3).test_inputs, digits(3).test_inputs)
    assert not torch.equal(digits(3).test_inputs, digits(4).test_inputs)


def test_missing_scikit_learn_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DeadheadError, match=r"^The digits .* pip install scikit-learn\.$"):
        digits()


def test_unknown_name_lists_the_valid_ones() -> None:
    with pytest.raises(DataError, match="'mnits': choose one of digits, mnist, cifar10"):
        load("mnits")


@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_mnist_is_read_from_the_data_folder(
    tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, subfolder: str
) -> None:
    put(tiny, tmp_path / "data" / subfolder)
    monkeypatch.setenv("DEADHEAD_DATA", str(tmp_path / "data"))
    events: list[tuple[str, int, int]] = []
    split = load("mnist", progress=lambda *event: events.append(event))
    assert split.train_inputs.shape == (5, 1, 28, 28)
    assert split.train_inputs.dtype == torch.float32
    expected = torch.tensor([value % 256 / 255 for value in range(5 * 28 * 28)])
    torch.testing.assert_close(split.train_inputs.flatten(), expected, rtol=0, atol=1e-7)
    assert split.train_targets.tolist() == [3, 1, 4, 1, 5]
    assert bool((split.test_inputs == 1).all())
    assert split.test_targets.tolist() == [9, 2]
    assert events[0] == ("mnist", 0, 4)
    assert events[-1] == ("mnist", 4, 4)


def test_mnist_is_downloaded_once_and_kept(
    tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def second_mirror_only(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        assert timeout > 0
        if url.startswith(module.MIRRORS[0]):
            raise TimeoutError("silent")
        return io.BytesIO(tiny[url.rsplit("/", 1)[1]])

    monkeypatch.setattr(urllib.request, "urlopen", second_mirror_only)
    assert mnist().test_targets.tolist() == [9, 2]
    assert len(asked) == 8
    cache = tmp_path / "cache/deadhead/mnist"
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == tiny
    monkeypatch.setattr(urllib.request, "urlopen", offline)
    assert mnist().test_targets.tolist() == [9, 2]


def test_damaged_download_is_not_kept(tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"<html>login</html>"))
    with pytest.raises(DataError, match="is damaged"):
        mnist()
    assert not list(tmp_path.rglob("*.gz"))


def test_missing_data_without_network_says_what_to_do(tiny: dict[str, bytes]) -> None:
    with pytest.raises(DataError) as caught:
        mnist()
    message = str(caught.value)
    assert "set DEADHEAD_DATA to a folder that holds the four files" in message
    assert all(name in message for name in tiny)
    assert "no network" in message
    assert "\n" not in message


def test_damaged_file_is_named_with_both_digests(
    tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-labels-idx1-ubyte.gz"
    put({**tiny, name: b"damaged"}, tmp_path / "data")
    monkeypatch.setenv("DEADHEAD_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError) as caught:
        mnist()
    message = str(caught.value)
    assert str(tmp_path / "data" / name) in message
    assert hashlib.sha256(b"damaged").hexdigest() in message
    assert hashlib.sha256(tiny[name]).hexdigest() in message


def test_read_only_home_costs_no_data(tiny: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(tiny[url.rsplit("/", 1)[1]]))
    assert mnist().test_targets.tolist() == [9, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"not gzip",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\x00\x00\x08\x02\x00\x00", mtime=0),
        idx(torch.ones(4, dtype=torch.uint8), magic=(0, 0, 13)),
        gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x09only", mtime=0),
        idx(torch.ones(4, dtype=torch.uint8))[:-9],
    ],
    ids=["not gzip", "empty", "header only", "not of bytes", "cut short inside", "cut short"],
)
def test_idx_files_that_are_none_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^labels\.gz is not "):
        module._read_idx(content, "labels.gz")


def test_idx_sizes_are_big_endian() -> None:
    values = torch.arange(2 * 3 * 300).reshape(2, 3, 300) % 251
    assert torch.equal(module._read_idx(idx(values), "x"), values.to(torch.uint8))


@pytest.fixture
def tiny_cifar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[int], tuple[float, float, float]]:
    """Six JPEG files of two classes, each black above and of one colour below; returns the colour of a row."""
    image = pytest.importorskip("PIL.Image")
    labels = {"train": [1, 0, 0, 1], "test": [1, 0]}
    files = {"train/bee": [(250, 10, 10), (10, 250, 10)], "train/ant": [(10, 10, 250), (200, 200, 20)]}
    files |= {"test/bee": [(20, 200, 200)], "test/ant": [(90, 90, 90)]}
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        # Files stand in the archive in another order than their names.
        for folder, colours in files.items():
            for number in reversed(range(len(colours))):
                picture = io.BytesIO()
                painted = image.new("RGB", (32, 32), colours[number])
                painted.paste((0, 0, 0), (0, 0, 32, 16))
                painted.save(picture, "JPEG", quality=95)
                member = tarfile.TarInfo(f"{folder}/{number:04}.jpg")
                member.size = len(picture.getvalue())
                archive.addfile(member, io.BytesIO(picture.getvalue()))
    contents = {"cifar10_jpeg.tar.gz": stream.getvalue()}
    contents |= {f"{part}_labels.json": json.dumps(values).encode() for part, values in labels.items()}
    put(contents, tmp_path / "data" / "cifar10-jpeg")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(module, "CIFAR_FILES", digests)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DEADHEAD_DATA", str(tmp_path / "data"))
    order = [files["train/bee"][0], *files["train/ant"], files["train/bee"][1]]
    return lambda row: order[row]


def test_cifar_stands_in_the_order_of_its_labels(tiny_cifar: Callable[[int], tuple[float, float, float]]) -> None:
    split = cifar10_jpeg()
    assert split.name == "CIFAR-10 (JPEG)"
    assert split.classes == ("ant", "bee")
    assert split.train_inputs.shape == (4, 3, 32, 32)
    assert split.train_targets.tolist() == [1, 0, 0, 1]
    for row in range(4):
        expected = torch.zeros(3, 32, 32)
        expected[:, 16:] = torch.tensor(tiny_cifar(row)).reshape(3, 1, 1) / 255
        # JPEG blurs colours across the edge.
        clear = [*range(14), *range(18, 32)]
        torch.testing.assert_close(split.train_inputs[row, :, clear], expected[:, clear], rtol=0, atol=4 / 255)


def test_second_load_of_cifar_needs_no_archive(
    tiny_cifar: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cifar10_jpeg()
    monkeypatch.delenv("DEADHEAD_DATA")
    again = cifar10_jpeg()
    assert torch.equal(first.train_inputs, again.train_inputs)
    assert torch.equal(first.test_targets, again.test_targets)
    assert again.classes == first.classes
    cache = next((tmp_path / "cache").rglob("*.safetensors"))
    cache.write_bytes(cache.read_bytes()[:100])
    with pytest.raises(DataError, match="set DEADHEAD_DATA to a folder whose subfolder cifar10-jpeg holds"):
        cifar10_jpeg()


def test_damaged_cifar_labels_are_named(tiny_cifar: object, tmp_path: Path) -> None:
    path = tmp_path / "data/cifar10-jpeg/test_labels.json"
    path.write_text("[0, 0]")
    with pytest.raises(DataError, match=r"test_labels\.json is damaged \(SHA-256 \w{64}, expected \w{64}\)"):
        cifar10_jpeg()


def test_missing_pillow_is_one_sentence(tiny_cifar: object, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = importlib.import_module

    def without_pillow(name: str, package: str | None = None) -> object:
        if name.startswith("PIL"):
            raise ImportError(name)
        return genuine(name, package)

    monkeypatch.setattr(importlib, "import_module", without_pillow)
    with pytest.raises(DeadheadError, match=r"^Decoding CIFAR-10 \(JPEG\) needs Pillow"):
        cifar10_jpeg()


@needs_data
def test_mnist_has_its_rows_and_known_first_labels() -> None:
    split: Split = mnist()
    assert split.train_inputs.shape == (60000, 1, 28, 28)
    assert split.test_inputs.shape == (10000, 1, 28, 28)
    assert split.train_targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert split.test_targets[:5].tolist() == [7, 2, 1, 0, 4]
    # The mean and deviation that everybody normalises MNIST with.
    assert split.train_inputs.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert split.train_inputs.std().item() == pytest.approx(0.3081, abs=5e-5)
