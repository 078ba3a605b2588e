"""Files and objects as they are written: whole or not at all, wherever they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from pyimportance.errors import OutputError
from pyimportance.io import atomic, urls
from pyimportance.io.storage import read_whole


class Output:
    """Something that is being written. ``notes`` go with an object, as its metadata; a file has none."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.notes: dict[str, str] = {}

    def fileno(self) -> int:
        return self.file.fileno()


@contextmanager
def writing(path: str, *, sync: bool = True, sync_name: bool = True) -> Iterator[Output]:
    """What becomes the file or the object when the block ends, and nothing if the block raises.

    See `atomic.writing`; of an object a copy lies among the temporary files until it is sent. Raises
    OutputError.
    """
    if urls.is_url(path):
        from pyimportance.io.upload import uploading

        with uploading(path) as out:
            yield out
    else:
        with atomic.writing(path, sync=sync, sync_name=sync_name) as file:
            yield Output(file)


def write_bytes(path: str, data: bytes, notes: Mapping[str, str] | None = None) -> None:
    """`writing`, for what is at hand."""
    if urls.is_url(path):
        from pyimportance.io.upload import put

        put(path, data, notes)
    else:
        atomic.write_bytes(path, data)


def create(path: str, data: bytes) -> bool:
    """Writes what makes all before it count; False where a store has it, or anything, there already.

    In a folder a lock keeps others off. Raises OutputError.
    """
    if urls.is_url(path):
        from pyimportance.io import upload

        return upload.create(path, data)
    atomic.write_bytes(path, data)
    return True


def write_last(path: str, data: bytes) -> None:
    """`create`; OutputError where a store has something else there.

    The same bytes are these: of an attempt whose answer was lost, or of a twin of this process.
    """
    if not create(path, data) and read_whole(path) != data:
        raise OutputError(f"{urls.public(path)}: another process has written it meanwhile")


def update(path: str, data: bytes, wanted: Callable[[], bool]) -> None:
    """Writes in place of what is there, if ``wanted`` holds of that; in a folder a lock keeps others off.

    Raises OutputError.
    """
    if urls.is_url(path):
        from pyimportance.io import upload

        upload.update(path, data, wanted)
    elif wanted():
        atomic.write_bytes(path, data)
