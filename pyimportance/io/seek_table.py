"""SeekTable: where the frames of a compressed file lie, in zstd's seekable format.

Such a file is frames that can be decompressed one by one, and at its end a frame that decoders skip: per
frame its compressed and decompressed bytes (uint32 each, with a checksum of the content where the footer says
so), then the footer: the number of frames, a byte of flags and a magic number.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError
from pyimportance.io.storage import File

MAX_FRAME: Final = 1 << 30
"""Bytes of a frame, decompressed: what other readers of this format take."""

_MAGIC = 0x184D2A5E  # of the frame that is skipped
_SEEKABLE = 0x8F92EAB1
_HEADER = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")
_CHECKSUMS, _RESERVED = 0x80, 0x7C  # flags
_EXPANSION = 1 << 15  # a block of 128 KiB takes 4 bytes at least


@dataclass(frozen=True, eq=False)
class SeekTable:
    """F frames: frame i lies at stored[i] to stored[i + 1] in the file, and holds the bytes content[i] to
    content[i + 1].

    stored, content  int64 [F + 1]; the last ones are where the frames end
    cost             bytes and requests that reading the table took
    """

    stored: NDArray[np.int64]
    content: NDArray[np.int64]
    cost: tuple[int, int]

    @staticmethod
    def read(file: File, tail: int = 0) -> SeekTable:
        """The table at the end of ``file``, which may be anything; nothing is counted.

        tail: so many bytes are read first, where a request costs more than bytes that are not needed.

        Raises DataError, with the offset in the file, where it is no sound table of all that is before it. A
        frame has at most 1 GiB, and no more than its compressed bytes can hold: what it claims is bounded by
        what is there.
        """
        end = file.size - _FOOTER.size
        if end < _HEADER.size:
            raise DataError("is too short for a seek table of zstd", path=file.path, offset=0)
        tail = max(_FOOTER.size, min(tail, file.size))
        data, read, requests = file.read_uncounted(file.size - tail, tail)
        frames, flags, magic = _FOOTER.unpack(data[-_FOOTER.size :])
        if magic != _SEEKABLE:
            raise _error(file, file.size - 4, "no seek table of zstd ends here")
        if flags & _RESERVED:
            raise _error(file, end + 4, f"the seek table has unknown flags ({flags:#04x})")
        columns = 3 if flags & _CHECKSUMS else 2
        start = end - 4 * columns * frames - _HEADER.size
        if start < 0:
            raise _error(file, end, f"the seek table is of {frames} frames, for which the file is too short")
        if (missing := file.size - tail - start) > 0:
            before, more, again = file.read_uncounted(start, missing)
            data, read, requests = before + data, read + more, requests + again
        data = data[start - file.size : -_FOOTER.size]
        if _HEADER.unpack_from(data) != (_MAGIC, file.size - start - _HEADER.size):
            raise _error(file, start, f"no seek table of {frames} frames begins here")
        sizes = np.frombuffer(data, "<u4", offset=_HEADER.size).reshape(frames, columns)[:, :2]
        stored, content = sizes.astype(np.int64).T
        wrong = (content < 1) | (content > MAX_FRAME) | (content > stored * _EXPANSION)
        if wrong.any():
            i = int(np.argmax(wrong))
            problem = f"frame {i} of {stored[i]} bytes is said to hold {content[i]}"
            raise _error(file, start + _HEADER.size + 4 * columns * i, problem)
        if (total := int(stored.sum())) != start:
            raise _error(file, start, f"the seek table is of {total} bytes; {start} are before it")
        return SeekTable(_places(stored), _places(content), (read, requests))

    def __len__(self) -> int:
        return len(self.stored) - 1


def encode(frames: Sequence[tuple[int, int]]) -> bytes:
    """The table of frames of (compressed, decompressed) bytes."""
    table = np.array(frames, "<u4").tobytes()
    return _HEADER.pack(_MAGIC, len(table) + _FOOTER.size) + table + _FOOTER.pack(len(frames), 0, _SEEKABLE)


def _places(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _error(file: File, offset: int, problem: str) -> DataError:
    return DataError(problem, path=file.path, offset=offset)
