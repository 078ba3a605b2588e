"""Members of tars under other names: the samples that these make."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa

from pyimportance.errors import ArgumentError
from pyimportance.io.urls import public
from pyimportance.load.tars import Tars, bounds_of_parts
from pyimportance.shards.sample_index import SampleIndex

_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # key and extension


def renamed(index: SampleIndex, rename: Callable[[str], str]) -> Tars:
    """Tars as they would be if each member had the name that ``rename`` gives it, called with KEY.EXTENSION.

    Neighbours whose keys come out equal become one sample, and samples whose parts' keys differ become
    several; members whose names come out without an extension belong to none. Where all samples have the
    parts that they had, they keep ids, scores and bins; else they are numbered anew.
    Raises ArgumentError for names that are no text, extensions that a sample has twice, and keys that come
    again in a tar.
    """
    begin, end = bounds_of_parts(index)
    rows = np.repeat(np.arange(len(index)), np.diff(index.part_start)).tolist()
    keys, files = index.keys.to_pylist(), index.file.tolist()
    codes: dict[str, int] = {}
    which, first, part_ext, new_keys, names = list[int](), list[int](), list[int](), list[str](), list[str]()
    seen: set[tuple[int, str]] = set()
    own: dict[str, str] = {}  # of the sample: extension -> name
    place = None
    for part, (row, code) in enumerate(zip(rows, index.part_ext.tolist(), strict=True)):
        name = f"{keys[row]}.{index.extensions[code]}"
        new = rename(name)
        if not isinstance(new, str):
            raise ArgumentError(f"rename_files: gave {new!r} for {name!r}; a name is text")
        if (match := _NAME.fullmatch(new)) is None:
            continue
        key, extension = match[1], match[2].lower()
        if place != (files[row], key):
            place = files[row], key
            if place in seen:
                raise ArgumentError(
                    f"rename_files: {name!r} becomes {new!r}, and others of that key do not lie beside it in "
                    f"{public(index.files[files[row]])}"
                )
            seen.add(place)
            first.append(len(which))
            new_keys.append(key)
            own = {}
        if extension in own:
            raise ArgumentError(f"rename_files: {own[extension]!r} and {name!r} both become {new!r}")
        own[extension] = name
        which.append(part)
        names.append(name)
        part_ext.append(codes.setdefault(extension, len(codes)))
    if not which:
        raise ArgumentError("rename_files: leaves no sample, of names with a key and an extension")
    parts, start = np.array(which), np.array([*first, len(which)], np.int64)
    row = np.array(rows)[parts[start[:-1]]]
    same = np.array_equal(start, index.part_start) and len(which) == len(rows)
    samples = replace(
        index,
        ids=index.ids if same else np.arange(len(row)),
        keys=pa.array(new_keys, pa.large_string()),
        file=index.file[row],
        offset=begin[parts[start[:-1]]],
        nbytes=end[parts[start[1:] - 1]] - begin[parts[start[:-1]]],
        extensions=tuple(codes),
        part_start=start,
        part_ext=np.array(part_ext, np.int32),
        part_offset=index.part_offset[parts],
        part_size=index.part_size[parts],
        part_crc32c=None if index.part_crc32c is None else index.part_crc32c[parts],
        score=index.score if same else None,
        bin=index.bin if same else None,
        frame=None if index.frame is None else index.frame[row],
    )
    part_begin = begin[parts] if len(which) < len(rows) else None  # those that are left out are not read
    return Tars(samples, pa.array(names, pa.large_string()), part_begin)
