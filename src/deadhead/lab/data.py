"""Data sets for the experiments: found on disk or fetched, checked by digest, handed out as tensors."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib
import io
import json
import math
import os
import struct
import tarfile
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor

from deadhead.errors import DataError, DeadheadError
from deadhead.files import write_together
from deadhead.progress import Progress, track

TIMEOUT = 30.0
"""Seconds without an answer after which the next mirror is asked."""

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""The four original files and their SHA-256."""

CIFAR_FILES = {
    "cifar10_jpeg.tar.gz": "0bfcb68717a0ecb0d51ed61034906a773d48d424d94b766a46d7d1c55702a4d9",
    "train_labels.json": "a3a0d804911c71de4b73015af980e237de5f82da7b1482a8efaf7adcc1722f45",
    "test_labels.json": "a5df9ed6f395827dd69906fe5ac740be70395ca9d841974d4351818628b48bb6",
}
"""The archive of JPEG files, the labels in the original order, and their SHA-256."""


@dataclass(frozen=True, eq=False)
class Split:
    """A data set in two parts that share no sample.

    Args:
        name: What the data set is called.
        train_inputs: (samples, channels, height, width) float32 in [0, 1].
        train_targets: (samples,) int64, indices into `classes`.
        test_inputs: As `train_inputs`.
        test_targets: As `train_targets`.
        classes: The names of the classes.
    """

    name: str
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    classes: tuple[str, ...]


def load(name: str, *, progress: Progress | None = None) -> Split:
    """Load a data set by name.

    Args:
        name: "digits", "mnist" or "cifar10".
        progress: Called for each file, or each decoded picture.

    Raises:
        DataError: There is no data set of this name, or its files cannot be found.

    Example:
        >>> load("digits").test_inputs.shape
        torch.Size([360, 1, 8, 8])
    """
    loaders: dict[str, Callable[[], Split]] = {
        "digits": digits,
        "mnist": lambda: mnist(progress=progress),
        "cifar10": lambda: cifar10_jpeg(progress=progress),
    }
    if name not in loaders:
        raise DataError(f"There is no data set called {name!r}: choose one of {', '.join(loaders)}.")
    return loaders[name]()


