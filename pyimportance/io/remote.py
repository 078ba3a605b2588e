"""Objects behind URLs, read by ranges through obstore.

Where they are and who may read them, obstore takes from its usual environment variables (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_NAME, ..). It tries again what may be
tried again: refused and broken connections, time-outs, 5xx answers, and bodies that break off, from where
they did. What an object is was settled when it was opened: a range of anything else is an error. A process
that was forked from one that had read URLs, where obstore's threads are missing, reads through another
(relay.py); what is no reading it does not do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import BaseError, NotSupportedError, PreconditionError
from obstore.store import AzureStore, GCSStore, HTTPStore, S3Store

from pyimportance.errors import DataError
from pyimportance.io import relay, urls
from pyimportance.io.meter import Meter
from pyimportance.io.storage import ChangedError, File

if TYPE_CHECKING:
    from obstore import Bytes, ObjectMeta
    from obstore.store import ObjectStore, RetryConfig

T = TypeVar("T")

AT_ONCE: Final = 32
"""Requests under way ahead of those that somebody waits for, in the whole process."""

_RETRY: RetryConfig = {"max_retries": 8, "retry_timeout": timedelta(minutes=2)}
_TIMEOUT = timedelta(seconds=60)  # of a request to a web server; stores have environment variables for theirs
_ASKED = (BaseError, OSError, ValueError)  # what obstore raises
_RETRIES = re.compile(r"after ([1-9]\d*) retries")


class RemoteFile(File):
    """An object that is open for reading: of one size, and of one version where the server tells it.

    Get one from `storage.open_file`. Native code asks for ranges by `fetch` and `begin`, and counts them.
    """

    def __init__(self, url: str, meter: Meter | None, tier: str) -> None:
        size, self._tag, since = relay.describe(url) if _in_fork() else describe(url)
        super().__init__(urls.public(url), size, self._tag or since, meter, tier)
        self._url, self._closed = url, False

    @property
    def handle(self) -> RemoteFile:
        return self

    def close(self) -> None:
        self._closed = True

    def fetch(self, offset: int, nbytes: int) -> Bytes | bytearray:
        """``nbytes`` bytes, 1 or more, from ``offset`` in one request, not counted. Raises DataError."""
        if self._closed:
            raise ValueError(f"{self.path}: is closed")
        if _in_fork():
            return relay.get_range(self._url, self.size, self._tag, offset, nbytes)
        return get_range(self._url, self.size, self._tag, offset, nbytes)

    def begin(self, offset: int, nbytes: int) -> Future[Bytes | bytearray]:
        """`fetch`, in another thread."""
        return _ahead().submit(self.fetch, offset, nbytes)

    def read_uncounted(self, offset: int, nbytes: int) -> tuple[bytes, int, int]:
        return (bytes(self.fetch(offset, nbytes)), nbytes, 1) if nbytes else (b"", 0, 0)


def describe(url: str) -> tuple[int, str | None, str | None]:
    """(size, ETag, time of change) of an object, as far as the server tells. Raises DataError."""
    store, name = locate(url)
    meta = ask(lambda: _describe(store, name), urls.public(url))
    since = meta["last_modified"].timestamp()  # 0 where the server tells none
    return meta["size"], meta["e_tag"], str(since) if since else None


def get_range(url: str, size: int, tag: str | None, offset: int, nbytes: int) -> Bytes:
    """A range of the object that was so large, and of this version. Raises DataError."""
    store, name = locate(url)
    path = urls.public(url)

    def changed(how: str) -> ChangedError:
        return ChangedError(f"was changed while it was being read: {how}", path=path, offset=offset)

    def get() -> Bytes:
        options: Any = {"range": (offset, offset + nbytes)}
        if tag and not tag.startswith("W/"):  # no weak tag ever equals one of If-Match
            options["if_match"] = tag
        try:
            found = obstore.get(store, name, options=options)
        except PreconditionError:
            raise changed(f"its version is no longer {tag}") from None
        if (now := found.meta["size"]) != size:
            raise changed(f"it has {now} bytes now and had {size}")
        if (version := found.meta["e_tag"]) != tag:
            raise changed(f"its version is {version} now and was {tag}")
        data = found.bytes()
        if len(data) != nbytes:
            raise DataError(f"the server sent {len(data)} of {nbytes} bytes", path=path, offset=offset)
        return data

    return ask(get, path, offset)


def _describe(store: ObjectStore, name: str) -> ObjectMeta:
    """Size and version, by HEAD; by a byte where that is refused, as for URLs that are signed for GET."""
    try:
        return obstore.head(store, name)
    except _ASKED as refused:
        if not isinstance(store, HTTPStore) or _RETRIES.search(str(refused)):
            raise  # a server that did not answer will not answer to something else
        try:
            return obstore.get(store, name, options={"range": (0, 1)}).meta
        except _ASKED:
            raise refused from None


def is_there(url: str) -> bool:
    """Whether there is such an object. Raises DataError where the server does not tell."""

    def found() -> bool:
        try:
            return bool(_describe(*locate(url)))
        except FileNotFoundError:
            return False

    return ask(found, urls.public(url))


def locate(url: str) -> tuple[ObjectStore, str]:
    """(the store, the object's name in it). Raises DataError for a URL that cannot name an object."""
    store, name = store_of(url), urls.parse(url).path
    if any(part in ("", ".", "..") for part in name.split("/")):
        problem = "names no object: none has an empty name, '.' or '..' between slashes"
        raise DataError(problem, path=urls.public(url))
    return store, name


def store_of(url: str) -> ObjectStore:
    """One for all objects of a bucket or host, so that connections are used again. Raises DataError."""
    parsed = urls.parse(url)
    if not parsed.host:
        raise DataError(f"names no {'host' if parsed.is_http else 'bucket'}", path=urls.public(url))
    if parsed.user and not parsed.is_http:
        problem = "holds credentials; they belong into environment variables"
        raise DataError(problem, path=urls.public(url))
    return _store(parsed.scheme, parsed.user, parsed.host, parsed.query)


@lru_cache(maxsize=64)
def _store(scheme: str, user: str, host: str, query: str) -> ObjectStore:
    if scheme == "s3":
        return S3Store(host, retry_config=_RETRY)
    if scheme == "gs":
        return GCSStore(host, retry_config=_RETRY)
    if scheme == "az":
        return AzureStore(host, retry_config=_RETRY)
    root = str(urls.URL(scheme, user, host, "", query))
    return HTTPStore(
        root, client_options={"allow_http": scheme == "http", "timeout": _TIMEOUT}, retry_config=_RETRY
    )


@lru_cache(maxsize=1)
def _ahead() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="pyimportance-remote")


