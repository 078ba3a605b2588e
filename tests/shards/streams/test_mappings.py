"""Iterables of samples as dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, DataError, SampleIndex, index
from pyimportance.shards.spool import spool

Read = Callable[[SampleIndex], list[dict[str, Any]]]


def test_every_kind_of_value(tmp_path: Path, read: Read) -> None:
    sample = {
        "__key__": "dir.x/0",
        "__url__": "not a part",
        "JPG": bytearray(b"\xff\xd8"),
        "bin": memoryview(b"view"),
        "txt": "ä",
        "caption": "words",
        "cls": np.int64(-7),
        "label": 1 << 70,
        "tensor": torch.arange(3),
        "array": np.array([[0.5, float("nan")]]),
        "yes": True,
        "meta": {"b": [1, None], "a": {"c": np.float32(0.5)}},
        "json": [1],
        "image": {"bytes": b"png", "path": "somewhere/x.PNG"},
        "seg.png": b"seg",
        "none": None,
    }
    (got,) = read(index([sample], spool=tmp_path / "spool"))
    assert got == {
        "__key__": "dir.x/0",
        "jpg": b"\xff\xd8",
        "bin": b"view",
        "txt": "ä".encode(),
        "caption.txt": b"words",
        "cls": b"-7",
        "label.cls": b"1180591620717411303424",
        "tensor.json": b"[0,1,2]",
        "array.json": b"[[0.5,NaN]]",
        "yes.json": b"true",
        "meta.json": b'{"b":[1,null],"a":{"c":0.5}}',
        "json": b"[1]",
        "image.png": b"png",
        "seg.png": b"seg",
    }


def test_what_webdataset_reads(source: Path, tmp_path: Path, read: Read, read_wds: Any) -> None:
    tars = [str(source / f"data-{i:03d}.tar") for i in (0, 1, 3)]
    samples = [s for tar in tars for s in read_wds(tar)]
    loaded = ({"__url__": "x", "__local_path__": "y", **s} for s in samples)
    assert read(index(loaded, spool=tmp_path / "spool")) == samples


def test_tars_are_cut_and_canonical(tmp_path: Path, source: Path, read_wds: Any) -> None:
    samples = read_wds(source / "data-003.tar")
    cut = spool(iter(samples), tmp_path / "cut", shard_bytes=30_000)
    assert len(cut.files) > 5
    assert all(n <= 30_000 or (cut.file == f).sum() == 1 for f, n in enumerate(cut.file_bytes.tolist()))
    for f in range(len(cut.files) - 1):
        following = cut.nbytes[cut.file == f + 1][0]
        assert cut.file_bytes[f] + following > 30_000  # none is cut too early
    assert [s for file in cut.files for s in read_wds(file)] == samples
    whole = spool(iter(samples), tmp_path / "whole")
    assert len(whole.files) == 1


def raising(after: int, error: Exception) -> Iterator[dict[str, Any]]:
    for i in range(after):
        yield {"__key__": str(i), "bin": b"x"}
    raise error


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "raises at first": (
        lambda: raising(0, RuntimeError("gone")),
        "item 0: the source raised RuntimeError: gone",
    ),
    "raises half-way": (
        lambda: raising(2000, OSError(5, "Input/output error")),
        "item 2000: the source raised OSError: [Errno 5] Input/output error",
    ),
    "no key": (
        lambda: [{"__key__": "a", "b": b""}, {"b": b""}],
        "sample 1: has '__key__' None; a text that is not",
    ),
    "an empty key": (
        lambda: [{"__key__": "", "b": b""}],
        "sample 0: has '__key__' ''; a text that is not empty",
    ),
    "no parts": (lambda: [{"__key__": "a"}], "member 'a': sample 0: has no parts (fields are '__key__')"),
    "a key twice in a row": (
        lambda: [{"__key__": "a", "b": b""}, {"__key__": "a", "c": b""}],
        "an iterable of samples, member 'a': two samples have this key",
    ),
    "a key with a dot": (
        lambda: [{"__key__": "a.b", "c": b""}],
        "an iterable of samples: key 'a.b': a reader would not find it again in 'a.b.c'",
    ),
    "a key with a newline": (lambda: [{"__key__": "a\nb", "c": b""}], "holds a control character"),
    "half a character": (lambda: [{"__key__": "\ud800", "c": b""}], "surrogates not allowed"),
    "half a character of text": (
        lambda: [{"__key__": "a", "c": "\ud800"}],
        "sample 0: field 'c' is text that is no UTF-8",
    ),
    "an object": (
        lambda: [{"__key__": "a", "image": object()}],
        "member 'a': sample 0: field 'image' is a object that is no JSON (it holds a object); give its bytes",
    ),
    "a number for a name": (
        lambda: [{"__key__": "a", 1: b""}],
        "sample 0: a field is named 1; names are text",
    ),
    "no dict": (lambda: [{"__key__": "a", "b": b""}, b"bytes"], "sample 1: is a bytes; a dict is needed"),
    "a long extension": (
        lambda: [{"__key__": "a", "b" * 2000: b""}],
        "is 2000 characters long; at most 1024",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_refused(what: str, tmp_path: Path) -> None:
    make, problem = BAD[what]
    with pytest.raises(DataError) as caught:
        index(make(), spool=tmp_path / "spool")
    assert problem in str(caught.value)
    assert not list((tmp_path / "spool").glob("*.tar*"))
    assert len(index([{"__key__": "a", "b": b""}], spool=tmp_path / "spool")) == 1  # still free for another


def test_keys_that_repeat_in_another_tar(tmp_path: Path) -> None:
    samples = [{"__key__": str(i % 50), "bin": bytes(1000)} for i in range(51)]
    with pytest.raises(DataError, match="an iterable of samples, member '0': samples 0 and 50 have this key"):
        spool(samples, tmp_path / "spool", shard_bytes=10_000)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (5, "source is a int; it must be paths, or an iterable of samples as dicts"),
        ({"train": "x.tar"}, "source is a dict; it must be paths"),
        ([1, 2], "source holds a int; it must hold paths, or samples as dicts"),
        ([], "source is an empty list; name at least one tar"),
        (iter(()), "source is an empty list; name at least one tar"),
    ],
)
def test_no_sources(source: Any, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        index(source, spool=tmp_path / "spool")
    assert str(caught.value).startswith(problem)
    assert not (tmp_path / "spool").exists()


def test_a_generator_of_paths_is_one_of_tars(source: Path) -> None:
    assert len(index(path for path in sorted(source.iterdir()))) == 66


def test_without_a_spool_it_says_what_is_needed() -> None:
    with pytest.raises(ArgumentError, match="source is an iterable of samples, which is read from its start"):
        index([{"__key__": "a", "b": b""}])
