"""Thousands of damaged tars: each is refused, or what is copied of it is what Python's tarfile reads."""

from __future__ import annotations

import io
import re
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np

from pyimportance import _C, DataError, SampleIndex
from pyimportance.shards.index import scan_file
from pyimportance.shards.layout import Layout
from pyimportance.shards.plan import plan_group, select, take_keys

MUTANTS = 3000
NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
# Fields of a header that say what a member is. What the others say is nobody's business here, but tarfile
# takes a header for the end of the archive where an owner or a time is no number.
FIELDS = {"name": (0, 100), "size": (124, 12), "sum": (148, 8), "type": (156, 1), "magic": (257, 8)}
FIELDS |= {"prefix": (345, 155)}
TELLING = {
    "name": [
        b"a.x\0",
        b"../a.x\0",
        b"/a.x\0",
        b"a\0",
        b"__m__\0",
        b"b.y\0",
        b"b.Y\0",
        b"\xff.x\0",
        b"d/\0",
        b"\0",
    ],
    "size": [b"00000000000\0", b"00000000001\0", b"00000001000\0", b"00000001001\0", b"77777777777\0"],
    "sum": [b"0000000\0"],
    "type": [b"0", b"\0", b"5", b"7", b"x", b"g", b"L", b"K", b"1", b"2", b"S", b"V", b"Q"],
    "magic": [b"ustar\00000", b"ustar  \0", bytes(8)],
    "prefix": [b"\0", b"p\0", b"..\0"],
}
TELLING["size"] += [b"\x80" + n.to_bytes(11, "big") for n in (0, 512, 2**40, 2**80)]


def make_tar(dialect: int, names: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=dialect) as tar:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            data = bytes([65 + i]) * (0, 3, 512, 700)[i % 4]
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    data = out.getvalue().rstrip(b"\0")
    return data + bytes(-len(data) % 512 + 1024)


