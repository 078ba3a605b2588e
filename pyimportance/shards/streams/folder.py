"""Folders of files: a sample is the files of one name, its class the folder they lie in.

    root/cat/a.jpg  root/cat/a.json  root/dog/b.jpg    samples cat/a (jpg, json, cls 0) and dog/b (jpg, cls 1)
    root/a.jpg  root/a.json                            without folders there are no classes

Names are split as WebDataset splits those of members: the extension begins at the first dot. Classes are
numbered by the sorted names of the folders; files beside them are left out. So are names without an
extension or with a dot in front, whatever they are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from itertools import groupby

from pyimportance.errors import DataError
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.shards.streams.stream import Sample, Samples, State, Stream

_CLASS = "cls"


def stream_of(root: str) -> Stream:
    """A unit per class, or one where there are no folders. Raises DataError where there are no files."""
    classes = sorted(entry.name for entry in _entries(root) if entry.is_dir())
    for name in classes:
        if os.path.exists(os.path.join(root, name, "index.json")):
            raise DataError(f"holds directories with an index.json ({name!r}); name one of them", path=root)
    if classes:
        units = [_unit(root, name, number) for number, name in enumerate(classes)]
    else:
        units = [_unit(root, "", None)]
    units = [unit for unit in units if next(_files(root, unit.name), None) is not None]
    if not units:
        raise DataError(
            "is a directory without *.tar files, and without others named KEY.EXTENSION", path=root
        )
    return Stream(f"the folder {root!r}", tuple(units), folder=root)


def _unit(root: str, name: str, number: int | None) -> Samples:
    return Samples(
        name, os.path.join(root, name), partial(_read, root, name, number), partial(_state, root, name)
    )


def _read(root: str, folder: str, number: int | None, meter: Meter | None) -> Iterator[Sample]:
    for key, group in groupby(_files(root, folder), key=lambda f: f[0]):
        parts: dict[str, bytes] = {} if number is None else {_CLASS: b"%d" % number}
        for _, extension, path in group:
            if extension in parts:
                also = "the class of its folder is one" if extension == _CLASS else "two files have it"
                raise DataError(f"the extension {extension!r} of sample {key!r} repeats: {also}", path=path)
            with open_file(path, meter, "origin") as file:
                parts[extension] = file.pread(0, file.size)
        yield key, parts


def _state(root: str, folder: str) -> State:
    """A digest of the names, sizes and times of all files."""
    digest, nbytes = hashlib.sha256(), 0
    for key, extension, path in _files(root, folder):
        try:
            status = os.stat(path)
        except OSError as e:
            raise DataError(f"cannot be read ({e.strerror})", path=path) from None
        digest.update(f"{key}\0{extension}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        nbytes += status.st_size
    return State(digest.hexdigest(), nbytes)


def _files(root: str, folder: str) -> Iterator[tuple[str, str, str]]:
    """(key, extension, path) of every file below ``folder``, those of one key together."""
    yield from _walk(os.path.join(root, folder) if folder else root, folder, ())


def _walk(directory: str, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    real = os.path.realpath(directory)
    if real in above:
        raise DataError("is a link to a folder that it lies in", path=directory)
    files, folders = [], []
    for entry in _entries(directory):
        if entry.is_dir():
            folders.append(entry.name)
        else:
            name, dot, extension = entry.name.partition(".")
            if not _is_utf8(entry.name):
                raise DataError(
                    "its name is not UTF-8", path=os.fsencode(entry.path).decode(errors="replace")
                )
            if name and dot and extension:
                key = f"{prefix}/{name}" if prefix else name
                files.append((key, extension.lower(), entry.path))
    yield from sorted(files)
    if prefix:  # folders in the folder of a class are of that class
        for name in sorted(folders):
            yield from _walk(os.path.join(directory, name), f"{prefix}/{name}", (*above, real))


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    """What lies there and has no dot in front. Raises DataError."""
    try:
        with os.scandir(directory) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as e:
        raise DataError(f"cannot be read ({e.strerror})", path=directory) from None


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
