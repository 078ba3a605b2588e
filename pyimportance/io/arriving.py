"""Arriving: an object behind a URL as the loader reads it, ahead of when it is needed and through a cache."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pyimportance.errors import DataError
from pyimportance.io import urls
from pyimportance.io.downloads import ClosedError, Downloads
from pyimportance.io.entry import Entry
from pyimportance.io.meter import Meter
from pyimportance.io.node_cache import NodeCache
from pyimportance.io.storage import File

if TYPE_CHECKING:
    from pyimportance.io.remote import RemoteFile

PIECE: Final = 4 << 20
"""Bytes of a request at most."""
JOIN: Final = 16 << 10
"""What is missing is fetched in one request where less than this, missing too, lies between."""
_POLL = 0.01  # seconds between looks at what another process fetches
_PATIENCE = 60.0  # seconds after which we fetch it ourselves
_log = logging.getLogger("pyimportance")

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Origin:
    """Where objects are read from, and what is known of them.

    cache    None: each is fetched whenever it is read
    objects  URL -> (bytes, CRC32C), from a manifest. What is known need not be asked for
    """

    cache: NodeCache | None = None
    objects: Mapping[str, tuple[int, int]] = field(default_factory=dict)


class NoRoomError(Exception):
    """The cache has no room for this, or not just now."""


class Arriving(File):
    """Counts by itself: "origin" what it fetched, "cache" what it found there.

    With a cache, only what is missing of it is fetched: by one process of the node, in pieces of `PIECE`
    bytes at most. What is there was checked by its CRC32C when this process first came to it, and is fetched
    again where it is damaged. An object that is all there is checked by the checksum that it should have.
    Where the cache has no room, or what is in it is of another version of the object and in use, or the
    server does not say which version an object is of that no manifest knows, the object is read past it.

    Raises DataError as `RemoteFile` does, OutputError where the cache cannot be used.
    """

    def __init__(self, url: str, origin: Origin, downloads: Downloads, meter: Meter) -> None:
        self._url, self._cache, self._downloads = url, origin.cache, downloads
        self._opening, self._holding = threading.Lock(), threading.Lock()
        self._remote: RemoteFile | None = None
        self._refused: DataError | None = None
        self._entry: Entry | None = None
        self._key: str | None = None
        self._stale = False
        self._known: int | None
        self._crc32c: int | None
        self._known, self._crc32c = origin.objects.get(url, (None, None))
        size = self.remote().size if self._known is None else self._known
        super().__init__(urls.public(url), size, None, meter, "origin")
        self.count: Callable[..., None] = meter.add

    @property
    def handle(self) -> Arriving:
        return self

    def charge(self, nbytes: int, requests: int) -> None:
        """Nothing: whatever asks for a range need not know where it came from."""

    def fetch(self, offset: int, nbytes: int) -> bytes:
        """``nbytes`` bytes from ``offset``. Raises DataError."""
        return self.read_uncounted(offset, nbytes)[0]

    def begin(self, offset: int, nbytes: int) -> Future[Any] | Coming:
        """`fetch`, in other threads."""
        request = self.request([(offset, offset + nbytes)], lambda handle: None)
        if request.entry is not None:
            return Coming(request, offset, nbytes)
        return self._downloads.submit(partial(self.from_origin, offset, offset + nbytes))

    def close(self) -> None:
        self._entry = None  # closed with the last request that reads it

    def read_uncounted(self, offset: int, nbytes: int) -> tuple[bytes, int, int]:
        if nbytes == 0:
            return b"", 0, 0
        request = self.request([(offset, offset + nbytes)], lambda handle: None)
        return Coming(request, offset, nbytes).result(), 0, 0

    def remote(self) -> RemoteFile:
        """The object itself, opened when it is first needed. Raises DataError."""
        from pyimportance.io.remote import RemoteFile

        with self._opening:
            if self._refused is not None:
                raise self._refused
            if self._remote is None:
                try:
                    remote = RemoteFile(self._url, None, "origin")
                    if self._known not in (None, remote.size):
                        problem = f"has {remote.size} bytes; {self._known} were written"
                        raise DataError(problem, path=remote.path)
                except DataError as error:
                    self._refused = error  # not to be asked again for every piece
                    raise
                self._remote = remote
            return self._remote

    def from_origin(self, begin: int, end: int) -> Any:
        """These bytes from the server, counted."""
        data = self.remote().fetch(begin, end - begin)
        self.count("origin", end - begin)
        return data

    def call(self, call: Callable[[], Any]) -> Any:
        """What it returns in a thread of the downloads. Raises DataError where they are closed."""
        try:
            return self._downloads.submit(call).result()
        except ClosedError:
            raise DataError("is not read any more", path=self.path) from None

    def request(self, spans: Spans, then: Callable[[int | Handle], object]) -> Request:
        """Begins to fetch what is missing of ``spans`` (begin, end), ascending and apart.

        ``then`` is called once, here or in another thread, with what they can be read through.
        """
        with self._holding:
            entry = self._held()
        request = Request(self, entry, spans, then)
        request.begin(self._downloads)
        return request

    def _held(self) -> Entry | None:
        """The entry of the object, held; None where it is to be read past the cache."""
        if self._cache is None or self.size == 0 or self._is_nameless:
            return None
        for _ in range(100):
            if self._entry is None:
                self._key, self._entry = self._cache.entry(self._url, self.size, self._crc32c)
            entry, self._entry = self._entry, None
            if entry is None:
                _log.warning("%s: is read past the cache, where %s is no entry", self.path, self._key)
                return None
            if self._stale and self._key is not None:
                self._stale = not self._cache.remove(self._key)
            if entry.hold():
                if not self._stale and (self._remote is None or entry.is_of(self._remote.version)):
                    self._entry = entry
                    return entry
                entry.let_go()
                if self._stale:
                    return None
                self._stale = True
            elif not entry.is_gone:
                time.sleep(_POLL)  # it is being removed
        return None

    @property
    def _is_nameless(self) -> bool:
        """Whether nothing would tell it from another one of its size, which may have been there before."""
        return self._known is None and self._remote is not None and self._remote.version is None

    def settle(self, entry: Entry, begin: int, end: int) -> None:
        """Has these bytes in the entry, sound. Raises DataError, NoRoomError, ClosedError, OSError."""
        until = time.monotonic() + _PATIENCE
        missing = sum(e - b for b, e in entry.gaps(begin, end))
        while True:
            entry.refresh()
            damaged = [extent for extent in entry.unchecked(begin, end) if not entry.check(extent)]
            if not damaged and not entry.gaps(begin, end):
                break
            hull = entry.hull(begin, end)
            if entry.claim(*hull):
                try:
                    if entry.hull(begin, end) == hull:
                        missing -= self._mend(entry, begin, end)
                finally:
                    entry.free(*hull)
            elif self._downloads.closed:
                raise ClosedError
            elif time.monotonic() > until:
                raise NoRoomError
            else:
                time.sleep(_POLL)
        if missing > 0:  # another process has fetched it
            self.count("cache", missing)
        if self._crc32c is not None and entry.is_complete and not entry.whole:
            self._check_whole(entry, self._crc32c, begin)

    def _mend(self, entry: Entry, begin: int, end: int) -> int:
        """Fetches what is damaged or missing of bytes that are claimed; how much that is."""
        self._drop_damaged(entry, begin, end)
        for b, e in (gaps := entry.gaps(begin, end)):
            if self._downloads.closed:
                raise ClosedError
            if not entry.is_of(self.remote().version):
                self._stale = True
                raise NoRoomError
            assert self._cache is not None
            if not self._cache.reserve(entry, b, e - b):
                raise NoRoomError
            entry.put(b, memoryview(self.from_origin(b, e)))
        return sum(e - b for b, e in gaps)

    def _drop_damaged(self, entry: Entry, begin: int, end: int) -> None:
        entry.refresh()
        for extent in entry.unchecked(begin, end):
            if not entry.check(extent):
                _log.warning("%s: is damaged in the cache at %s, and fetched again", self.path, extent.begin)
                entry.drop(extent)

    def _check_whole(self, entry: Entry, crc32c: int, offset: int) -> None:
        while not entry.claim(0, self.size):
            entry.refresh()
            if entry.whole or not entry.is_complete or self._downloads.closed:
                return
            time.sleep(_POLL)
        try:
            self._drop_damaged(entry, 0, self.size)  # which is no fault of the origin
            if entry.is_complete and not entry.whole and (found := entry.check_whole(crc32c)) is not None:
                problem = f"has CRC32C {found:#010x}; the manifest says {crc32c:#010x}"
                raise DataError(problem, path=self.path, offset=offset)
        finally:
            entry.free(0, self.size)


class Request:
    """Parts of an object on their way. Who asked for them keeps it until they are read, then `end`s it."""

    def __init__(
        self, file: Arriving, entry: Entry | None, spans: Spans, then: Callable[[int | Handle], object]
    ) -> None:
        self.file, self.entry, self._spans = file, entry, spans
        self._then: Callable[[int | Handle], object] | None = then
        self.failed: list[tuple[int, int, DataError]] = []
        self._past = entry is None
        self._error: BaseException | None = None
        self._lock, self._left = threading.Lock(), 1
        self._done = threading.Event()

    def __enter__(self) -> Request:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def begin(self, downloads: Downloads) -> None:
        if (entry := self.entry) is not None:
            entry.refresh()
            pieces = self._pieces(entry)
            self._left += len(pieces)
            for begin, end in pieces:
                fetched = downloads.submit(partial(self.file.settle, entry, begin, end))
                fetched.add_done_callback(partial(self._settled, begin, end))
        self._one_less()

    def wait(self) -> None:
        """Until ``then`` was called. Raises what it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Nobody reads what was asked for any more."""
        entry, self.entry = self.entry, None
        if entry is not None:
            entry.let_go()

    def _pieces(self, entry: Entry) -> list[tuple[int, int]]:
        """What is to be fetched, in requests, and what is to be checked; counts what is found."""
        pieces: list[tuple[int, int]] = []
        missing: list[tuple[int, int]] = []
        found = requests = 0
        for begin, end in self._spans:
            gaps = entry.gaps(begin, end)
            here = end - begin - sum(e - b for b, e in gaps)
            found, requests = found + here, requests + (here > 0)
            for b, e in gaps:
                last = missing[-1][1] if missing else -JOIN
                joins = b == last or (b - last < JOIN and entry.gaps(last, b) == [(last, b)])
                missing.append((missing.pop()[0] if joins else b, e))
            pieces += [(x.begin, x.end) for x in entry.unchecked(begin, end)]
        if found:
            self.file.count("cache", found, requests)
        for begin, end in missing:
            pieces += [(at, min(at + PIECE, end)) for at in range(begin, end, PIECE)]
        return sorted(set(pieces))

    def _settled(self, begin: int, end: int, future: Future[None]) -> None:
        error = future.exception()
        if isinstance(error, ClosedError):
            error = DataError("is not read any more", path=self.file.path)
        if isinstance(error, DataError):
            with self._lock:
                self.failed.append((begin, end, error))
        elif isinstance(error, NoRoomError | OSError):
            self._past = True
        elif error is not None:
            self._error = error
        self._one_less()

    def _one_less(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        then, self._then = self._then, None  # it knows the reader, which will know the handle
        assert then is not None
        try:
            if self.entry is not None and not self._past and not self.failed:
                then(self.entry.fileno())
            else:
                then(Handle(self.file, self.entry, self.failed))
        except BaseException as error:
            self._error = error
        self._done.set()


class Coming:
    """Bytes of a request that is on its way."""

    def __init__(self, request: Request, offset: int, nbytes: int) -> None:
        self._request, self._range = request, (offset, nbytes)

    def result(self) -> bytes:
        """To be asked for once. Raises DataError."""
        with self._request as request:
            request.wait()
            return bytes(Handle(request.file, request.entry, request.failed).fetch(*self._range))

    def cancel(self) -> None:
        self._request.end()

    __del__ = cancel


class Handle:
    """What native code reads an object through that is not all in the cache."""

    def __init__(self, file: Arriving, entry: Entry | None, failed: list[tuple[int, int, DataError]]) -> None:
        self._file, self._entry, self._failed = file, entry, failed

    @property
    def is_cached(self) -> bool:
        return self._entry is not None

    def fetch(self, offset: int, nbytes: int) -> Any:
        """``nbytes`` bytes, 1 or more, from ``offset``. Raises DataError, for what failed before at once."""
        end = offset + nbytes
        for b, e, error in self._failed:
            if offset < e and b < end:
                raise DataError(error.problem, path=self._file.path, offset=error.offset)
        entry = self._entry
        if entry is not None and not entry.gaps(offset, end):
            return os.pread(entry.fileno(), nbytes, offset)
        try:
            return self._file.call(lambda: self._file.from_origin(offset, end))
        except DataError as error:
            self._failed.append((offset, end, error))
            raise
