"""What reads untrusted manifests, pointers, notes, indexes and seek tables in Python, under coverage:
``python tests/native/fuzz/readers.py TARGET [options of libFuzzer] [FOLDER]``, with atheris installed (Linux,
Python 3.11 to 3.13). Each input is refused by a DataError, or what is made of it is sound.

Seeds are of the golden set; TARGET is one of those below.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed; pip install atheris")

with atheris.instrument_imports(include=["pyimportance"]):
    import numpy as np

    from pyimportance import DataError, SampleIndex
    from pyimportance.io.compress import write_frames
    from pyimportance.io.frames import Framed
    from pyimportance.io.seek_table import SeekTable
    from pyimportance.io.storage import File
    from pyimportance.shards import journal
    from pyimportance.shards.index_file import decode, encode
    from pyimportance.shards.manifest import POINTER, Manifest, read_manifest, read_pointer

GOLDEN = Path(__file__).parents[2] / "shards" / "golden"
CONTENT = b"".join(b"%08d" % i for i in range(700))
FOLDER = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def manifest(data: bytes) -> None:
    (FOLDER / "manifest-000001.json").write_bytes(data)
    found, _ = read_manifest(str(FOLDER), 1)
    assert isinstance(found, Manifest)
    paths = [info.path for info in (*found.shards, *found.indexes)]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert not path.startswith("/"), path
        assert not {"", ".", ".."} & set(path.split("/")), path
    assert sum(s.live for s in found.shards) == found.samples <= found.id_bound
    (FOLDER / "manifest-000001.json").write_bytes(found.encode())
    assert read_manifest(str(FOLDER), 1)[0] == found


def pointer(data: bytes) -> None:
    (FOLDER / POINTER).write_bytes(data)
    generation, sha256 = read_pointer(str(FOLDER))
    assert generation >= 0
    assert len(sha256) == 64


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


def frames() -> bytes:
    with open(FOLDER / "content", "w+b") as plain, open(FOLDER / "x.tar.zst", "w+b") as out:
        plain.write(CONTENT)
        plain.flush()
        write_frames(plain.fileno(), [0, 8, 2000, 2001, len(CONTENT)], out, 3)
        out.seek(0)
        return out.read()


def files(pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(GOLDEN.glob(pattern))]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "manifest": (
        manifest,
        lambda: [d.replace(b'"generation": 0', b'"generation": 1') for d in files("m*-*")],
    ),
    "pointer": (pointer, lambda: files("manifest.json")),
    "notes": (notes, lambda: files("**/job*.json")),
    "index": (index, lambda: files("**/*.arrow")),
    "seek_table": (seek_table, lambda: [frames()]),
}
TELLING = [0, -1, 1 << 62, 1 << 70, 0.5, None, True, "", "..", "/x", "a/../b", "\ud800", "\0", [], {}]


def change(value: Any, rng: np.random.Generator) -> Any:
    """One place in what JSON says."""
    if not isinstance(value, dict | list) or not value or rng.integers(8) == 0:
        return TELLING[int(rng.integers(len(TELLING)))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[int(rng.integers(len(keys)))]
    copy = value.copy()
    if rng.integers(8) == 0:
        del copy[key]
    else:
        copy[key] = change(value[key], rng)
    return copy


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """By libFuzzer, and where it is JSON every second time by what it says."""
    if seed % 2:
        try:
            changed = json.dumps(change(json.loads(data), np.random.default_rng(seed)), indent=1).encode()
        except (ValueError, RecursionError):
            pass
        else:
            return changed if len(changed) <= max_size else data
    return bytes(atheris.Mutate(data, len(data)))


def main(name: str, options: list[str]) -> None:
    target, seeds = TARGETS[name]
    (FOLDER / "seeds").mkdir()
    for number, seed in enumerate(seeds()):
        (FOLDER / "seeds" / f"seed-{number}").write_bytes(seed)

    def test_one_input(data: bytes) -> None:
        with suppress(DataError):
            target(data)

    arguments = [sys.argv[0], "-max_len=20000", *options, str(FOLDER / "seeds")]
    atheris.Setup(arguments, test_one_input, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: readers.py {'|'.join(TARGETS)} [options of libFuzzer] [FOLDER]")
    main(sys.argv[1], sys.argv[2:])
