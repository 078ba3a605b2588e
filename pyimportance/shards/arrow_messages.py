"""What the messages of an Arrow IPC file say before Arrow reads them.

Arrow takes files whose buffers are compressed, and allocates what each of them claims to hold. We write none,
and a stranger's are refused here: of one that is not compressed nothing is allocated that is not in the file.

The file ends with a footer, which lists blocks, each a message and its body; footer and messages are tables
of FlatBuffers (Arrow columnar format, "IPC File Format" and "Encapsulated message format"). Their offsets are
followed here by hand, and one that leads out of the file is an error.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from pyimportance.errors import DataError

_MAGIC: Final = b"ARROW1"
_TAIL: Final = struct.Struct("<i6x")  # bytes of the footer, and that
_BLOCK: Final = struct.Struct("<qi4xq")  # where the message begins, its bytes, those of its body
_LEAD: Final = struct.Struct("<Ii")  # a marker, bytes of the table; of old the marker was left out
_MARKER: Final = 0xFFFFFFFF
_INT, _SHORT, _BYTE = struct.Struct("<i"), struct.Struct("<H"), struct.Struct("<B")

_DICTIONARIES, _BATCHES = 2, 3  # of a footer
_HEADER_TYPE, _HEADER, _METADATA = 1, 2, 4  # of a message; old releases noted compression as metadata
_DICTIONARY_BATCH = 2  # a type of header, which holds a batch as its `_DATA`
_DATA: Final = 1
_COMPRESSION: Final = 3  # of a batch


def check_not_compressed(data: Any, path: str) -> None:
    """Raises DataError, naming the offset of the message, where buffers of ``data`` are compressed; and
    struct.error where its tables lie outside of it.
    """
    file = memoryview(data).cast("B")
    if len(file) < _TAIL.size or bytes(file[-len(_MAGIC) :]) != _MAGIC:
        return  # which Arrow says itself
    end = len(file) - _TAIL.size
    footer = _Table.root(file, end - _TAIL.unpack_from(file, end)[0])
    for vector in (_DICTIONARIES, _BATCHES):
        for place in footer.blocks(vector):
            if _is_compressed(_message(file, place)):
                raise DataError("holds compressed buffers, which no index has", path=path, offset=place)


def _message(file: memoryview, place: int) -> _Table:
    marker, _ = _LEAD.unpack_from(file, _inside(place))
    return _Table.root(file, place + (8 if marker == _MARKER else 4))


def _is_compressed(message: _Table) -> bool:
    batch = message.table(_HEADER)
    if batch is not None and message.byte(_HEADER_TYPE) == _DICTIONARY_BATCH:
        batch = batch.table(_DATA)
    return bool(message.at(_METADATA)) or batch is None or bool(batch.at(_COMPRESSION))


class _Table:
    """A table of FlatBuffers. Where its fields are stands elsewhere: tables of one kind share that."""

    def __init__(self, file: memoryview, place: int) -> None:
        self.file, self.place = file, _inside(place)
        self.fields = _inside(place - _INT.unpack_from(file, place)[0])
        self.size = _SHORT.unpack_from(file, self.fields)[0]

    @staticmethod
    def root(file: memoryview, place: int) -> _Table:
        return _Table(file, place + _INT.unpack_from(file, _inside(place))[0])

    def at(self, field: int) -> int:
        """Where the field is; 0: it is left out."""
        entry = 4 + 2 * field
        offset: int = _SHORT.unpack_from(self.file, self.fields + entry)[0] if entry < self.size else 0
        return self.place + offset if offset else 0

    def byte(self, field: int) -> int:
        at = self.at(field)
        return int(_BYTE.unpack_from(self.file, at)[0]) if at else 0

    def target(self, field: int) -> int:
        """What the field points to; 0: it is left out."""
        at = self.at(field)
        return _inside(at + _INT.unpack_from(self.file, at)[0]) if at else 0

    def table(self, field: int) -> _Table | None:
        place = self.target(field)
        return _Table(self.file, place) if place else None

    def blocks(self, field: int) -> list[int]:
        """Where the messages begin that the blocks of the field name."""
        start = self.target(field)
        if not start:
            return []
        (n,) = _INT.unpack_from(self.file, start)
        rows = self.file[start + 4 : start + 4 + _BLOCK.size * n]
        return [place for place, _, _ in _BLOCK.iter_unpack(rows)]


def _inside(place: int) -> int:
    """Negative places would be taken from the end."""
    if place < 0:
        raise struct.error("a table lies before the file")
    return place
