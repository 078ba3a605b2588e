"""Objects written to a store: each appears at once and whole, by one request or one upload of several parts.

What an interrupted upload of several parts leaves is no object, but takes room: let a rule of the bucket
remove it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError

from pyimportance.errors import DataError, OutputError
from pyimportance.io import urls
from pyimportance.io.output import Output
from pyimportance.io.remote import ask, locate, store_of
from pyimportance.io.storage import read_whole

if TYPE_CHECKING:
    from obstore import PutResult

T = TypeVar("T")

_PART = 8 << 20  # bytes
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000  # S3's limit


@contextmanager
def uploading(url: str) -> Iterator[Output]:
    """A local temporary file that becomes the object when the block ends. Raises OutputError."""
    try:
        with tempfile.NamedTemporaryFile(prefix="pyimportance-") as file:
            out = Output(file)
            yield out
            file.flush()
            path, size = Path(file.name), file.seek(0, 2)
            _told(url, lambda: _put(url, path, size, out.notes))
    except OutputError:
        raise
    except OSError as e:
        problem = f"its copy among the temporary files cannot be written ({e.strerror or e})"
        raise OutputError(f"{urls.public(url)}: {problem}") from e


def put(url: str, data: bytes) -> None:
    """Writes an object, in place of one that is there. Raises OutputError."""
    _told(url, lambda: obstore.put(*locate(url), data, use_multipart=False))


def create(url: str, data: bytes) -> None:
    """Writes an object where there is none, by one conditional request. OutputError where another is there.

    One with the same bytes is this one: of an attempt whose answer was lost, or of a twin of this process.
    """
    try:
        _told(url, lambda: obstore.put(*locate(url), data, mode="create"))
    except FileExistsError:
        if read_whole(url) != data:
            raise OutputError(f"{urls.public(url)}: another process has written it meanwhile") from None


def notes_of(url: str) -> dict[str, str]:
    """The notes that went with an object. Raises DataError."""
    found = ask(lambda: obstore.get(*locate(url), options={"head": True}), urls.public(url))
    return dict(found.attributes)


def below(url: str) -> dict[str, int]:
    """The objects below a folder: their sizes by name, as seen from there. Raises DataError."""
    prefix = urls.parse(url).path
    start = len(prefix) + 1 if prefix else 0
    return ask(
        lambda: {
            found["path"][start:]: found["size"]
            for page in obstore.list(store_of(url), prefix or None)
            for found in page
        },
        urls.public(url),
    )


def _put(url: str, path: Path, size: int, notes: dict[str, str]) -> PutResult:
    part = max(_PART, -(-size // _MOST_PARTS))
    return obstore.put(*locate(url), path, attributes=notes, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)


def _told(url: str, tell: Callable[[], T]) -> T:
    """What a server answers to something that it is to keep. OutputError where it does not."""

    def told() -> T | None:
        try:
            return tell()
        except AlreadyExistsError:
            return None

    try:
        answer = ask(told, urls.public(url))
    except DataError as e:
        raise OutputError(f"{e.path}: cannot be written ({e.problem})") from None
    if answer is None:
        raise FileExistsError(url)
    return answer
