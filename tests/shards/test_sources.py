"""What a source may be called."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyimportance import ArgumentError
from pyimportance.shards.sources import expand, expand_braces


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a-0.tar", "a-1.tar", "a-10.tar", "b.tar", "[x].tar", "{y}.tar", "note.txt"):
        (tmp_path / name).touch()
    return tmp_path


def names(source: object) -> list[str]:
    return [Path(p).name for p in expand(source)]  # type: ignore[arg-type]


def test_paths_directories_patterns_and_lists(folder: Path) -> None:
    assert names(folder / "b.tar") == ["b.tar"]
    assert names(folder) == ["[x].tar", "a-0.tar", "a-1.tar", "a-10.tar", "b.tar", "{y}.tar"]
    assert names(f"{folder}/a-?.tar") == ["a-0.tar", "a-1.tar"]
    assert names(f"{folder}/a-{{1,0}}.tar") == ["a-1.tar", "a-0.tar"]
    assert names(f"{folder}/b.tar::{folder}/a-{{0..1}}.tar") == ["b.tar", "a-0.tar", "a-1.tar"]
    assert names([folder / "b.tar", f"{folder}/a-*"]) == ["b.tar", "a-0.tar", "a-1.tar", "a-10.tar"]
    assert names(f"{folder}/[x].tar") == ["[x].tar"]
    assert names(f"{folder}/{{y}}.tar") == ["{y}.tar"]


def test_braces() -> None:
    assert list(expand_braces("s-{008..011}.tar")) == [f"s-{n}.tar" for n in ("008", "009", "010", "011")]
    assert list(expand_braces("{a,b}{0..1}")) == ["a0", "a1", "b0", "b1"]
    assert list(expand_braces("plain")) == ["plain"]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("{0..1", "braces do not pair"),
        ("{a{0..1}}", "braces do not pair, or are nested"),
        ("{5..1}", "must rise"),
        ("{0..99999999999}", "must rise, over at most"),
        ("ftp://host/a.tar", "read are local files, and URLs of http, https, s3, gs, az"),
        ("pipe:cat a.tar", "read are local files"),
        ("none-*.tar", "matches no file"),
        ("", "names no file"),
    ],
)
def test_refuses(spec: str, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        expand(spec)


def test_refuses_nothing_and_twice(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ArgumentError, match="source is an empty list"):
        expand([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match=r"is a directory without \*\.tar files"):
        expand(tmp_path / "empty")
    (folder / "link.tar").symlink_to(folder / "b.tar")
    with pytest.raises(ArgumentError, match=r"names '.*link\.tar' twice \(also as '.*b\.tar'\)"):
        expand([folder / "b.tar", folder / "link.tar"])
