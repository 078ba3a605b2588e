"""Forward: a file read once from its start to its end, decompressed on the way."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any, Final, cast

from pyimportance.errors import DataError
from pyimportance.io.storage import File

COMPRESSIONS: Final = {
    ".gz": "gzip",
    ".tgz": "gzip",
    ".bz2": "bzip2",
    ".tbz": "bzip2",
    ".tbz2": "bzip2",
    ".xz": "xz",
    ".txz": "xz",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".tzst": "zstd",
}
"""By the end of a file's name."""

_REQUEST = 4 << 20  # bytes asked of the storage at a time
_AHEAD = 3  # requests under way to a server
_CHUNK = 1 << 20  # bytes made at a time: what a size claims is never allocated at once
_INPUT = 4 << 10  # bytes of a frame at a time; of zstd 4 bytes may be a block of 128 KiB: at most 128 MiB
_WINDOW = 1 << 27  # of a frame; a longer one is refused (zstd's command refuses it as well)


class Forward:
    """The bytes of ``file`` in order, decompressed by ``compression`` (a value of COMPRESSIONS, or None).

    ``watchers`` are called with what is read of the file, as it lies there.

    Memory: what is asked for, 4 MiB (of a URL 20), and the decoder's own; at most 256 MiB, whatever the data
    say.
    """

    def __init__(
        self, file: File, compression: str | None = None, watchers: Sequence[Callable[[bytes], object]] = ()
    ) -> None:
        self.path = file.path
        raw: IO[bytes] = io.BufferedReader(_Sequential(file, watchers), _REQUEST)
        self._stream: IO[bytes] = _decoder(raw, compression)

    def read(self, nbytes: int) -> bytes:
        """The next ``nbytes`` bytes; fewer at the end. Raises DataError for damaged or cut off data."""
        pieces: list[bytes] = []
        left = nbytes
        while left > 0:
            try:
                piece = self._stream.read(min(left, _CHUNK))
            except _errors() as e:
                raise DataError(f"cannot be decompressed ({e})", path=self.path) from e
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read_all_of(self, nbytes: int, what: str) -> bytes:
        """`read`, but DataError where fewer are left."""
        data = self.read(nbytes)
        if len(data) < nbytes:
            raise DataError(f"ends within {what}: {len(data)} of {nbytes} bytes are there", path=self.path)
        return data


class _Pieces(io.RawIOBase):
    """A stream of what `more` gives, until it gives nothing."""

    _ready = memoryview(b"")

    def more(self) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._ready:
            self._ready = memoryview(self.more())
        nbytes = min(len(buffer), len(self._ready))
        buffer[:nbytes] = self._ready[:nbytes]
        self._ready = self._ready[nbytes:]
        return nbytes


class _Sequential(_Pieces):
    def __init__(self, file: File, watchers: Sequence[Callable[[bytes], object]]) -> None:
        self._requests, self._watchers = _requests(file), watchers

    def more(self) -> bytes:
        data = next(self._requests, b"")
        for watch in self._watchers:
            watch(data)
        return data


def _requests(file: File) -> Iterator[bytes]:
    """The file in pieces; of an object behind a URL, some are asked for ahead."""
    handle, ahead = file.handle, deque[tuple[int, Any]]()
    for at in range(0, file.size, _REQUEST):
        nbytes = min(_REQUEST, file.size - at)
        if isinstance(handle, int):
            yield file.pread(at, nbytes)
            continue
        ahead.append((nbytes, handle.begin(at, nbytes)))
        if len(ahead) > _AHEAD:
            yield _arrived(file, *ahead.popleft())
    while ahead:
        yield _arrived(file, *ahead.popleft())


def _arrived(file: File, nbytes: int, request: Any) -> bytes:
    data = bytes(request.result())
    file.charge(nbytes, 1)
    return data


class _Frames(_Pieces):
    """Frames one after another, each by a decoder of its own.

    The libraries' own readers take a zstd stream that was cut off for a whole one, and give xz what memory
    its header asks for.
    """

    def __init__(self, source: IO[bytes], decoder: Callable[[], Any], padding: bytes = b"") -> None:
        self._source, self._decoder, self._padding = source, decoder, padding
        self._frame: Any = None

    def more(self) -> bytes:
        made = b""
        while not made:
            data = b""
            if self._frame is not None and self._frame.eof:
                data, self._frame = self._frame.unused_data, None
            data = data or self._source.read(_INPUT)
            if not data:
                if self._frame is not None:
                    raise EOFError("it ends within a frame")
                break
            if self._frame is None:
                if not (data := data.lstrip(self._padding)):
                    continue
                self._frame = self._decoder()
            made = self._frame.decompress(data)
        return made


def _decoder(raw: IO[bytes], compression: str | None) -> IO[bytes]:
    if compression == "zstd":
        import zstandard

        zstd = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        return io.BufferedReader(_Frames(raw, zstd.decompressobj), _CHUNK)
    if compression == "xz":
        xz = partial(lzma.LZMADecompressor, memlimit=2 * _WINDOW)
        return io.BufferedReader(_Frames(raw, xz, padding=b"\0"), _CHUNK)
    if compression == "gzip":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if compression == "bzip2":
        return cast("IO[bytes]", bz2.BZ2File(raw))
    return raw


def _errors() -> tuple[type[Exception], ...]:
    """What decoders raise for data that they cannot take."""
    errors: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, lzma.LZMAError)
    import zstandard

    return (*errors, zstandard.ZstdError)
