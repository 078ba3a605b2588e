"""SampleIndex: where every sample lies, and each of its parts, in sources and in our own shards."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.io import urls
from pyimportance.shards import keys
from pyimportance.threads import default_threads

BLOCK = 512  # of a tar: headers and payloads start at multiples of it
MAX_EXTENSION = 1024  # bytes


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """N samples in F files, with P parts in all. Arrays are made read-only.

    files       paths of the tars, or their URLs
    file_bytes  int64 [F] their sizes
    ids         int64 [N] sample ids, distinct; 0..N-1 for a source
    keys        pyarrow large_string [N]
    file        int32 [N] which file, ascending
    offset      int64 [N] of the sample's first header
    nbytes      int64 [N] headers, payloads and padding
    extensions  distinct extensions, lower case, without the leading dot
    part_start  int64 [N + 1]: sample i has the parts part_start[i] to part_start[i + 1]
    part_ext    int32 [P] into extensions
    part_offset int64 [P] of the payload in the file
    part_size   int64 [P] of the payload in bytes
    part_crc32c uint32 [P] of the payload, or None if not known
    score       float32 [N], or None if not known
    bin         int32 [N], or None if there are none
    frame       int32 [N] the frame of a compressed tar that each begins in, or None if tars are plain. Other
                places and sizes are those in the tar, compressed or not

    Raises ArgumentError where the arrays do not fit together, a part lies outside its sample or file, or a
    key leads out of the folder it would be unpacked into.
    """

    files: tuple[str, ...]
    file_bytes: NDArray[np.int64]
    ids: NDArray[np.int64]
    keys: Any
    file: NDArray[np.int32]
    offset: NDArray[np.int64]
    nbytes: NDArray[np.int64]
    extensions: tuple[str, ...]
    part_start: NDArray[np.int64]
    part_ext: NDArray[np.int32]
    part_offset: NDArray[np.int64]
    part_size: NDArray[np.int64]
    part_crc32c: NDArray[np.uint32] | None = None
    score: NDArray[np.float32] | None = None
    bin: NDArray[np.int32] | None = None
    frame: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        N, P, F = len(self.ids), len(self.part_ext), len(self.files)
        shapes: dict[str, tuple[type[np.generic], int]] = {
            "file_bytes": (np.int64, F),
            "ids": (np.int64, N),
            "file": (np.int32, N),
            "offset": (np.int64, N),
            "nbytes": (np.int64, N),
            "part_start": (np.int64, N + 1),
            "part_ext": (np.int32, P),
            "part_offset": (np.int64, P),
            "part_size": (np.int64, P),
            "part_crc32c": (np.uint32, P),
            "score": (np.float32, N),
            "bin": (np.int32, N),
            "frame": (np.int32, N),
        }
        for name, (dtype, length) in shapes.items():
            array = getattr(self, name)
            if array is None:
                continue
            if array.dtype != dtype or array.shape != (length,):
                raise ArgumentError(
                    f"{name} is {array.dtype} {list(array.shape)}; "
                    f"expected {np.dtype(dtype).name} [{length}] for {N} samples, {P} parts, {F} files"
                )
            array.setflags(write=False)
        if self.keys.type != pa.large_string() or len(self.keys) != N or self.keys.null_count:
            raise ArgumentError(f"keys must be {N} large_strings without nulls; got {self.keys.type}")
        self._check_values()

    def _check_values(self) -> None:
        _require(len(set(self.extensions)) == len(self.extensions), "extensions repeat")
        for extension in self.extensions:
            check_extension(extension)
        for name in self.files:
            _require(_is_utf8(name), f"file name {name!r} is not UTF-8")
        _require((self.file_bytes >= 0).all(), "file_bytes holds a negative size")
        is_sound = _C.index_is_sound(
            self.file_bytes,
            *self.key_buffers,
            self.extensions,
            self.ids,
            self.file,
            self.offset,
            self.nbytes,
            self.part_start,
            self.part_ext,
            self.part_offset,
            self.part_size,
            default_threads(),
        )
        if not is_sound:
            self._check_each()

    def _check_each(self) -> None:
        """What `_C.index_is_sound` looks for in one pass, one after the other, to say what is wrong; and
        whether the parts of a sample that are not in order of extension repeat one.
        """
        N, P = len(self.ids), len(self.part_ext)
        _require(
            ((self.part_ext >= 0) & (self.part_ext < len(self.extensions))).all(), "part_ext out of range"
        )
        _require((self.ids >= 0).all(), "ids holds a negative id")
        _require(
            self.part_start[0] == 0 and self.part_start[N] == P and (np.diff(self.part_start) > 0).all(),
            "part_start must rise from 0 to the number of parts, each sample having one or more",
        )
        if N == 0:
            return
        _require((np.diff(self.key_buffers[0]) > 0).all(), "a key is empty")
        if (row := _C.first_key_leading_out(*self.key_buffers)) >= 0:
            raise ArgumentError(
                f"key {self.key(row)[:200]!r} begins with a slash or has a component '..'; "
                "names must stay below the folder they are unpacked into"
            )
        self._check_repeats()
        _require((np.diff(self.file) >= 0).all(), "file must be ascending")
        _require(self.file[0] >= 0 and self.file[-1] < len(self.files), "file out of range")
        # Comparisons by subtraction, so that no sum of two hostile numbers can overflow.
        end_of_file = self.file_bytes[self.file]
        _require(
            ((self.offset >= 0) & (self.nbytes > 0) & (self.offset <= end_of_file)).all()
            and (self.nbytes <= end_of_file - self.offset).all(),
            "a sample lies outside its file",
        )
        _require(
            ((self.offset % BLOCK == 0) & (self.nbytes % BLOCK == 0)).all(), "a sample is not on a tar block"
        )
        counts = np.diff(self.part_start)
        first, end = np.repeat(self.offset, counts), np.repeat(self.offset + self.nbytes, counts)
        _require(
            ((self.part_offset >= first) & (self.part_offset <= end) & (self.part_size >= 0)).all()
            and (self.part_size <= end - self.part_offset).all(),
            "a part lies outside its sample",
        )

    def _check_repeats(self) -> None:
        """Raises if a sample has two parts of one extension."""
        sample = np.repeat(np.arange(len(self.ids)), np.diff(self.part_start))
        pair = sample * len(self.extensions) + self.part_ext
        if (np.diff(pair) > 0).all():  # parts sorted by extension, as in our own shards
            return
        pair.sort()
        if (twice := np.flatnonzero(np.diff(pair) == 0)).size:
            row, extension = divmod(int(pair[twice[0]]), len(self.extensions))
            name = self.extensions[extension]
            raise ArgumentError(f"sample {self.key(row)[:200]!r} has the extension {name!r} twice")

    def renamed(self, files: tuple[str, ...]) -> SampleIndex:
        """The same samples in the same files, which are called so here. Nothing is checked twice."""
        _require(
            len(files) == len(self.files) and all(map(_is_utf8, files)), "files must be as many, in UTF-8"
        )
        other = copy.copy(self)
        for name in ("relative_files", "digest"):  # of those names
            other.__dict__.pop(name, None)
        object.__setattr__(other, "files", files)
        return other

    @property
    def num_samples(self) -> int:
        return len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def key_buffers(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """``keys`` as (offsets int64 [N + 1] from 0, the UTF-8 bytes), for native code."""
        return keys.to_buffers(self.keys)

    @cached_property
    def payload_bytes(self) -> NDArray[np.int64]:
        """int64 [N]: the sizes of each sample's parts added up."""
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.part_size)])
        return np.diff(total[self.part_start])

    def __repr__(self) -> str:
        return (
            f"SampleIndex({self.num_samples} samples, {len(self.part_ext)} parts of {len(self.extensions)} "
            f"extensions, {int(self.nbytes.sum())} bytes in {len(self.files)} files)"
        )

    def key(self, row: int) -> str:
        return str(self.keys[row].as_py())

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each id. Raises ArgumentError saying how many ids are not here, and the first."""
        ids = np.asarray(ids, np.int64)
        if self.num_samples == 0:
            found = np.zeros(ids.shape, bool)
            rows = np.zeros(ids.shape, np.int64)
        else:
            order, ordered = self._by_id
            place = np.minimum(np.searchsorted(ordered, ids), self.num_samples - 1)
            found = ordered[place] == ids
            rows = place if order is None else order[place]
        if not found.all():
            missing = ids[~found]
            raise ArgumentError(
                f"{len(missing)} of {len(ids)} ids are not among the {self.num_samples} samples; "
                f"the first is {int(missing[0])}"
            )
        return rows

    @cached_property
    def _by_id(self) -> tuple[NDArray[np.int64] | None, NDArray[np.int64]]:
        """(rows in order of id, ids in order); the rows are None where they are in order already."""
        if (np.diff(self.ids) > 0).all():
            return None, self.ids
        order = np.argsort(self.ids, kind="stable")
        ordered = self.ids[order]
        if (twice := np.flatnonzero(np.diff(ordered) == 0)).size:
            raise ArgumentError(f"ids holds {int(ordered[twice[0]])} twice")
        return order, ordered

    @cached_property
    def relative_files(self) -> tuple[str, ...]:
        """``files`` seen from the directory they have in common: the same on every machine."""
        return urls.relative(self.files)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of names, keys, positions, and checksums that are known: the same data gives the same
        digest anywhere.
        """
        state = hashlib.sha256(b"pyimportance sample index 1\0")
        starts, text = self.key_buffers
        names = ["\0".join(self.relative_files).encode(), "\0".join(self.extensions).encode()]
        columns = ["file_bytes", "ids", "file", "offset", "nbytes"]
        columns += ["part_start", "part_ext", "part_offset", "part_size"]
        columns += ["part_crc32c"] if self.part_crc32c is not None else []
        for part in (*names, starts, text, *(getattr(self, name) for name in columns)):
            blob = np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else memoryview(part)
            state.update(blob.nbytes.to_bytes(8, "little"))
            state.update(blob)
        return state.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an Arrow IPC file, one record batch per tar, with ``files`` as they stand here, but for
        passwords and queries of URLs.
        """
        from pyimportance.shards.index_file import write_index

        write_index(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> SampleIndex:
        """Reads what `save` wrote. Raises DataError if it is damaged or something else."""
        from pyimportance.shards.index_file import read_index

        return read_index(path)


@lru_cache(1024)
def check_extension(extension: str) -> None:
    """Raises for what would not be a field of a sample: reserved, too long, or no part of a name."""
    rules = {
        f"is {len(extension)} characters long; at most {MAX_EXTENSION} bytes are allowed": (
            len(extension) <= MAX_EXTENSION and len(extension.encode(errors="replace")) <= MAX_EXTENSION
        ),
        "begins with '__', which a sample's own fields do": not extension.startswith("__"),
        "is not lower case": extension == extension.lower(),
        "holds a slash or a control character": not re.search(r"[/\x00-\x1f\x7f]", extension),
        "is not UTF-8": _is_utf8(extension),
    }
    for problem, holds in rules.items():
        _require(holds, f"extension {extension[:50]!r} {problem}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require(holds: Any, problem: str) -> None:
    if not holds:
        raise ArgumentError(problem)
