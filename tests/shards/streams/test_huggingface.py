"""Datasets of Hugging Face's `datasets`, where it is installed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, DataError, SampleIndex, index
from pyimportance.io.meter import Meter
from pyimportance.shards.streams import huggingface

datasets = pytest.importorskip("datasets", reason="the package `datasets` is not installed")
Read = Callable[[SampleIndex], list[dict[str, Any]]]


def png(number: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(out, "png")
    return out.getvalue()


@pytest.fixture
def dataset(tmp_path: Path) -> Any:
    """Images as stored bytes, and by the paths of files; the class, and text."""
    (tmp_path / "on-disk.PNG").write_bytes(png(99))
    images = [{"bytes": png(i), "path": f"{i}.png" if i % 2 else None} for i in range(99)]
    images.append({"bytes": None, "path": str(tmp_path / "on-disk.PNG")})
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["a", "b", "c"]),
            "text": datasets.Value("string"),
            "vector": datasets.Sequence(datasets.Value("float32")),
        }
    )
    columns = {
        "image": images,
        "label": [i % 3 for i in range(100)],
        "text": [f"text {i}" for i in range(100)],
        "vector": [[0.5, i] for i in range(100)],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def expected(number: int) -> dict[str, Any]:
    extension = "image.png" if number % 2 or number == 99 else "image"
    return {
        "__key__": f"{number:09d}",
        extension: png(number),
        "label.cls": b"%d" % (number % 3),
        "text.txt": b"text %d" % number,
        "vector.json": b"[0.5,%d.0]" % number,
    }


def test_stored_bytes_come_out(dataset: Any, tmp_path: Path, read: Read) -> None:
    meter = Meter()
    got = read(index(dataset, spool=tmp_path / "spool", meter=meter))
    assert got == [expected(i) for i in range(100)]
    assert meter.bytes("origin") == len(png(99))


def test_chosen_rows_and_other_formats(dataset: Any, tmp_path: Path, read: Read) -> None:
    chosen = dataset.select([7, 3]).with_format("torch")
    got = read(index(chosen, spool=tmp_path / "spool"))
    assert [s["image.png"] for s in got] == [png(7), png(3)]
    assert [s["__key__"] for s in got] == ["000000000", "000000001"]


def test_what_streams(dataset: Any, tmp_path: Path, read: Read) -> None:
    streamed = dataset.to_iterable_dataset()
    assert read(index(streamed, spool=tmp_path / "spool")) == [expected(i) for i in range(100)]


def test_a_fingerprint_tells_data_apart(dataset: Any, tmp_path: Path) -> None:
    first = index(dataset, spool=tmp_path / "spool")
    assert index(dataset, spool=tmp_path / "spool").digest == first.digest
    with pytest.raises(OSError, match="holds a spool of a Dataset of Hugging Face in another state"):
        index(dataset.shuffle(seed=1), spool=tmp_path / "spool")


def test_refused(dataset: Any, tmp_path: Path) -> None:
    splits = datasets.DatasetDict({"train": dataset, "test": dataset})
    with pytest.raises(ArgumentError, match="with the splits 'train', 'test'; give one of them"):
        index(splits, spool=tmp_path / "spool")

    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise RuntimeError("the line is dead")

    broken = datasets.IterableDataset.from_generator(rows)
    with pytest.raises(DataError, match="the source raised RuntimeError: the line is dead"):
        index(broken, spool=tmp_path / "spool")
    gone = datasets.Dataset.from_dict({"image": [str(tmp_path / "none.png")]}).cast_column(
        "image", datasets.Image()
    )
    with pytest.raises(DataError, match=r"none\.png: row 0: does not exist"):
        index(gone, spool=tmp_path / "spool")


def test_it_is_recognised_by_its_class_alone(dataset: Any) -> None:
    assert huggingface.is_one(dataset)
    assert not huggingface.is_one([])
