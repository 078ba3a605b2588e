"""What reads untrusted manifests, pointers, notes, indexes and seek tables in Python: each input is refused
by a DataError, or what is made of it is sound. `fuzz_readers.cpp` calls these with inputs, in its process.
"""

from __future__ import annotations

import ctypes
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from pyimportance import DataError, SampleIndex
from pyimportance.io import storage
from pyimportance.io.compress import frame_of
from pyimportance.io.frames import Framed
from pyimportance.io.seek_table import SeekTable
from pyimportance.io.seek_table import encode as encode_table
from pyimportance.io.storage import File
from pyimportance.shards import journal
from pyimportance.shards.index_file import decode, encode
from pyimportance.shards.manifest import Manifest, read_manifest, read_pointer

GOLDEN = Path(__file__).parents[2] / "shards" / "golden"
CONTENT = b"".join(b"%08d" % i for i in range(700))


def manifest(data: bytes) -> None:
    found = read_as_manifest(data)
    assert isinstance(found, Manifest)
    paths = [info.path for info in (*found.shards, *found.indexes)]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert not path.startswith("/"), path
        assert not {"", ".", ".."} & set(path.split("/")), path
    assert sum(s.live for s in found.shards) == found.samples <= found.id_bound
    assert read_as_manifest(found.encode()) == found


def read_as_manifest(data: bytes) -> Manifest:
    with in_the_place_of_files(data):
        return read_manifest("/nowhere", 1)[0]


def pointer(data: bytes) -> None:
    with in_the_place_of_files(data):
        generation, sha256 = read_pointer("/nowhere")
    assert generation >= 0
    assert len(sha256) == 64


@contextmanager
def in_the_place_of_files(data: bytes) -> Iterator[None]:
    """Whatever is read as a whole, a million times a run and from no disk."""
    read, storage.read_whole = storage.read_whole, lambda *_: data
    try:
        yield
    finally:
        storage.read_whole = read


def notes(data: bytes) -> None:
    head, finished, end = journal.parse(data)
    assert 0 <= end <= len(data)
    assert head is None or isinstance(head["job"], str)
    assert all(type(n) is int and type(c) is int for n, c in finished.values())
    assert journal.parse(data[:end]) == (head, finished, end)


def index(data: bytes) -> None:
    found = decode(data, "input")
    assert isinstance(found, SampleIndex)
    rows = np.repeat(np.arange(len(found)), np.diff(found.part_start))
    assert (found.part_offset + found.part_size <= (found.offset + found.nbytes)[rows]).all()
    assert (found.offset + found.nbytes <= found.file_bytes[found.file]).all()
    assert not any(found.key(i).startswith(("/", "../")) for i in range(len(found)))
    assert decode(encode(found), "again").digest == found.digest


class Memory(File):
    """A file that is not on a disk."""

    def __init__(self, data: bytes) -> None:
        super().__init__("input.tar.zst", len(data), None, None, "disk")
        self.data = data

    @property
    def handle(self) -> int:
        raise AssertionError("there is no descriptor")

    def read_uncounted(self, offset: int, nbytes: int) -> tuple[bytes, int, int]:
        assert 0 <= offset <= offset + nbytes <= self.size
        return self.data[offset : offset + nbytes], nbytes, 1

    def close(self) -> None:
        pass


def seek_table(data: bytes) -> None:
    file = Memory(data)
    table = SeekTable.read(file)
    assert 0 < table.stored[-1] < len(data)
    with Framed(file) as framed:
        for begin, end in itertools.pairwise(table.content.tolist()[:9]):
            with suppress(DataError):
                assert len(framed.pread(begin, end - begin)) == end - begin


def planted(mistake: Callable[[], object]) -> Target:
    """To be found: a mistake where a manifest has fields that no seed has."""

    def read(data: bytes) -> None:
        if read_as_manifest(data).parent == 1 << 62:
            mistake()

    return Target(read, json_like(manifests()), manifests)


def write_behind_the_end() -> None:
    room = ctypes.create_string_buffer(64)  # a small one would lie within an object
    ctypes.memset(room, 0, 65)


def manifests() -> Iterator[bytes]:
    zstd = {"format": "zstd", "level": 3, "frame_bytes": 1 << 20, "library": "1.5.7"}
    for data in files("m*-*"):
        fields = json.loads(data) | {"generation": 1}
        yield json.dumps(fields).encode()
        shards = [shard | {"tar_bytes": 10240} for shard in fields["shards"]]
        yield json.dumps(fields | {"version": 2, "compression": zstd, "shards": shards}).encode()


