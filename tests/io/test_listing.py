"""Patterns over what a store holds, as glob has them over files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from pyimportance import ArgumentError, DataError
from pyimportance.io import remote
from pyimportance.io.listing import matches
from pyimportance.io.storage import read_whole
from pyimportance.shards.sources import expand

NAMES = (
    "a-0.tar", "a-1.tar", "a-10.tar", "b.tar", ".hidden.tar", "a.txt", "x^y]z.tar", "what?.tar",
    "deep/a-0.tar", "deep/b-0.tar", "deep/er/a-0.tar", "deep/.no/a-0.tar", "deeper/a-0.tar", "ä b%20/a-0.tar",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same names as files below a folder and as objects in a store."""
    store = obstore.store.MemoryStore()
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        obstore.put(store, name, name.encode())
    monkeypatch.setattr(remote, "_store", lambda *url: store)
    return tmp_path


@pytest.mark.parametrize(
    "pattern",
    [
        "*.tar", "a-?.tar", "a-[!0].tar", "a-[0-9]*.tar", "[ab]*.tar", ".*.tar", "*", "none*", "x[^]*.tar",
        "*[]]*.tar", "*/a-0.tar", "deep/*.tar", "d*/*-0.tar", "deep/**/*.tar", "**/a-0.tar", "**/er/*",
        "deep/.no/*", "ä b%20/*", "a-[.tar", "what[?].tar", "*/*/*.tar",
    ],
)  # fmt: skip
def test_the_same_as_glob(pattern: str, root: Path) -> None:
    files = [f for f in glob.glob(str(root / pattern), recursive=True) if os.path.isfile(f)]
    expected = sorted(os.path.relpath(f, root) for f in files)
    assert matches(f"s3://bucket/{pattern}") == [f"s3://bucket/{name}" for name in expected]


def test_folders_patterns_and_braces_as_a_source(root: Path) -> None:
    assert expand("gs://bucket/deep/") == ["gs://bucket/deep/a-0.tar", "gs://bucket/deep/b-0.tar"]
    assert expand("s3://bucket") == [
        f"s3://bucket/{n}" for n in sorted(NAMES[:8]) if n[0] != "." and n != "a.txt"
    ]
    assert expand("az://container/{deep,deeper}/a-?.tar") == [
        "az://container/deep/a-0.tar",
        "az://container/deeper/a-0.tar",
    ]
    assert expand("s3://bucket/plain.tar") == ["s3://bucket/plain.tar"]
    assert read_whole(expand("s3://bucket/ä b*/*")[0]) == "ä b%20/a-0.tar".encode()
    with pytest.raises(ArgumentError, match=r"'s3://bucket/none/' matches no object \*\.tar"):
        expand("s3://bucket/none/")
    with pytest.raises(ArgumentError, match=r"source names 's3://bucket/b.tar' twice"):
        expand(["s3://bucket/b.tar", "s3://bucket/b*"])


def test_what_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any) -> Callable[[], None]:
        raise obstore.exceptions.GenericError("Error performing GET http://h/?secret=1 - nothing there")

    monkeypatch.setattr(obstore, "list_with_delimiter", refused)
    monkeypatch.setattr(remote, "_store", lambda *url: obstore.store.MemoryStore())
    with pytest.raises(DataError) as caught:
        expand("s3://bucket/*.tar")
    assert str(caught.value) == "s3://bucket/*.tar: Error performing GET its URL - nothing there"
    with pytest.raises(DataError, match="s3:///\\*: names no bucket"):
        expand("s3:///*")