def tars() -> list[bytes]:
    # Members of no sample lie within one or at the end: a copier does not look at what lies before a sample.
    short = ["a.x", "README", "a.y", "b.x", "b.Y", "c.y", "d/c.x", "d/c.y", "LICENSE"]
    long = ["q" * 110 + ".x", "é.x", "é.y", "d/" * 70 + "a.x", "d/" * 70 + "a.y", "z.x"]
    made = [make_tar(dialect, short) for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)]
    made += [make_tar(dialect, long) for dialect in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    return [
        *made,
        make_tar(tarfile.USTAR_FORMAT, [long[3], long[4], "z.x", "p" * 50 + "/" + "n" * 90 + ".y"]),
    ]


def is_header(block: bytes | bytearray) -> bool:
    return block[257:262] == b"ustar" and block[:1] != b"\0"


def change_field(blocks: list[bytearray], rng: np.random.Generator) -> None:
    headers = [block for block in blocks if is_header(block)] or blocks
    block = headers[int(rng.integers(len(headers)))]
    field = list(FIELDS)[int(rng.integers(len(FIELDS)))]
    start, length = FIELDS[field]
    new = TELLING[field][int(rng.integers(len(TELLING[field])))]
    if rng.integers(3) == 0:
        start, new = start + int(rng.integers(length)), rng.bytes(1)
    block[start : start + len(new)] = new


def change_byte(blocks: list[bytearray], rng: np.random.Generator) -> None:
    bodies = [block for block in blocks if not is_header(block)] or blocks
    bodies[int(rng.integers(len(bodies)))][int(rng.integers(512))] = int(rng.integers(256))


def change_blocks(blocks: list[bytearray], rng: np.random.Generator) -> None:
    a, b = rng.integers(len(blocks), size=2).tolist()
    match int(rng.integers(4)):
        case 0:
            blocks[a], blocks[b] = blocks[b], blocks[a]
        case 1:
            blocks.insert(a, bytearray(blocks[b]))
        case 2:
            blocks[a] = bytearray(blocks[b])
        case 3:
            del blocks[a]


def mutate(tar: bytes, rng: np.random.Generator) -> bytes:
    blocks = [bytearray(tar[i : i + 512]) for i in range(0, len(tar), 512)]
    for _ in range(int(rng.integers(1, 4))):
        (change_field, change_field, change_byte, change_blocks)[int(rng.integers(4))](blocks, rng)
    for block in filter(is_header, blocks):
        if block[257:263] != b"ustar\0":
            block[345:500] = bytes(155)  # GNU has times there, V7 anything; tarfile takes it for a name
    if rng.integers(8):  # right checksums, so that the damage is looked at
        for block in filter(is_header, blocks):
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    data = b"".join(blocks)
    return data[: int(rng.integers(len(data)))] if rng.integers(12) == 0 else data


def overwrite(path: Path, data: bytes) -> None:
    """In place: some file systems put a file to the disk that is truncated first."""
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()


def as_tarfile_reads(path: Path) -> tuple[dict[str, list[bytes]], bool]:
    """(payloads by name, whether it read to the end; where it finds damage it may just stop)"""
    found: dict[str, list[bytes]] = {}
    data = path.read_bytes()
    try:
        # Not of the file, of which it would ask for the gigabytes that a damaged size announces.
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                match = NAME.match(member.name)
                if member.isreg() and match and not re.match(r"__[^/]*__($|/)", member.name):
                    payload = tar.extractfile(member).read()  # type: ignore[union-attr]
                    found.setdefault(f"{match[1]}.{match[2].lower()}", []).append(payload)
            return found, not data[tar.offset :].strip(b"\0")
    except (tarfile.TarError, ValueError, OverflowError):
        return found, False


def copied(index: SampleIndex, path: Path, out: Path) -> dict[str, list[bytes]]:
    """Name -> payload, as a shard that is made by this index of the tar holds them."""
    rows = np.arange(len(index))
    (plan,) = plan_group(select(index, rows, take_keys(index, rows)), 0, 0, 0, Layout(1 << 30), bins=1)
    samples = plan.samples
    with open(path, "rb") as source, open(out, "r+b") as shard:
        copier = _C.TarCopier([(source.fileno(), path.stat().st_size, str(path), "")], False, 1)
        task = copier.begin(
            shard.fileno(),
            *index.key_buffers,
            samples.extensions,
            samples.part_start,
            samples.part_ext,
            samples.part_size,
            samples.file,
            samples.offset,
            samples.part_offset,
            None,
            1 << 20,
            False,
        )
        copier.wait(task)
        shard.truncate(plan.nbytes)
    return as_tarfile_reads(out)[0]


def test_mutants(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path, out = tmp_path / "a.tar", tmp_path / "shard.tar"
    path.touch()
    out.touch()
    originals, indexes = tars(), []
    for tar in originals:
        overwrite(path, tar)
        indexes.append(scan_file(str(path)))
        assert (copied(indexes[-1], path, out), True) == as_tarfile_reads(path)
    outcomes: Counter[str] = Counter()
    for number in range(MUTANTS):
        which = number % len(originals)
        overwrite(path, mutate(originals[which], rng))
        there, whole = as_tarfile_reads(path)
        try:
            index = scan_file(str(path))
        except DataError:
            outcomes["refused"] += 1
        else:
            outcomes["taken"] += 1
            assert whole, number
            assert not len(index) or copied(index, path, out) == there, number
        # By the index of the tar before it was damaged: what is copied is still that member, or nothing is.
        try:
            got = copied(indexes[which], path, out)
        except DataError:
            outcomes["stale, refused"] += 1
        else:
            outcomes["stale, taken"] += 1
            for name, payloads in got.items():
                assert not whole or payloads[0] in there[name], number
    assert min(outcomes.values()) > MUTANTS / 10, outcomes
    assert len(outcomes) == 4
