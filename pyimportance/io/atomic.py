"""Writes files whole or not at all: temporary name, fsync, rename, fsync of the directory."""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from pyimportance.errors import OutputError, PyimportanceError

_TEMPORARY = re.compile(r"(?P<name>.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)


@contextmanager
def writing(
    path: str | os.PathLike[str], *, sync: bool = True, sync_name: bool = True
) -> Iterator[IO[bytes]]:
    """A binary file that becomes ``path`` when the block ends, and vanishes if the block raises.

    sync       False: the block syncs what it has written
    sync_name  False: its name need not survive a crash yet; whoever counts on it calls `sync_directory`, or
               writes another file there, once for many
    Readers see the old file or the whole new one, also after a crash. Raises OutputError naming ``path``
    where something cannot be written (no space left, no such directory, not allowed, or ``path`` is a
    device, a pipe or a directory, which a rename would replace).
    """
    target, temporary = _names(path)
    done = False
    try:
        with open(temporary, "xb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, target)
        done = True
        if sync_name:
            sync_directory(os.path.dirname(target) or ".")
    except PyimportanceError:
        raise
    except OSError as e:
        raise OutputError(f"{target}: cannot be written ({e.strerror or e})") from e
    finally:
        if not done:
            with suppress(OSError):
                os.unlink(temporary)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where `writing` could not even begin, so that no long work is done for nothing."""
    target, temporary = _names(path)
    try:
        with open(temporary, "xb"):
            os.unlink(temporary)
    except OSError as e:
        raise OutputError(f"{target}: cannot be written ({e.strerror or e})") from e


def _names(path: str | os.PathLike[str]) -> tuple[str, str]:
    """(the file to write, its temporary name)"""
    target = os.fspath(path)
    if os.path.lexists(target) and not os.path.isfile(target):
        raise OutputError(f"{target}: exists and is no regular file")
    return target, f"{target}.{secrets.token_hex(4)}.tmp"


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """`writing`, for a file at hand."""
    with writing(path) as file:
        file.write(data)


def make_directory(path: str | os.PathLike[str]) -> None:
    """Makes a directory with its parents; one that exists is fine. Raises OutputError."""
    name = os.fspath(path)
    try:
        path, missing = os.path.abspath(name), []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            with suppress(FileExistsError):  # another process made it, or it is a file
                os.mkdir(path)
            sync_directory(os.path.dirname(path))
        if not os.path.isdir(name):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as e:
        raise OutputError(f"{name}: cannot be made ({e.strerror or e})") from e


def check_makable(path: str | os.PathLike[str]) -> None:
    """Raises OutputError where `make_directory` could not begin, see `check_writable`."""
    name = os.fspath(path)
    existing = os.path.abspath(name)
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    if not os.path.isdir(existing):
        raise OutputError(f"{name}: cannot be made ({existing} is no directory)")
    if existing != os.path.abspath(name) and not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{name}: cannot be made ({existing} may not be written)")


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Makes renames in a directory survive a crash."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def temporary_of(name: str) -> str | None:
    """The file that ``name`` was to become, if it is what a killed `writing` leaves behind, else None."""
    match = _TEMPORARY.fullmatch(name)
    return match["name"] if match else None
