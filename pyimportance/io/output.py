"""Files and objects as they are written: whole or not at all, wherever they go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pyimportance.io import atomic, urls


class Output:
    """Something that is being written. ``notes`` go with an object, as its metadata; a file has none."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.notes: dict[str, str] = {}

    def fileno(self) -> int:
        return self.file.fileno()


@contextmanager
def writing(path: str) -> Iterator[Output]:
    """What becomes the file or the object when the block ends, and nothing if the block raises.

    See `atomic.writing`; of an object a copy lies among the temporary files until it is sent. Raises
    OutputError.
    """
    if urls.is_url(path):
        from pyimportance.io.upload import uploading

        with uploading(path) as out:
            yield out
    else:
        with atomic.writing(path) as file:
            yield Output(file)


def write_bytes(path: str, data: bytes) -> None:
    """`writing`, for what is at hand."""
    if urls.is_url(path):
        from pyimportance.io.upload import put

        put(path, data)
    else:
        atomic.write_bytes(path, data)


def write_last(path: str, data: bytes) -> None:
    """Writes what makes all before it count; in a store only where nothing is yet, or just this.

    Raises OutputError, also where a store has something else there.
    """
    if urls.is_url(path):
        from pyimportance.io.upload import create

        create(path, data)
    else:
        atomic.write_bytes(path, data)
