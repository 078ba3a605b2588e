"""write_shards from whatever can be indexed: the same shards, directly or through a spool."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pyimportance import ArgumentError, DataError, OutputError, Partition, index, write_shards
from pyimportance.io.meter import Meter
from pyimportance.shards import exchange
from pyimportance.shards.estimate import estimate
from tests.server import Server

Divide = Callable[..., Partition]
ROOT = Path(__file__).parents[2]


def without_notes(tree: dict[str, str]) -> dict[str, str]:
    """All but job.json, in which the times of the source's files are."""
    return {name: digest for name, digest in tree.items() if name != "job.json"}


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "packed"
    folder.mkdir()
    for tar in source.iterdir():
        (folder / f"{tar.name}.gz").write_bytes(gzip.compress(tar.read_bytes()))
    return folder


def test_a_spool_is_a_way_and_changes_no_byte(
    source: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    parts = divide(66, 3, 2)
    direct = [Meter() for _ in range(3)]
    write_shards(source, parts, tmp_path / "direct", keys="prefix", meters=direct)
    meters = [Meter() for _ in range(3)]
    write_shards(source, parts, tmp_path / "out", keys="prefix", meters=meters, exchange="spool")
    assert tree(tmp_path / "out") == tree(tmp_path / "direct")
    assert not (tmp_path / "out.spool").exists()
    total = sum(p.stat().st_size for p in source.iterdir())
    assert [m.bytes("origin") for m in meters] == [total, 0, 0]
    assert [m.bytes("disk") for m in meters] == [m.bytes("origin") for m in direct]
    again = write_shards(source, parts, tmp_path / "out", keys="prefix", exchange="spool")
    assert again.verify().ok
    assert not (tmp_path / "out.spool").exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_progress_is_told_from_the_first_byte_on(
    compressed: bool, packed: Path, source: Path, tmp_path: Path, divide: Divide
) -> None:
    """Of the source that is spooled, then of what is written."""
    found, tars = index(source), packed if compressed else source
    seen: list[tuple[int, int]] = []
    write_shards(
        f"{tars}/*", divide(66, 2), tmp_path / "out", exchange="spool", progress=lambda *d: seen.append(d)
    )
    size, payload = sum(p.stat().st_size for p in tars.iterdir()), int(found.part_size.sum())
    totals = list(dict.fromkeys(total for _, total in seen))
    assert totals == [size, payload]
    assert seen[0][0] < size
    for total in totals:
        done = [d for d, of in seen if of == total]
        ends = [0, *(i + 1 for i, d in enumerate(done) if d == total)]
        assert ends[-1] == len(done)
        assert all(done[a:b] == sorted(done[a:b]) for a, b in itertools.pairwise(ends))


def test_an_index_of_some_of_the_tars(source: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    some = index([source / "data-003.tar", source / "data-000.tar"])
    parts = divide(some, 2)
    write_shards(some, parts, tmp_path / "direct")
    write_shards(some, parts, tmp_path / "out", exchange="spool", spool=tmp_path / "spool")
    assert tree(tmp_path / "out") == tree(tmp_path / "direct")
    assert len(list((tmp_path / "spool").glob("*.tar"))) == 2  # one that was asked for stays


def test_what_is_read_in_order(packed: Path, source: Path, tmp_path: Path, divide: Divide, tree: Any) -> None:
    parts = divide(66, 2, 2)
    plain = write_shards(source, parts, tmp_path / "plain")
    meters = [Meter(), Meter()]
    shards = write_shards(packed, parts, tmp_path / "out", meters=meters)
    assert [(s.path, s.crc32c) for s in shards.shards] == [(s.path, s.crc32c) for s in plain.shards]
    assert shards.verify().ok
    assert not (tmp_path / "out.spool").exists()
    assert [m.bytes("origin") for m in meters] == [sum(p.stat().st_size for p in packed.iterdir()), 0]
    assert all(m.bytes("disk") > 0 for m in meters)
    before = tree(tmp_path / "out")
    write_shards(packed, parts, tmp_path / "out")  # finished: what is there is found to be it
    assert tree(tmp_path / "out") == before
    assert not (tmp_path / "out.spool").exists()
    write_shards(packed, parts, tmp_path / "kept", spool=tmp_path / "spool")
    assert without_notes(tree(tmp_path / "kept")) == without_notes(before)
    assert index(packed, spool=tmp_path / "spool", meter=meters[0]).num_samples == 66


def test_samples_of_an_iterable(tmp_path: Path, divide: Divide) -> None:
    samples = [{"__key__": f"{i:03d}", "cls": i, "bin": bytes(i)} for i in range(100)]
    shards = write_shards(iter(samples), divide(100, 4), tmp_path / "out")
    assert shards.num_samples == 100
    assert shards.verify().ok
    again = write_shards(iter(samples), divide(100, 4), tmp_path / "out")
    assert again.digest == shards.digest


def test_interrupted_it_goes_on_with_its_spool(
    packed: Path, tmp_path: Path, divide: Divide, tree: Any
) -> None:
    parts = divide(66, 2, 2)
    write_shards(packed, parts, tmp_path / "whole", shard_bytes=30_000)

    size = sum(p.stat().st_size for p in packed.iterdir())

    def stop(done: int, total: int) -> None:
        if total != size:  # no longer of the source
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(packed, parts, tmp_path / "out", shard_bytes=30_000, progress=stop)
    assert (tmp_path / "out.spool/index.arrow").exists()
    meters = [Meter(), Meter()]
    write_shards(packed, parts, tmp_path / "out", shard_bytes=30_000, meters=meters)
    assert meters[0].bytes("origin") == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert not (tmp_path / "out.spool").exists()


KILLER = """
import os, sys
import pyarrow.parquet
from pyimportance import Partition, write_shards
from tests.shards.kills import kill_at_random

source, parts, folder, kills = sys.argv[1:]
parts = Partition.load(parts)

def make(out):
    write_shards(source, parts, out, shard_bytes=40_000)

def found(out):
    return "shards" if os.path.exists(out) else "spool"

def check(out):
    assert not os.path.exists(out + ".spool"), out

kill_at_random(make, found, check, folder, int(kills))
"""


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_killed_at_random(kills: int, tmp_path: Path, divide: Divide) -> None:
    for i in range(66):
        path = tmp_path / f"images/{i % 6}/{i:02d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(1000 * (i % 7)))
    divide(66, 2, 2).save(tmp_path / "parts")
    command = [
        sys.executable,
        "-c",
        KILLER,
        *(str(tmp_path / n) for n in ("images", "parts", "")),
        str(kills),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    found = ended.stdout.split()
    assert len(found) == kills
    if kills == 60:  # in both of the jobs
        assert set(found) == {"spool", "shards"}


def test_a_source_that_changed_since(packed: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(66, 2)
    write_shards(packed, parts, tmp_path / "out")
    tar = packed / "data-000.tar.gz"
    tar.write_bytes(gzip.compress(gzip.decompress(tar.read_bytes()), 1))
    with pytest.raises(
        OutputError, match=r"holds shards made from an earlier state of '.*data-000\.tar\.gz' and 3 more"
    ):
        write_shards(packed, parts, tmp_path / "out")


@pytest.mark.parametrize("way", ["direct", "spool"])
def test_auto_follows_the_estimate_for_urls(
    way: Literal["direct", "spool"],
    source: Path,
    tmp_path: Path,
    tree: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = np.random.default_rng(0).permutation(66)[: 6 if way == "direct" else 66]
    parts = Partition(3, 1, order, np.arange(4) * len(order) // 3)
    work_out, asked = exchange.estimate_work, []

    def dear(work: Any, costs: Any) -> Any:
        # Nothing but requests, or nothing but bytes.
        known = {"latency": 1.0, "bandwidth": 1e15} if way == "spool" else {"latency": 0.0, "bandwidth": 1e3}
        asked.append(work_out(work, type(costs)(**known)))
        return asked[-1]

    monkeypatch.setattr(exchange, "estimate_work", dear)
    meters = [Meter() for _ in range(3)]
    with Server(source) as server:
        url = f"{server.url}/data-{{000..003}}.tar"
        write_shards(url, parts, tmp_path / "out", meters=meters, shard_samples=2)
    assert [e.cheaper for e in asked] == [way]
    assert sum(m.requests("origin") for m in meters) == getattr(asked[0], way).requests
    assert sum(m.bytes("origin") for m in meters) == getattr(asked[0], way).bytes
    assert (sum(m.bytes("disk") for m in meters) > 0) == (way == "spool")
    write_shards(source, parts, tmp_path / "local", shard_samples=2)
    assert without_notes(tree(tmp_path / "out")) == without_notes(tree(tmp_path / "local"))


def test_auto_needs_the_space(
    source: Path, tmp_path: Path, divide: Divide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_free", lambda directory: 1 << 19)
    meters = [Meter(), Meter()]
    with Server(source) as server:
        url = f"{server.url}/data-{{000..003}}.tar"
        assert estimate(index(url), divide(66, 2)).cheaper == "spool"
        write_shards(url, divide(66, 2), tmp_path / "out", meters=meters)
    assert sum(m.bytes("disk") for m in meters) == 0


def test_refused(packed: Path, tmp_path: Path, divide: Divide) -> None:
    parts = divide(66, 2)
    with pytest.raises(ArgumentError, match="exchange='fast': allowed are 'auto', 'direct', 'spool'"):
        write_shards(packed, parts, tmp_path / "out", exchange="fast")  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentError, match=r"exchange='direct': source is '.*' and 3 more tars, which can only"
    ):
        write_shards(packed, parts, tmp_path / "out", exchange="direct")
    (tmp_path / "out.spool").mkdir()
    (tmp_path / "out.spool/mine").touch()
    with pytest.raises(OutputError, match=r"out\.spool: holds something else \('mine'\)"):
        write_shards(packed, parts, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (packed / "data-000.tar.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"data-000\.tar\.gz: cannot be decompressed"):
        write_shards(packed, parts, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_notes_hold_no_times_of_the_spool(packed: Path, tmp_path: Path, divide: Divide) -> None:
    write_shards(packed, divide(66, 2), tmp_path / "out")
    notes = json.loads((tmp_path / "out/job.json").read_bytes().splitlines()[0])
    assert [*notes["changed"]] == [f"{str(packed / 'data-000.tar.gz')!r} and 3 more tars"]