os.register_at_fork(after_in_child=_ahead.cache_clear)  # a fork has none of the threads

_process: list[int] = []  # the one whose threads obstore has


def _in_fork() -> bool:
    """Whether this process was forked from one that had read URLs: obstore does not work in it."""
    return bool(_process) and _process != [os.getpid()]


def ask(ask: Callable[[], T], path: str, offset: int | None = None) -> T:
    """What a server answers. Raises DataError naming ``path`` and ``offset`` where it does not."""
    if not _process:
        _process.append(os.getpid())
    if _in_fork():
        raise DataError(
            "cannot be asked for here: this process was forked from one that had read URLs, and has none of "
            "its threads; start it by 'spawn' or 'forkserver'",
            path=path,
            offset=offset,
        )
    try:
        return ask()
    except DataError:
        raise
    except _ASKED as e:
        # Not its own text: URLs stand in it as they were asked for, signatures and all.
        raise DataError(_reason(e), path=path, offset=offset) from None


def _reason(error: Exception) -> str:
    said, _, debug = str(error).partition("Debug source:")
    retries = _RETRIES.search(said)
    status = re.search(r"status code: (\d{3}[^:\n]*)", said)
    sent = re.search(r"Requested \d+\.\.\d+, got (\d+)\.\.(\d+)", said)
    certificate = re.search(r"InvalidCertificate\(\s*(\w+)", debug)
    cause = re.findall(r'(?:message|error): "([^"\n]+)"', debug)
    if status:
        reason = f"the server answered {status[1].strip()}"
        if status[1].startswith("404"):
            reason = f"does not exist ({reason})"
        elif status[1].startswith(("401", "403")):
            reason = f"access is denied ({reason})"
    elif sent:
        reason = f"the server sent bytes {sent[1]} to {sent[2]} instead of those that it was asked for"
    elif isinstance(error, FileNotFoundError):
        reason = "does not exist"
    elif isinstance(error, NotSupportedError):
        reason = "the server sends whole files only, not the ranges that it is asked for"
    elif certificate:
        reason = f"its certificate is not accepted ({certificate[1]}); SSL_CERT_FILE names whom to trust"
    elif "TimedOut" in debug or "kind: Timeout" in debug:
        reason = "the server does not answer in time"
    elif "IncompleteBody" in debug:
        reason = "the server ended its answer early"
    elif cause:
        reason = f"cannot be asked for ({cause[-1]})"
    else:
        reason = re.sub(r"\w+://\S+", "its URL", said.strip().partition("\n")[0])
    return reason + (f", also when asked {retries[1]} times more" if retries else "")
