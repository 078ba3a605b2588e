"""What is exported for other tools: by parsers of our own, and by the tools' readers where those are here."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pyimportance
from pyimportance import (
    ArgumentError,
    DataError,
    Partition,
    ShardSet,
    compact,
    prune,
    repartition,
    write_shards,
)
from pyimportance.io.meter import Meter

Divide = Callable[..., Partition]
FORMATS = ("dali", "wids", "webshart", "energon")
N = 30


@pytest.fixture
def shards(tmp_path: Path, write_tar: Callable[..., Path], divide: Divide) -> ShardSet:
    """Compact, of names that every tool can read, after a repartition."""
    rng = np.random.default_rng(0)
    members = [
        (f"dir.{i % 3}/{i:04d}.{extension}", rng.bytes(int(rng.integers(size))))
        for i in range(N)
        for extension, size in (("txt", 900), ("seg.png", 30), ("cls", 2))
    ]
    source = write_tar(tmp_path / "source.tar", members)
    first = write_shards(source, divide(N, 3, 2), tmp_path / "out", shard_bytes=12_000)
    return compact(repartition(first, divide(N, 2, 2, seed=1)))


def members(shards: ShardSet) -> dict[str, dict[str, bytes]]:
    """Tar -> name -> payload, as Python's own reader sees it."""
    found: dict[str, dict[str, bytes]] = {}
    for info in shards.shards:
        with tarfile.open(Path(shards.root) / info.path) as tar:
            found[info.path] = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    return found


def samples(shards: ShardSet) -> list[dict[str, Any]]:
    """In the order of the tars, key and parts of every sample."""
    made: list[dict[str, Any]] = []
    for parts in members(shards).values():
        for name, payload in parts.items():
            folder, _, last = name.rpartition("/")
            stem, _, extension = last.partition(".")
            if not made or made[-1]["__key__"] != f"{folder}/{stem}":
                made.append({"__key__": f"{folder}/{stem}"})
            made[-1][extension] = payload
    return made


def test_dali(shards: ShardSet) -> None:
    paths = shards.export("dali")
    assert paths == tuple(shards.path_of(s.path).replace(".tar", ".idx") for s in shards.shards)
    for info, found in zip(shards.shards, members(shards).values(), strict=True):
        data = Path(shards.path_of(info.path)).read_bytes()
        first, *lines = Path(shards.path_of(info.path)).with_suffix(".idx").read_text().splitlines()
        assert first == f"v1.2 {info.samples}"
        assert len(lines) == info.samples
        listed = {}
        for line in lines:
            fields = line.split(" ")
            for extension, offset, size, name in zip(*(fields[i::4] for i in range(4)), strict=True):
                assert int(offset) % 512 == 0
                assert name.rpartition("/")[2].partition(".")[2] == extension
                listed[name] = data[int(offset) : int(offset) + int(size)]
        assert listed == found


def test_webshart(shards: ShardSet) -> None:
    for path, found in zip(shards.export("webshart"), members(shards).values(), strict=True):
        data = Path(path).with_suffix(".tar").read_bytes()
        index = json.loads(Path(path).read_text())
        assert index["filesize"] == len(data)
        files = index["files"]
        listed = {n: data[f["offset"] : f["offset"] + f["length"]] for n, f in files.items()}
        assert list(listed.items()) == list(found.items())


def test_energon(shards: ShardSet) -> None:
    *paths, info = shards.export("energon")
    assert info == str(Path(shards.root) / ".nv-meta" / ".info.json")
    counts = {s.path: s.samples for s in shards.shards}
    assert json.loads(Path(info).read_text()) == {"energon_version": None, "shard_counts": counts}
    made = iter(samples(shards))
    for path, shard in zip(paths, shards.shards, strict=True):
        assert path == shards.path_of(shard.path) + ".idx"
        data = Path(path).read_bytes()
        places = struct.unpack(f"={shard.samples + 1}Q", data)
        tar = Path(shards.path_of(shard.path)).read_bytes()
        assert places[-1] == len(tar) - 1024
        for start in places[:-1]:
            assert tar[start:].startswith(next(made)["__key__"].encode() + b".")


def test_wids(shards: ShardSet) -> None:
    import hashlib

    meter = Meter()
    (path,) = shards.export("wids", meter=meter, threads=1)
    assert path == str(Path(shards.root) / "wids-000002.json")
    index = json.loads(Path(path).read_text())
    assert (index["__kind__"], index["wids_version"]) == ("wids-shard-index-v1", 1)
    for listed, info in zip(index["shardlist"], shards.shards, strict=True):
        data = (Path(path).parent / listed["url"]).read_bytes()
        assert listed == {
            "url": info.path,
            "nsamples": info.samples,
            "md5sum": hashlib.md5(data).hexdigest(),
            "filesize": len(data),
        }
    assert meter.bytes("disk") == sum(s.nbytes for s in shards.shards)


@pytest.mark.parametrize("format", FORMATS)
def test_equal_shards_give_equal_files(format: Any, shards: ShardSet) -> None:
    seen: list[tuple[int, int]] = []
    first = {path: Path(path).read_bytes() for path in shards.export(format)}
    again = ShardSet.open(shards.root).export(format, threads=1, progress=lambda *done: seen.append(done))
    assert {path: Path(path).read_bytes() for path in again} == first
    total = sum(s.nbytes for s in shards.shards)
    assert len(seen) == len(shards.shards)
    assert seen[-1] == (total, total)
    assert shards.verify().ok
    assert repartition(shards, pyimportance.shards.compact.division(shards, [None] * 2)).verify().ok


