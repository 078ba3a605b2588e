"""Sources that are read in order, and plans, on the command line."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyimportance import Partition, Scores, ShardSet, index
from pyimportance.shards.estimate import estimate
from pyimportance.shards.layout import Zstd


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "packed"
    folder.mkdir()
    for tar in source.iterdir():
        (folder / f"{tar.name}.gz").write_bytes(gzip.compress(tar.read_bytes()))
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    path = tmp_path / "partition.parquet"
    Partition(2, 1, np.arange(24), np.array([0, 12, 24])).save(path)
    return path


def test_index_and_shard_by_way_of_a_spool(cli: Callable, packed: Path, parts: Path, tmp_path: Path) -> None:
    told = cli("index", packed, "-o", tmp_path / "index.arrow", "--spool", tmp_path / "spool", "--json").json
    assert (told["samples"], told["files"]) == (24, 2)
    again = cli("index", tmp_path / "spool", "-o", tmp_path / "again.arrow", "--checksums", "--json").json
    assert told["digest"] == again["digest"] == index(tmp_path / "spool", checksums=True).digest
    cli("index", tmp_path / "again.arrow", "-o", tmp_path / "x.arrow", "--checksums").refused("is an index")
    arguments = ("--partition", parts, "--order", "shuffled", "--shard-samples", 5)
    outs = [tmp_path / name for name in ("a", "b", "c")]
    assert cli("shard", tmp_path / "index.arrow", outs[0], *arguments).status == 0
    assert cli("shard", packed, outs[1], *arguments, "--spool", tmp_path / "spool").status == 0
    assert cli("shard", tmp_path / "spool", outs[2], *arguments, "--exchange", "spool").status == 0
    sets = [ShardSet.open(out) for out in outs]
    assert sets[0].shards == sets[1].shards == sets[2].shards
    assert sets[0].digest == sets[1].digest
    assert [shards.index(0).part_crc32c is not None for shards in sets] == [True, True, False]
    assert ShardSet.open(outs[0]).manifest.layout.shard_samples == 5
    assert not (tmp_path / "c.spool").exists()


def test_compressed_shards(cli: Callable, source: Path, parts: Path, tmp_path: Path) -> None:
    options = ("--compression", "zstd", "--level", 5, "--frame-bytes", 4096, "--json")
    told = cli("shard", source, tmp_path / "out", "--partition", parts, *options).json
    shards = ShardSet.open(tmp_path / "out")
    assert shards.manifest.layout.compression == Zstd(5, 4096)
    assert told["bytes"] == sum((tmp_path / "out" / s.path).stat().st_size for s in shards.shards)
    plain = cli("shard", source, tmp_path / "plain", "--partition", parts, "--json").json
    assert (told["compression"], told["tar_bytes"]) == ("zstd", plain["bytes"])
    assert cli("inspect", tmp_path / "out", "--json").json.items() >= told.items()
    assert cli("verify", tmp_path / "out").status == 0
    assert "compression" not in plain
    refused = cli("shard", source, tmp_path / "x", "--partition", parts, "--level", 5)
    refused.refused("--level 5: goes with --compression 'zstd'")


def test_without_a_spool(cli: Callable, packed: Path, parts: Path, tmp_path: Path) -> None:
    words = ("train-0.tar.gz' and 1 more tars", "read from its start to its end; give --spool DIR")
    cli("index", packed, "-o", tmp_path / "index.arrow").refused(*words)
    cli("shard", packed, "s3://bucket/out", "--partition", parts).refused(*words)
    direct = ("shard", packed, tmp_path / "out", "--partition", parts, "--exchange", "direct")
    cli(*direct).refused("--exchange 'direct': the source can only be read in order")


def test_shard_makes_a_spool_of_its_own(cli: Callable, packed: Path, parts: Path, tmp_path: Path) -> None:
    """What can only be read in order is copied beside the shards; the copy goes when they are complete."""
    assert (
        cli("shard", packed, tmp_path / "a", "--partition", parts, "--spool", tmp_path / "spool").status == 0
    )
    scores = tmp_path / "scores.parquet"
    Scores(np.arange(24, dtype=np.float32)).save(scores)
    for out, how in (("b", ["--partition", parts]), ("c", ["--scores", scores, "--workers", 2])):
        assert cli("shard", packed, tmp_path / out, *how).status == 0
        assert not (tmp_path / f"{out}.spool").exists()
        assert ShardSet.open(tmp_path / out).verify().ok
        assert cli("shard", packed, tmp_path / out, *how).status == 0  # is finished
        assert not (tmp_path / f"{out}.spool").exists()
    assert len({ShardSet.open(tmp_path / out).digest for out in "ab"}) == 1


def test_plan(cli: Callable, source: Path, parts: Path) -> None:
    found = estimate(index(source), Partition.load(parts))
    told = cli("plan", source, "--partition", parts, "--json").json
    assert told["direct"]["requests"] == found.direct.requests
    assert told["spool"]["space"] == found.spool.space
    assert (told["shards"], told["cheaper"]) == ([1, 1], "direct")
    slow = (
        "--latency",
        20,
        "--bandwidth",
        100,
        "--at-once",
        1,
        "--disk-latency",
        0.05,
        "--disk-bandwidth",
        2000,
    )
    told = cli("plan", source, "--partition", parts, *slow, "--shard-samples", 1, "--json").json
    assert told["costs"] == {
        "latency": 0.02, "bandwidth": 1e8, "at_once": 1, "disk_latency": 5e-5, "disk_bandwidth": 2e9
    }  # fmt: skip
    assert told["cheaper"] == "spool"
    shown = cli("plan", source, "--partition", parts, *slow).out
    for words in ("direct is cheaper", "20 ms a request, 100 MB/s, 1 at once", "shards per worker 1,"):
        assert words in shown


def test_plan_of_what_is_read_in_order(
    cli: Callable, packed: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool that it tells of is not made, and nothing is left behind."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    command = ("plan", packed, "--partition", parts, "--shard-samples", 5)
    told = cli(*command, "--json").json
    assert not [*(tmp_path / "temporary").iterdir()]
    compressed = ("--compression", "zstd")
    cli(*command, *compressed).refused("--compression: samples are to be read from", "give --spool DIR")
    kept = cli(*command, "--spool", tmp_path / "spool", "--json").json
    for same in ("shards", "bytes", "smallest", "largest", "stored_bytes"):
        assert told[same] == kept[same]
    assert (told["direct"], told["cheaper"]) == (None, "spool")
    assert told["spool"]["bytes"] == sum(tar.stat().st_size for tar in packed.iterdir())
    assert told["spool"]["requests"] == len([*packed.iterdir()])
    for same in ("disk_bytes", "space"):
        assert told["spool"][same] == kept["spool"][same]
    shown = cli(*command).out
    assert "spool is the only way" in shown
    assert "direct" not in shown


def test_plan_of_compressed_shards(cli: Callable, source: Path, parts: Path) -> None:
    plain = cli("plan", source, "--partition", parts, "--json").json
    assert (plain["compression"], plain["stored_bytes"]) == (None, sum(plain["bytes"]))
    told = cli("plan", source, "--partition", parts, "--compression", "zstd", "--level", 9, "--json").json
    assert (told["shards"], told["bytes"]) == (plain["shards"], plain["bytes"])
    assert told["stored_bytes"] == round(sum(plain["bytes"]) * told["compression"]["value"])
    assert 0 < told["compression"]["value"] < 1
    shown = cli("plan", source, "--partition", parts, "--compression", "zstd").out
    for words in ("before compression", "estimated by", "bytes of samples: compressed to"):
        assert words in shown
    refused = cli("plan", source, "--partition", parts, "--level", 9)
    refused.refused("--level 9: goes with --compression 'zstd'")


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (("--latency", -1), "--latency -1.0: must be a finite number >= 0"),
        (("--disk-bandwidth", 0), "--disk-bandwidth 0.0: must be a finite number > 0"),
        (("--at-once", 0), "--at-once 0: must be at least 1"),
        (("--shard-samples", 0), "--shard-samples 0: must be at least 1"),
        (("--keys", "x"), "--keys 'x': allowed are 'error' and 'prefix'"),
    ],
)
def test_bad_options(
    cli: Callable, parts: Path, tmp_path: Path, option: tuple[object, ...], problem: str
) -> None:
    cli("plan", tmp_path / "none.tar", "--partition", parts, *option).refused(problem)


def test_bad_exchange(cli: Callable, parts: Path, tmp_path: Path) -> None:
    command = ("shard", tmp_path / "none.tar", tmp_path / "out", "--partition", parts, "--exchange", "fast")
    cli(*command).refused("--exchange 'fast': allowed are 'auto', 'direct', 'spool'")
