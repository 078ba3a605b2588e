"""Objects written to a store: each appears at once and whole, by one request or one upload of several parts.

Where others may write the same name it is one request on a condition, which the store lets one of them meet.

What an interrupted upload of several parts leaves is no object, but takes room: let a rule of the bucket
remove it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError

from pyimportance.errors import DataError, OutputError
from pyimportance.io import urls
from pyimportance.io.output import Output
from pyimportance.io.remote import ask, locate, store_of

if TYPE_CHECKING:
    from obstore import ObjectMeta, PutResult

_PART = 8 << 20  # bytes
_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000  # S3's limit


@contextmanager
def uploading(url: str) -> Iterator[Output]:
    """A local temporary file that becomes the object when the block ends. Raises OutputError.

    It has no name, so that nothing is left of it when this process is killed.
    """
    try:
        with tempfile.TemporaryFile() as file:
            out = Output(file)
            yield out
            file.flush()
            path, size = Path(f"/proc/self/fd/{file.fileno()}"), file.seek(0, 2)
            _told(url, lambda: _put(url, path, size, out.notes))
    except OutputError:
        raise
    except OSError as e:
        problem = f"its copy among the temporary files cannot be written ({e.strerror or e})"
        raise OutputError(f"{urls.public(url)}: {problem}") from e


def put(url: str, data: bytes, notes: Mapping[str, str] | None = None) -> None:
    """Writes an object, in place of one that is there. Raises OutputError."""
    _told(url, lambda: obstore.put(*locate(url), data, attributes=dict(notes or {}), use_multipart=False))


def create(url: str, data: bytes) -> bool:
    """Writes an object where there is none, by one conditional request; False where there is one.

    That may be this one, of a request whose answer was lost. Raises OutputError.
    """
    return _told(url, lambda: obstore.put(*locate(url), data, mode="create", use_multipart=False))


def update(url: str, data: bytes, wanted: Callable[[], bool]) -> None:
    """Writes an object in place of one of which ``wanted`` holds, whoever else writes it meanwhile.

    ``wanted`` reads the object, and is asked again each time that another process has written it.
    Raises OutputError, also where a server tells no version that a condition could name.
    """
    while True:
        found: Any = ask(lambda: obstore.head(*locate(url)), urls.public(url))
        version: Any = {name: found[name] for name in ("e_tag", "version") if found[name]}
        if not wanted():
            return
        if not version:
            raise OutputError(f"{urls.public(url)}: cannot be replaced safely: its server tells no version")
        if _told(url, partial(obstore.put, *locate(url), data, mode=version, use_multipart=False)):
            return


def delete(paths: Sequence[str]) -> None:
    """Removes objects of one store; those that are gone already are fine. Raises OutputError."""
    if not paths:
        return
    store, names = store_of(paths[0]), [locate(path)[1] for path in paths]

    def gone() -> None:
        try:
            obstore.delete(store, names)
        except FileNotFoundError:  # some stores tell, and say nothing of the others
            for name in names:
                with suppress(FileNotFoundError):
                    obstore.delete(store, name)

    try:
        ask(gone, urls.public(paths[0]))
    except DataError as e:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        raise OutputError(f"{e.path}{more}: cannot be removed ({e.problem})") from None


def notes_of(url: str) -> dict[str, str]:
    """The notes that went with an object. Raises DataError."""
    found = ask(lambda: obstore.get(*locate(url), options={"head": True}), urls.public(url))
    return dict(found.attributes)


def below(url: str) -> dict[str, int]:
    """The objects below a folder: their sizes by name, as seen from there. Raises DataError."""
    return _listed(url, lambda prefix: (o for page in obstore.list(store_of(url), prefix) for o in page))


def inside(url: str) -> dict[str, int]:
    """`below`, without what lies in further folders there."""
    return _listed(url, lambda prefix: obstore.list_with_delimiter(store_of(url), prefix)["objects"])


def _listed(url: str, listed: Callable[[str | None], Iterable[ObjectMeta]]) -> dict[str, int]:
    prefix = urls.parse(url).path.rstrip("/")
    start = len(prefix) + 1 if prefix else 0
    return ask(lambda: {o["path"][start:]: o["size"] for o in listed(prefix or None)}, urls.public(url))


def _put(url: str, path: Path, size: int, notes: dict[str, str]) -> PutResult:
    part = max(_PART, -(-size // _MOST_PARTS))
    return obstore.put(*locate(url), path, attributes=notes, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)


def _told(url: str, tell: Callable[[], object]) -> bool:
    """Tells a server something that it is to keep; False where its condition does not hold.

    OutputError where the server does not do it.
    """

    def told() -> bool:
        try:
            tell()
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    try:
        return ask(told, urls.public(url))
    except DataError as e:
        raise OutputError(f"{e.path}: cannot be written ({e.problem})") from None