def test_what_cannot_be_exported(
    shards: ShardSet, source: Path, tmp_path: Path, divide: Divide, write_tar: Callable[..., Path]
) -> None:
    moved = ShardSet.open(shards.root, generation=1)
    with pytest.raises(
        ArgumentError, match=r"generation 1 of .*out is not compact: its tars still hold samples"
    ):
        moved.export("dali")
    with pytest.raises(
        ArgumentError, match="format='squash': allowed are 'dali', 'wids', 'webshart', 'energon'"
    ):
        shards.export("squash")  # type: ignore[arg-type]
    long = write_shards(source, divide(66, 2), tmp_path / "long")
    with pytest.raises(
        ArgumentError, match=r"g000000-bin00-000000\.tar: member .* a name of more than 100 bytes"
    ):
        long.export("wids")
    one = divide(1, 1)
    for number, name in enumerate(("a b.txt", "ab.")):
        blank = write_shards(
            write_tar(tmp_path / f"{number}.tar", [(name, b"1")]), one, tmp_path / f"b{number}"
        )
        with pytest.raises(ArgumentError, match=f"member '{name}' has a blank in its name, or no extension"):
            blank.export("dali")
        assert len(blank.export("webshart")) == 1
    (Path(shards.root) / ".nv-meta").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"\.nv-meta: is a link"):
        shards.export("energon")


def test_pruned_with_their_tars(shards: ShardSet, divide: Divide) -> None:
    for format in FORMATS:
        shards.export(format)
    exported = {p for end in ("idx", "json") for p in Path(shards.root).glob(f"*/g*.{end}")}
    assert len(exported) == 3 * len(shards.shards)
    new = compact(repartition(shards, divide(N, 4, 2, seed=3)))
    prune(new, keep=[2])
    assert all(path.exists() for path in exported)
    prune(new)
    assert not any(path.exists() for path in exported)
    assert not (Path(shards.root) / "wids-000002.json").exists()


# What the tools themselves read.


def test_wids_reads_it(shards: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wids = pytest.importorskip("wids", reason="wids is not installed")
    (path,) = shards.export("wids")
    monkeypatch.setenv("WIDS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    dataset = wids.ShardListDataset(path, transformations=[], keep=True)
    expected = samples(shards)
    assert len(dataset) == N
    for i in (*range(0, N, 4), N - 1, 0):
        sample = dataset[i]
        parts = {k[1:]: v.read() for k, v in sample.items() if not k.startswith("__")}
        assert {"__key__": sample["__key__"], **parts} == expected[i]
    dataset.close()


def test_webshart_reads_it(shards: ShardSet) -> None:
    webshart = pytest.importorskip("webshart", reason="webshart is not installed")
    shards.export("webshart")
    expected = members(shards)
    for worker in range(shards.workers):
        folder = f"worker-{worker:03d}"
        dataset = webshart.discover_dataset(str(Path(shards.root) / folder))
        own = [s.path for s in shards.shards if s.worker == worker]
        names = [f"{folder}/{dataset.get_shard_info(i)['name']}" for i in range(dataset.num_shards)]
        assert {name.removesuffix(".tar") for name in names} >= {path.removesuffix(".tar") for path in own}
        for path in own:
            number = next(
                i for i, n in enumerate(names) if n.removesuffix(".tar") == path.removesuffix(".tar")
            )
            reader = dataset.open_shard(number)
            listed = dataset.list_files_in_shard(number)
            assert {n: bytes(reader.read_file(i)) for i, n in enumerate(listed)} == expected[path]


def test_energon_reads_it(shards: ShardSet) -> None:
    pytest.importorskip("megatron.energon", reason="megatron-energon is not installed")
    from megatron.energon.epathlib import EPath
    from megatron.energon.flavors.webdataset.itar_reader import ShardInfosITarReader
    from megatron.energon.flavors.webdataset.metadata import get_dataset_info, get_info_shard_files
    from megatron.energon.flavors.webdataset.structs import ShardInfo

    shards.export("energon")
    root = EPath(shards.root)
    assert get_info_shard_files(root) == [s.path for s in shards.shards]
    counts = get_dataset_info(root)["shard_counts"]
    infos = [ShardInfo(name=name, path=root / name, count=count) for name, count in counts.items()]
    reader = ShardInfosITarReader(root, infos)
    expected = samples(shards)
    assert len(reader) == N
    for i in range(N):
        got = reader[i]
        assert got is not None
        assert {k: v for k, v in got.items() if not k.startswith("__")} == {
            k: v for k, v in expected[i].items() if k != "__key__"
        }
        assert got["__key__"].endswith(expected[i]["__key__"])


def test_compressed_shards_are_refused(source: Path, divide: Divide, tmp_path: Path) -> None:
    shards = write_shards(source, divide(66, 2), tmp_path / "zstd", compression="zstd")
    with pytest.raises(ArgumentError, match="its shards are compressed, and an index of dali is of places"):
        shards.export("dali")


def test_dali_reads_it(shards: ShardSet) -> None:
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from nvidia.dali import fn, pipeline_def

    indexes = list(shards.export("dali"))
    tars = [path.replace(".idx", ".tar") for path in indexes]

    @pipeline_def(batch_size=N, num_threads=1, device_id=None)
    def read() -> Any:
        return tuple(fn.readers.webdataset(paths=tars, index_paths=indexes, ext=["txt", "seg.png", "cls"]))

    pipe = read()
    pipe.build()
    outputs = [[bytes(np.asarray(output.at(i))) for i in range(N)] for output in pipe.run()]
    expected = samples(shards)
    for output, extension in zip(outputs, ("txt", "seg.png", "cls"), strict=True):
        assert output == [sample[extension] for sample in expected]
