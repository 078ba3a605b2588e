"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pyimportance import DataError, OutputError
from pyimportance.io import atomic


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic.write_bytes(path, b"one")
    atomic.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_check_leaves_everything_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic.check_writable(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    atomic.check_writable(path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"old")]


def write_half(path: Path, error: BaseException) -> None:
    with atomic.writing(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [DataError("bad", path="x"), KeyboardInterrupt(), ValueError("no")])
def test_a_failing_block_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)):
        write_half(path, error)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("missing")
    for name in ("pipe", "folder", "nowhere"):
        with pytest.raises(OutputError, match=rf"{name}: exists and is no regular file"):
            atomic.write_bytes(tmp_path / name, b"x")
        with pytest.raises(OutputError, match=rf"{name}: exists and is no regular file"):
            atomic.check_writable(tmp_path / name)
    assert (tmp_path / "pipe").is_fifo()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_missing_directory_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.bin"
    with pytest.raises(OutputError, match=r"a\.bin: cannot be written \(No such file or directory\)"):
        atomic.write_bytes(path, b"x")
    with pytest.raises(OutputError, match=r"a\.bin: cannot be written \(No such file or directory\)"):
        atomic.check_writable(path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        atomic.make_directory(tmp_path / "file" / "below")
    with pytest.raises(OutputError, match=r"below: cannot be made \(.*file is no directory\)"):
        atomic.check_makable(tmp_path / "file" / "below")
    atomic.check_makable(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from pyimportance.io import atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"atomic.write_bytes({str(tmp_path / 'big')!r}, bytes(2000))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "OutputError" in result.stderr
    assert "big: cannot be written (File too large)" in result.stderr
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_temporary_names_are_recognised() -> None:
    assert atomic.temporary_of("a.tar.0123abcd.tmp") == "a.tar"
    assert atomic.temporary_of("a.tar") is None
    assert atomic.temporary_of("a.tar.0123abcx.tmp") is None


def test_the_order_of_syncs_and_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Callable[[int], None]
) -> None:
    """A name must not reach the disk before the contents, nor be left in memory alone."""
    steps: list[str] = []
    replace = os.replace

    def note_fsync(fd: int) -> None:
        path = os.readlink(f"/proc/self/fd/{fd}")
        steps.append(
            f"sync {'directory' if os.path.isdir(path) else 'file'} {os.path.relpath(path, tmp_path)}"
        )
        fsync(fd)

    def note_replace(source: str, target: str) -> None:
        steps.append(f"rename to {os.path.relpath(target, tmp_path)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    atomic.write_bytes(tmp_path / "a", b"x")
    assert [s.partition(".")[0] for s in steps] == ["sync file a", "rename to a", "sync directory "]
    steps.clear()
    atomic.make_directory(tmp_path / "b" / "c" / "d")
    assert steps == ["sync directory .", "sync directory b", "sync directory b/c"]
