"""Folders.realpath is os.path.realpath."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyimportance.io.paths import Folders


def test_where_files_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "x.tar").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "a" / "b")
    (tmp_path / "a" / "y.tar").symlink_to("../link/z.tar")
    (tmp_path / "a" / "again").symlink_to("again")
    monkeypatch.chdir(tmp_path)
    names = ["a/x.tar", "a/y.tar", "a/none.tar", "link/q.tar", "link", "link/..", "link/../x.tar", "a/", "."]
    names += ["a/again", "x", "", "a//x.tar", "none/none/x"]
    folders = Folders()
    for name in [*names, *(str(tmp_path / name) for name in names)]:
        assert folders.realpath(name) == os.path.realpath(name), name


def test_a_folder_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, asked = Folders(), []
    realpath = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: asked.append(path) or realpath(path))  # type: ignore[func-returns-value]
    assert [folders.realpath(f"{tmp_path}/{i}") for i in range(9)] == [f"{tmp_path}/{i}" for i in range(9)]
    assert len(asked) == 1
