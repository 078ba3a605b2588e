"""Which bytes of an object are at hand, as a journal on disk and as a list in memory.

The journal is a file that only grows: a line about the object, then records of 32 bytes, each with a checksum
that its place is part of. What was torn by a crash is no record, and is skipped.
"""

from __future__ import annotations

import hashlib
import json
import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final

from pyimportance import _C

FORMAT: Final = "pyimportance-cache"
VERSION: Final = 1
HEADER: Final = 1024
RECORD: Final = struct.Struct("<qqIIII")  # begin, bytes, CRC32C, kind, 0, CRC32C of this and its place

HERE, DROPPED, OF, WHOLE = range(4)
"""Kinds: bytes that are here; that are here no more; the version of the object that they are of; all bytes
were found to have the checksum that they should have."""


@dataclass(frozen=True)
class Extent:
    """Bytes that came together, and their CRC32C; ``place`` of the record that says so."""

    begin: int
    end: int
    crc32c: int
    place: int


def encode_header(name: str, size: int, nonce: str) -> bytes:
    fields = {"format": FORMAT, "version": VERSION, "size": size, "nonce": nonce, "object": name}
    line = json.dumps(fields).encode()
    if len(line) >= HEADER:
        line = json.dumps({**fields, "object": ""}).encode()
    return line.ljust(HEADER - 1) + b"\n"


def nonce_of(header: bytes) -> str | None:
    """What tells this journal from others of the same name; None where it is no journal."""
    try:
        fields = json.loads(header)
    except ValueError:
        return None
    if not isinstance(fields, dict) or (fields.get("format"), fields.get("version")) != (FORMAT, VERSION):
        return None
    nonce = fields.get("nonce")
    return nonce if isinstance(nonce, str) and nonce and len(header) == HEADER else None


def encode(place: int, kind: int, begin: int = 0, nbytes: int = 0, crc32c: int = 0) -> bytes:
    """A record that is to stand at ``place`` of the file."""
    record = RECORD.pack(begin, nbytes, crc32c, kind, 0, 0)
    return record[:-4] + _check(record, place)


def version_words(version: int | str | None) -> tuple[int, int]:
    """The 16 bytes by which a record knows a version."""
    first, second = struct.unpack("<qq", hashlib.sha256(repr(version).encode()).digest()[:16])
    return first, second


def _check(record: bytes, place: int) -> bytes:
    return struct.pack("<I", _C.crc32c(record[:-4], place & 0xFFFFFFFF))


class Extents:
    """What a journal says is here; extents never overlap."""

    def __init__(self, size: int) -> None:
        self.size, self.nbytes = size, 0
        self.version: tuple[int, int] | None = None
        self.whole = False
        self._begins: list[int] = []
        self._extents: list[Extent] = []

    def read(self, data: bytes, place: int) -> int:
        """Takes in the records in ``data``, which begins at ``place``; the place of what comes next."""
        for at in range(0, len(data) - RECORD.size + 1, RECORD.size):
            record = data[at : at + RECORD.size]
            if record[-4:] == _check(record, place + at):
                begin, nbytes, crc32c, kind, _, _ = RECORD.unpack(record)
                self._take(kind, begin, nbytes, crc32c, place + at)
        return place + len(data) // RECORD.size * RECORD.size

    def _take(self, kind: int, begin: int, nbytes: int, crc32c: int, place: int) -> None:
        if kind == OF:
            self.version = begin, nbytes
        elif kind == WHOLE:
            self.whole = True
        elif 0 <= begin < begin + nbytes <= self.size:
            at = bisect_right(self._begins, begin)
            if kind == HERE and self.gaps(begin, begin + nbytes) == [(begin, begin + nbytes)]:
                self._begins.insert(at, begin)
                self._extents.insert(at, Extent(begin, begin + nbytes, crc32c, place))
                self.nbytes += nbytes
            elif kind == DROPPED and at and self._extents[at - 1].begin == begin:
                del self._begins[at - 1], self._extents[at - 1]
                self.nbytes -= nbytes
                self.whole = False

    def over(self, begin: int, end: int) -> list[Extent]:
        """The extents in which some of these bytes lie."""
        first, last = bisect_right(self._begins, begin), bisect_left(self._begins, end)
        found = self._extents[first:last]
        if first and self._extents[first - 1].end > begin:
            found.insert(0, self._extents[first - 1])
        return found

    def gaps(self, begin: int, end: int) -> list[tuple[int, int]]:
        """(begin, end) of what is not here of these bytes."""
        gaps, at = [], begin
        for extent in self.over(begin, end):
            if extent.begin > at:
                gaps.append((at, extent.begin))
            at = extent.end
        if at < end:
            gaps.append((at, end))
        return gaps
