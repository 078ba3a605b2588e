"""The seeds of the fuzz targets, and of the readers that are targets: ``python tests/native/fuzz/corpus.py
FOLDER`` writes FOLDER/TARGET/*.
"""

from __future__ import annotations

import io
import itertools
import struct
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

SHORT = ["a.x", "README", "a.y", "b.x", "b.Y", "c.y", "d/c.x", "d/c.y", "__meta__", "LICENSE"]
LONG = ["q" * 110 + ".x", "é.x", "é.y", "d/" * 70 + "a.x", "d/" * 70 + "a.y", "z.x"]
LONG.append("p" * 50 + "/" + "n" * 90 + ".y")
DIALECTS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
TYPES = b"5", b"2", b"1", b"6", b"7", b"S", b"V", b"Q"


def make_tar(dialect: int, names: list[str], *, types: tuple[bytes, ...] = (), **pax: str) -> bytes:
    """Samples with parts of several sizes, then a member of each type."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=dialect, pax_headers=pax) as tar:
        for i, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = (0, 3, 512, 700)[i % 4]
            tar.addfile(info, io.BytesIO(bytes([65 + i]) * info.size))
        for kind in types:
            info = tarfile.TarInfo("t.z")
            info.type, info.linkname = kind, "a.x"
            tar.addfile(info)
    return trimmed(out.getvalue())


def trimmed(tar: bytes) -> bytes:
    """Without the padding to 10 KiB."""
    data = tar.rstrip(b"\0")
    return data + bytes(-len(data) % 512 + 1024)


def with_field(tar: bytes, at: int, field: bytes) -> bytes:
    """``tar`` with another field in its first header, and a checksum that fits."""
    block = bytearray(tar[:512])
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + tar[512:]


def tars() -> Iterator[bytes]:
    for dialect, names in itertools.product(DIALECTS, (SHORT, LONG[1:3] + LONG[5:], ["one.x"], [])):
        if dialect != tarfile.USTAR_FORMAT or "é.x" not in names:
            yield make_tar(dialect, names)
    yield make_tar(tarfile.GNU_FORMAT, LONG)
    yield make_tar(tarfile.PAX_FORMAT, LONG, comment="for all members")
    yield from (make_tar(tarfile.GNU_FORMAT, ["a.x"], types=(kind,)) for kind in TYPES)
    plain = make_tar(tarfile.USTAR_FORMAT, ["a.x", "b.x"])
    yield from (plain[:512], plain[:-1024], plain[:-512], plain + plain, plain + bytes(5000))
    yield with_field(plain, 124, b"\x80" + (3).to_bytes(11, "big"))
    yield with_field(plain, 257, bytes(8))  # V7
    yield from (b"", b"\x1f\x8b\x08" + bytes(600), b"\x28\xb5\x2f\xfd" + bytes(600))


def names() -> Iterator[bytes]:
    refused = ["../x.y", "/a", "a/..", "a\0b", "d/.x"]
    for size, name in itertools.product((0, 3, 1 << 33), SHORT + LONG + refused):
        yield struct.pack("<q", size) + name.encode()
    sparse = b"22 GNU.sparse.major=1\n"
    for records in (b"12 path=a.x\n", b"10 size=9\n12 path=b.y\n", sparse, b"30 mtime=1.0\n"):
        yield struct.pack("<q", 0) + records


def indexes() -> Iterator[bytes]:
    """Columns as fuzz_index.cpp takes them, of two files with the same bytes, and those bytes."""
    parts = [("k.a", 3), ("k.b", 600), ("d/l.a", 0), ("d/l.x.y", 512), ("m.b", 9)]
    tar = io.BytesIO()
    places = []
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, size in parts:
            info = tarfile.TarInfo(name)
            info.size = size
            places.append(out.offset + 512)
            out.addfile(info, io.BytesIO(b"p" * size))
    contents = trimmed(tar.getvalue())
    ends = [at + -(-size // 512) * 512 for at, (_, size) in zip(places, parts, strict=True)]
    key, first = ["k", "d/l", "m"], [0, 2, 4, 5]
    begin = [places[p] - 512 for p in first[:-1]]
    nbytes = [ends[p - 1] - at for p, at in zip(first[1:], begin, strict=True)]
    extension = [("a", "b", "x.y").index(name.partition(".")[2]) for name, _ in parts]
    for N, step in itertools.product((0, 1, 2, 3), (0, 1)):
        P, text = first[N], "".join(key[:N]).encode()
        starts = list(itertools.accumulate((len(k) for k in key[:N]), initial=0))
        longs = [len(contents)] * 2 + list(range(N)) + starts + begin[:N] + nbytes[:N] + first[: N + 1]
        longs += places[:P] + [size for _, size in parts[:P]]
        ints = [step * (i > 0) for i in range(N)] + extension[:P] + [0] * N
        yield (
            struct.pack("<4B", N, P, len(text), 3)
            + struct.pack(f"<{len(longs)}q", *longs)
            + struct.pack(f"<{len(ints)}i", *ints)
            + text
            + contents
        )


def corpus() -> dict[str, list[bytes]]:
    """Target -> seeds."""
    import readers  # beside this; and the package is needed for nothing else

    every = list(tars())
    pairs = [*itertools.pairwise(every), *((tar, tar) for tar in every)]
    stale = [struct.pack("<I", len(a)) + a + b for a, b in pairs]
    native = {"scan": every, "stale": stale, "names": list(names()), "index": list(indexes())}
    return native | {name: list(target.seeds()) for name, target in readers.TARGETS.items()}


def write(folder: Path) -> None:
    for target, seeds in corpus().items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (folder / target / f"seed-{number:03d}").write_bytes(seed)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
