"""When a rank fails, its message is the demo's, and no process stays behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimportance import ArgumentError, DataError, PyimportanceError
from pyimportance.demo import launch
from pyimportance.demo.config import DemoConfig
from pyimportance.demo.launch import check_memory, run_ranks
from pyimportance.demo.source import find_tars, open_source


def write_images(path: Path, samples: int, broken: int | None = None) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(samples):
            picture = io.BytesIO()
            Image.fromarray(np.full((8, 8), i, np.uint8)).save(picture, "PNG")
            png = picture.getvalue()[: 40 if i == broken else None]
            for extension, data in (("cls", str(i % 2).encode()), ("png", png)):
                member = tarfile.TarInfo(f"{i:03d}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def children() -> set[int]:
    return {int(p) for p in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}


def prepared(folder: Path, epochs: int, broken: int | None = None) -> Path:
    """A working folder for two ranks that train on 24 images."""
    data, work = folder / "data", folder / "work"
    data.mkdir()
    work.mkdir()
    write_images(data / "train-0.tar", 24, broken)
    write_images(data / "test-0.tar", 4)
    config = DemoConfig(workers=2, epochs=epochs, policies=("vanilla",), batch_size=4)
    (work / "config.json").write_text(json.dumps(config.to_dict()))
    open_source(data).save(work)
    return work


def test_ranks_import_what_their_parent_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what lies in the current folder, which may be a checkout of something older, or not built."""
    work = prepared(tmp_path, epochs=2)
    (tmp_path / "pyimportance").mkdir()
    (tmp_path / "pyimportance" / "__init__.py").write_text("raise ImportError('the wrong package')")
    monkeypatch.chdir(tmp_path)
    assert [said["event"] for said in run_ranks(work, 2)] == ["epoch", "epoch", "run"]


def test_a_broken_image_stops_every_rank(tmp_path: Path) -> None:
    work = prepared(tmp_path, epochs=2, broken=17)
    before = children()
    with pytest.raises(PyimportanceError, match=r"rank \d of the demo failed: .*train-0.*'017\.png'"):
        list(run_ranks(work, 2))
    assert children() <= before


def test_what_was_said_before_a_failure_is_heard_after_it(tmp_path: Path) -> None:
    work = prepared(tmp_path, epochs=3)
    diverging = DemoConfig(workers=2, epochs=3, policies=("vanilla", "stripes"), batch_size=4, lr=1e8)
    (work / "config.json").write_text(json.dumps(diverging.to_dict()))
    ranks = run_ranks(work, 2)
    events = [next(ranks)["event"]]
    deadline = time.monotonic() + 200
    while ranks_of(work) and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(PyimportanceError, match=r"rank \d of the demo failed: "):
        events.extend(said["event"] for said in ranks)
    assert events == ["epoch", "epoch", "epoch", "run", "epoch"]


def test_ranks_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    work = prepared(tmp_path, epochs=10_000)
    code = (
        "import pathlib, sys; from pyimportance.demo.launch import run_ranks\n"
        "for _ in run_ranks(pathlib.Path(sys.argv[1]), 2): print(flush=True)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(work)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()  # they train
    ranks = ranks_of(work)
    assert len(ranks) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 200
    while ranks_of(work) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ranks_of(work) == []


def test_ranks_that_memory_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(launch, "MEMINFO", str(meminfo))
    check_memory(10**9)  # where nothing tells how much there is
    meminfo.write_text("MemTotal:        9000000 kB\nMemFree:          1 kB\nMemAvailable:    1000000 kB\n")
    check_memory(3)
    message = r"workers=4: each takes 300 MB of memory, and 1\.0 GB are available, enough for 3$"
    with pytest.raises(ArgumentError, match=message):
        check_memory(4)


def ranks_of(folder: Path) -> list[int]:
    """The processes that run a rank of this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if b"pyimportance.demo.rank" in words and str(folder).encode() in words:
                found.append(int(process.name))
    return found


def test_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "a.tar", 15)
    write_images(tmp_path / "b.tar", 5)
    held_out = open_source(tmp_path)
    assert (len(held_out.train.ids), len(held_out.test.ids)) == (18, 2)
    assert sorted([*held_out.train.ids, *held_out.test.ids]) == list(range(20))
    labels = np.concatenate([np.arange(15) % 2, np.arange(5) % 2])
    np.testing.assert_array_equal(held_out.train.labels, labels[held_out.train.ids])
    assert (held_out.shape, held_out.classes) == ((1, 8, 8), 2)

    given = open_source(tmp_path, test=str(tmp_path / "b.tar"), samples=10)
    assert (given.train.ids.tolist(), len(given.test.ids)) == (list(range(10)), 5)
    given.save(tmp_path)
    again = type(given).load(tmp_path)
    assert again.train.index.digest == given.train.index.digest
    np.testing.assert_array_equal(again.test.labels, given.test.labels)

    for name in ("train-0.tar", "test-0.tar"):
        write_images(tmp_path / name, 3)
    trains, tests = find_tars(tmp_path, None)
    assert [Path(t).name for t in trains + tests] == ["train-0.tar", "test-0.tar"]
    (tmp_path / "train-0.tar").unlink()
    (tmp_path / "a.tar").unlink()
    (tmp_path / "b.tar").unlink()
    with pytest.raises(DataError, match="nothing to train on"):
        find_tars(tmp_path, None)
