"""Folders of files, with and without classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyimportance import DataError, SampleIndex, index
from pyimportance.io.meter import Meter

Read = Callable[[SampleIndex], list[dict[str, Any]]]


def make(root: Path, *names: str) -> Path:
    """Files that hold their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_a_class_to_a_folder(tmp_path: Path, read: Read) -> None:
    root = make(
        tmp_path / "f",
        "cat/b.jpg", "cat/a.JPEG", "cat/a.json", "cat/deep/er/a.jpg", "dog/a.jpg", "Zebra/a.b.png",
        "emu/note", "readme.txt", ".hidden/a.jpg", "cat/.DS_Store", "cat/.cache/a.jpg",
    )  # fmt: skip
    (root / "ant").mkdir()  # empty, and a class all the same
    meter = Meter()
    samples = read(index(root, spool=tmp_path / "spool", meter=meter))
    assert samples == [
        {"__key__": "Zebra/a", "cls": b"0", "b.png": b"Zebra/a.b.png"},
        {"__key__": "cat/a", "cls": b"2", "jpeg": b"cat/a.JPEG", "json": b"cat/a.json"},
        {"__key__": "cat/b", "cls": b"2", "jpg": b"cat/b.jpg"},
        {"__key__": "cat/deep/er/a", "cls": b"2", "jpg": b"cat/deep/er/a.jpg"},
        {"__key__": "dog/a", "cls": b"3", "jpg": b"dog/a.jpg"},
    ]
    assert meter.bytes("origin") == sum(
        len(v) for s in samples for k, v in s.items() if k not in ("__key__", "cls")
    )


def test_without_folders_there_are_no_classes(tmp_path: Path, read: Read) -> None:
    root = make(tmp_path / "f", "b.txt", "a.jpg", "a.txt", "ä ö.jpg", "nothing")
    assert read(index(str(root), spool=tmp_path / "spool")) == [
        {"__key__": "a", "jpg": b"a.jpg", "txt": b"a.txt"},
        {"__key__": "b", "txt": b"b.txt"},
        {"__key__": "ä ö", "jpg": "ä ö.jpg".encode()},
    ]


def test_links_are_followed_and_not_in_circles(tmp_path: Path, read: Read) -> None:
    root = make(tmp_path / "f", "cat/a.jpg")
    make(tmp_path / "elsewhere", "b.jpg")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat/c.jpg").symlink_to(root / "cat/a.jpg")
    keys = [s["__key__"] for s in read(index(root, spool=tmp_path / "spool"))]
    assert keys == ["cat/a", "cat/c", "dog/b"]
    (root / "cat/round").symlink_to(root / "cat")
    with pytest.raises(DataError, match="cat/round: is a link to a folder that it lies in"):
        index(root, spool=tmp_path / "other")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["cat/a.jpg", "cat/a.JPG"], "the extension 'jpg' of sample 'cat/a' repeats: two files have it"),
        (["cat/a.cls"], "the extension 'cls' of sample 'cat/a' repeats: the class of its folder is one"),
        (["note", ".x.jpg"], "f: is a directory without *.tar files, and without others named KEY.EXTENSION"),
        (["cat/note"], "f: is a directory without *.tar files, and without others named KEY.EXTENSION"),
        (["train/index.json", "train/shard.00000.mds"], "holds directories with an index.json ('train')"),
        (["a\nb.jpg"], "holds a control character"),
        (["a.__jpg"], "extension '__jpg' begins with '__'"),
    ],
)
def test_refused(names: list[str], problem: str, tmp_path: Path) -> None:
    make(tmp_path / "f", *names)
    with pytest.raises(DataError) as caught:
        index(tmp_path / "f", spool=tmp_path / "spool")
    assert problem in str(caught.value)
    assert str(tmp_path / "f") in str(caught.value)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / b"\xff.jpg".decode(errors="surrogateescape")).touch()
    with pytest.raises(DataError, match=r"f/\W\.jpg: its name is not UTF-8"):
        index(tmp_path / "f", spool=tmp_path / "spool")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a directory without \*\.tar files, and without others"):
        index(tmp_path)
