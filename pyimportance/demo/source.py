"""The training and test samples of a folder of WebDataset tars of images, with their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.demo.images import decode, image_extension, image_shape
from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.files import Files
from pyimportance.shards.index import index
from pyimportance.shards.sample_index import SampleIndex
from pyimportance.shards.sources import expand

HELD_OUT = 0.1
HELD_OUT_SEED = 0
MAX_CLASSES = 1 << 15
"""Room for ImageNet-21k. The network has an output per class, so a stray number would not fit in memory."""


@dataclass(frozen=True)
class Split:
    """Some samples of an index, with their labels: int64 [N] both, in the order of the ids."""

    index: SampleIndex
    ids: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class ImageSource:
    """What the runs train and test on: the two splits, the shape of the images, the number of classes."""

    train: Split
    test: Split
    shape: tuple[int, int, int]
    classes: int

    def save(self, folder: Path) -> None:
        """Hands the source to the rank processes: :meth:`load` gives it back."""
        arrays: dict[str, Any] = {"shape": np.array(self.shape), "classes": np.array(self.classes)}
        for name, split in (("train", self.train), ("test", self.test)):
            split.index.save(folder / f"{name}.arrow")
            arrays |= {f"{name}_ids": split.ids, f"{name}_labels": split.labels}
        np.savez(folder / "splits.npz", **arrays)

    @classmethod
    def load(cls, folder: Path) -> ImageSource:
        """What :meth:`save` wrote."""
        with np.load(folder / "splits.npz") as arrays:
            train, test = (
                Split(
                    SampleIndex.load(folder / f"{name}.arrow"),
                    arrays[f"{name}_ids"],
                    arrays[f"{name}_labels"],
                )
                for name in ("train", "test")
            )
            channels, height, width = arrays["shape"].tolist()
            return cls(train, test, (channels, height, width), int(arrays["classes"]))


def find_tars(data: Path, test: str | None) -> tuple[list[str], list[str]]:
    """The training and test tars of a folder: ``train-*`` and ``test-*``; without those, all and none.

    ``test`` (path, glob or brace spec) names the test tars instead; they are not trained on, however they
    are written. Raises DataError where there is nothing to train on, ArgumentError where ``test`` names a
    ``train-*``, or no file.
    """
    if not data.is_dir():
        raise DataError("is no folder of WebDataset tars", path=data)
    tars = sorted(str(path) for path in data.glob("*.tar"))
    if not tars:
        raise DataError("holds no *.tar", path=data)
    named = {kind: [t for t in tars if Path(t).name.startswith(f"{kind}-")] for kind in ("train", "test")}
    tests = named["test"] if test is None else expand(test)
    tested = {os.path.realpath(tar) for tar in tests}
    for tar in named["train"]:
        if os.path.realpath(tar) in tested:
            raise ArgumentError(f"test={test!r}: names {tar}, which is trained on")
    others = [tar for tar in tars if tar not in named["test"] and os.path.realpath(tar) not in tested]
    trains = named["train"] or others
    if not trains:
        raise DataError("holds tars to test on, but nothing to train on", path=data)
    return trains, tests


def open_source(data: Path, *, test: str | None = None, samples: int | None = None) -> ImageSource:
    """Indexes the tars of a folder and reads the labels.

    Args:
        test: other tars to test on (path, glob or brace spec); without, ``test-*``, without those a seeded
            10 % of the samples.
        samples: train on the first so many only.

    Raises:
        ArgumentError: fewer training samples than asked for.
        DataError: no tars, a broken one, a sample without an image or a ``.cls`` label.
    """
    trains, tests = find_tars(data, test)
    everything = index(trains)
    if tests:
        ids = np.arange(everything.num_samples)
        test_index = index(tests)
        test_ids = np.arange(test_index.num_samples)
    else:
        order = np.random.default_rng(HELD_OUT_SEED).permutation(everything.num_samples)
        held = max(1, round(HELD_OUT * len(order)))
        test_index, test_ids, ids = everything, np.sort(order[:held]), np.sort(order[held:])
    if samples is not None and not 1 <= samples <= len(ids):
        raise ArgumentError(f"samples={samples}: must be 1 to {len(ids)}, the training samples there are")
    ids = ids[:samples]
    if len(ids) == 0:
        raise DataError("holds a single sample: too few to train and to test on", path=data)
    train = Split(everything, ids, _labels(everything, ids))
    held_out = Split(test_index, test_ids, _labels(test_index, test_ids))
    classes = int(max(train.labels.max(), held_out.labels.max())) + 1
    where, member, first = next(_parts(train, "image"))
    return ImageSource(train, held_out, image_shape(first, where, member), max(2, classes))


def read_images(split: Split, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The decoded images of a split: uint8 [N, *shape]. Not part of any run's accounting."""
    images = [decode(data, shape, where, member) for where, member, data in _parts(split, "image")]
    return np.stack(images) if images else np.empty((0, *shape), np.uint8)


def _labels(source: SampleIndex, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    labels = np.empty(len(ids), np.int64)
    for i, (where, member, data) in enumerate(_parts(Split(source, ids, labels), "cls")):
        labels[i] = parse_label(data, where, member)
    return labels


def parse_label(data: bytes, where: str, member: str) -> int:
    """The class number in a ``.cls`` part; DataError where it is none."""
    text = data.strip()
    if not (text.isdigit() and len(text) <= 6):
        raise DataError(f"a label must be a class number, got {data[:20]!r}", path=where, member=member)
    if int(text) >= MAX_CLASSES:
        raise DataError(f"label {int(text)}: must be below {MAX_CLASSES}", path=where, member=member)
    return int(text)


def _parts(split: Split, wanted: str) -> Iterator[tuple[str, str, bytes]]:
    """(file, member, bytes) of the ``cls`` or the image of each sample."""
    source = split.index
    with Files() as files:
        for row in source.rows_of(split.ids).tolist():
            parts = range(int(source.part_start[row]), int(source.part_start[row + 1]))
            by_name = {source.extensions[source.part_ext[part]]: part for part in parts}
            extension = wanted if wanted == "cls" else image_extension(list(by_name))
            file, key = int(source.file[row]), source.key(row)
            if extension not in by_name or extension is None:
                problem = (
                    f"has no {'.cls label' if wanted == 'cls' else 'image'} among its parts {sorted(by_name)}"
                )
                raise DataError(problem, path=source.files[file], member=key)
            part = by_name[extension]
            data = files.get(source.files[file]).pread(
                int(source.part_offset[part]), int(source.part_size[part])
            )
            yield source.files[file], f"{key}.{extension}", data