def indexes() -> Iterator[bytes]:
    """As we write them, and in what else Arrow may read."""
    for data in files("**/*.arrow"):
        yield data
        with pa.ipc.open_file(data) as reader:
            for compression in ("zstd", "lz4"):
                sink = pa.BufferOutputStream()
                options = pa.ipc.IpcWriteOptions(compression=compression)
                with pa.ipc.new_file(sink, reader.schema, options=options) as writer:
                    writer.write_table(reader.read_all())
                yield sink.getvalue().to_pybytes()


def frames() -> Iterator[bytes]:
    for cuts in ([0, 8, 2000, 2001, len(CONTENT)], [0, 5]):
        parts = [CONTENT[begin:end] for begin, end in itertools.pairwise(cuts)]
        made = [frame_of(part, 3) for part in parts]
        yield b"".join(made) + encode_table([(len(m), len(p)) for m, p in zip(made, parts, strict=True)])


def files(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(pattern))]


# What a field may hold that nobody wrote there.
TELLING: list[Any] = [0, 1, -1, 1 << 31, 1 << 61, 1 << 62, 1 << 63, 1 << 70, 10**400, 0.5, float("inf")]
TELLING += ["", "..", "/x", "a/../b", "worker-000/../../x.tar", "g000000-bin00-000000.tar", "\ud800", "\0"]
TELLING += ["a\0b", None, True, [], [[]], [1, "a"], {}, {"a": 1}]


def change(value: Any, rng: Random) -> Any:
    """One place in what JSON says, chosen on the way down."""
    if not isinstance(value, dict | list) or not value or rng.randrange(8) == 0:
        return rng.choice(TELLING)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key, copy = rng.choice(keys), value.copy()
    match rng.randrange(8):
        case 0:
            del copy[key]
        case 1:
            copy[key] = value[rng.choice(keys)]
        case _:
            copy[key] = change(value[key], rng)
    return copy


def json_like(seeds: Iterable[bytes]) -> Callable[[bytes, int], bytes]:
    """Another place in what an input says; of one that is no JSON there is nothing to keep."""
    known = [json.loads(seed) for seed in seeds]

    def mutate(data: bytes, seed: int) -> bytes:
        rng = Random(seed)
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = rng.choice(known)
        return json.dumps(change(value, rng)).encode()

    return mutate


def mutate_frames(data: bytes, seed: int) -> bytes | None:
    """A byte of the frames, or a size of the table; another then makes up for it."""
    rng, out = Random(seed), bytearray(data)
    n = min(int.from_bytes(data[-9:-5], "little"), (len(data) - 17) // 8)
    if n < 1:
        return None
    table = len(data) - 9 - 8 * n
    if rng.randrange(2):
        out[rng.randrange(table)] = rng.randrange(256)
        return bytes(out)
    places = [table + 8 * rng.randrange(n) + 4 * rng.randrange(2) for _ in range(2)]
    more = rng.choice([1, 8, 1 << 10, 1 << 30, (1 << 32) - 1])
    for at, by in zip(places, (more, -more), strict=True):
        size = int.from_bytes(out[at : at + 4], "little") + by
        out[at : at + 4] = (size % (1 << 32)).to_bytes(4, "little")
    return bytes(out)


def mutate_nothing(data: bytes, seed: int) -> None:
    """It is for libFuzzer alone."""


@dataclass(frozen=True)
class Target:
    """What reads an input, what makes another of one (None: libFuzzer is to), and what it begins with."""

    read: Callable[[bytes], None]
    mutate: Callable[[bytes, int], bytes | None]
    seeds: Callable[[], Iterable[bytes]]


TARGETS = {
    "manifest": Target(manifest, json_like(manifests()), manifests),
    "pointer": Target(pointer, json_like(files("manifest.json")), lambda: files("manifest.json")),
    "notes": Target(notes, mutate_nothing, lambda: files("**/job*.json")),
    "sample_index": Target(index, mutate_nothing, indexes),
    "seek_table": Target(seek_table, mutate_frames, frames),
}
PLANTED = {
    "planted_overflow": planted(write_behind_the_end),
    "planted_claim": planted(lambda: bytearray(1 << 27)),
    "planted_error": planted(lambda: 1 // 0),
}


def target(name: str) -> Target:
    """For `fuzz_readers.cpp`: one whose reader returns where an input is refused."""
    found = (TARGETS | PLANTED)[name]

    def read(data: bytes) -> None:
        with suppress(DataError):
            found.read(data)

    return replace(found, read=read)