def digits(seed: int = 0) -> Split:
    """Load the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn, 360 of them for testing.

    Inputs are (1437, 1, 8, 8) and (360, 1, 8, 8). The split is stratified: each class has the same share of both
    parts, to one sample.

    Args:
        seed: Draws the split.

    Raises:
        DeadheadError: scikit-learn is not installed.

    Source:
        UCI Machine Learning Repository, Optical Recognition of Handwritten Digits, test part.

    Example:
        >>> split = digits()
        >>> split.train_inputs.shape, split.test_targets.bincount().tolist()
        (torch.Size([1437, 1, 8, 8]), [36, 36, 35, 37, 36, 37, 36, 36, 35, 36])
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
        selection = importlib.import_module("sklearn.model_selection")
    except ImportError as error:
        raise DeadheadError(
            "The digits data set comes with scikit-learn, which is not installed: pip install scikit-learn."
        ) from error
    bunch = datasets.load_digits()
    inputs = torch.as_tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    targets = torch.as_tensor(bunch.target, dtype=torch.int64)
    train, test = selection.train_test_split(range(len(targets)), test_size=360, stratify=targets, random_state=seed)
    return Split("digits", inputs[train], targets[train], inputs[test], targets[test], tuple("0123456789"))


def mnist(*, progress: Progress | None = None) -> Split:
    """Load MNIST: 60,000 and 10,000 handwritten digits, inputs (samples, 1, 28, 28).

    The four original files are looked for in `$DEADHEAD_DATA`, in `$DEADHEAD_DATA/mnist` and in the user's cache
    (`$XDG_CACHE_HOME/deadhead/mnist`, else `~/.cache/deadhead/mnist`), and are downloaded to the cache where they are
    in none. Every file is checked by its SHA-256, wherever it came from.

    Args:
        progress: Called for each file.

    Raises:
        DataError: A file's digest is wrong, or files can be neither found nor downloaded; it says where to put them.

    Source:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits.

    Example (not run: it needs the files)::

        split = mnist()
        split.train_inputs.shape     # torch.Size([60000, 1, 28, 28])
    """
    arrays = [_read_idx(_mnist_file(name), name) for name in track(progress, "mnist", MNIST_FILES)]
    train_images, train_labels, test_images, test_labels = arrays
    return Split(
        "MNIST",
        _scaled(train_images.unsqueeze(1)),
        train_labels.long(),
        _scaled(test_images.unsqueeze(1)),
        test_labels.long(),
        tuple("0123456789"),
    )


def cifar10_jpeg(*, progress: Progress | None = None) -> Split:
    """Load CIFAR-10 (JPEG): 50,000 and 10,000 photographs in ten classes, inputs (samples, 3, 32, 32), in the original
    order.

    The images went through a lossy compression (mean error about 6 grey levels), so that results do not compare with
    published CIFAR-10 figures. Read from `$DEADHEAD_DATA/cifar10-jpeg`, which holds `cifar10_jpeg.tar.gz`,
    `train_labels.json` and `test_labels.json`; the decoded pixels are written to the user's cache, and the second load
    reads them there.

    Args:
        progress: Called for each decoded picture.

    Raises:
        DataError: A file is missing, or its SHA-256 is wrong.
        DeadheadError: Pillow is not installed.

    Source:
        Krizhevsky (2009), Learning multiple layers of features from tiny images.

    Example (not run: it needs the files)::

        split = cifar10_jpeg()
        split.classes[:3]            # ('airplane', 'automobile', 'bird')
    """
    digest = CIFAR_FILES["cifar10_jpeg.tar.gz"]
    cache = _cache("cifar10-jpeg") / f"decoded-{digest[:12]}.safetensors"
    tensors, classes = _cached_pixels(cache) or _decode_cifar(cache, progress)
    return Split(
        "CIFAR-10 (JPEG)",
        _scaled(tensors["train_images"]),
        tensors["train_labels"].long(),
        _scaled(tensors["test_images"]),
        tensors["test_labels"].long(),
        classes,
    )


def _scaled(pixels: Tensor) -> Tensor:
    """uint8 grey levels as float32 in [0, 1], without a second copy of a large set."""
    return pixels.float().div_(255)


def _read_idx(content: bytes, name: str) -> Tensor:
    """The uint8 array in a gzipped idx file: a magic of 0, 0, 8, dimensions, then big-endian sizes, then the bytes."""
    try:
        raw = gzip.decompress(content)
        first, second, kind, dimensions = struct.unpack_from(">4B", raw)
        sizes = struct.unpack_from(f">{dimensions}I", raw, 4)
    except (OSError, EOFError, struct.error) as error:
        raise DataError(f"{name} is not a gzipped idx file ({error}): fetch it again.") from error
    start = 4 + 4 * dimensions
    if (first, second, kind) != (0, 0, 8) or len(raw) - start != math.prod(sizes):
        raise DataError(f"{name} is not an idx file of unsigned bytes, or is cut short: fetch it again.")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=start).reshape(sizes)


def _mnist_file(name: str) -> bytes:
    for folder in [*_data_folders("mnist"), _cache("mnist")]:
        if (folder / name).is_file():
            return _checked((folder / name).read_bytes(), str(folder / name), MNIST_FILES[name])
    reasons = []
    for mirror in MIRRORS:
        try:
            with urllib.request.urlopen(mirror + name, timeout=TIMEOUT) as response:
                content = _checked(response.read(), mirror + name, MNIST_FILES[name])
        except (OSError, HTTPException, DataError) as error:
            reasons.append(f"{mirror}: {error}")
            continue
        _keep(content, _cache("mnist") / name)
        return content
    raise DataError(
        f"MNIST's {name} is not on this machine and could not be downloaded from its mirrors ({'; '.join(reasons)}): "
        f"set DEADHEAD_DATA to a folder that holds the four files {', '.join(MNIST_FILES)}."
    )


def _cached_pixels(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, tuple(json.loads(file.metadata()["classes"]))
    except (OSError, SafetensorError):
        return None


def _decode_cifar(cache: Path, progress: Progress | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Decode the archive, put the images into the order of the labels, and keep the result at `cache`."""
    from safetensors.torch import save

    try:
        image = importlib.import_module("PIL.Image")
    except ImportError as error:
        raise DeadheadError(
            "Decoding CIFAR-10 (JPEG) needs Pillow, which is not installed: pip install Pillow."
        ) from error
    contents = {name: _cifar_file(name) for name in CIFAR_FILES}
    labels = {part: json.loads(contents[f"{part}_labels.json"]) for part in ("train", "test")}
    images: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    with tarfile.open(fileobj=io.BytesIO(contents["cifar10_jpeg.tar.gz"])) as archive:
        for member in track(progress, "cifar10 (decoding)", archive, sum(map(len, labels.values()))):
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                part, label, name = member.name.split("/")
                pixels = bytearray(image.open(file).convert("RGB").tobytes())
                images[part, label][name] = torch.frombuffer(pixels, dtype=torch.uint8).reshape(32, 32, 3)
    classes = tuple(sorted({label for _, label in images}))
    tensors = {}
    for part, indices in labels.items():
        # The original order is the next file of each class, walking the labels.
        queues = {label: iter(sorted(images[part, label])) for label in classes}
        ordered = [images[part, classes[index]][next(queues[classes[index]])] for index in indices]
        tensors[f"{part}_images"] = torch.stack(ordered).permute(0, 3, 1, 2).contiguous()
        tensors[f"{part}_labels"] = torch.tensor(indices, dtype=torch.uint8)
    _keep(save(tensors, metadata={"classes": json.dumps(classes)}), cache)
    return tensors, classes


def _cifar_file(name: str) -> bytes:
    for folder in _data_folders("cifar10-jpeg"):
        if (folder / name).is_file():
            return _checked((folder / name).read_bytes(), str(folder / name), CIFAR_FILES[name])
    raise DataError(
        f"CIFAR-10 (JPEG)'s {name} was not found: set DEADHEAD_DATA to a folder whose subfolder cifar10-jpeg holds "
        f"the files {', '.join(CIFAR_FILES)}."
    )


def _checked(content: bytes, where: str, expected: str) -> bytes:
    """`content`, if its SHA-256 is the expected one."""
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise DataError(f"{where} is damaged (SHA-256 {actual}, expected {expected}): delete it and fetch it again.")
    return content


def _data_folders(subfolder: str) -> list[Path]:
    root = os.environ.get("DEADHEAD_DATA")
    return [Path(root).expanduser(), Path(root).expanduser() / subfolder] if root else []


def _cache(subfolder: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "deadhead" / subfolder


def _keep(content: bytes, path: Path) -> None:
    """Write a file of the cache where that can be: a home that is read-only must not cost this run its data."""
    with contextlib.suppress(OSError):
        write_together({path: content})
