"""What a user names as a source -> the tar files, in order."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from pyimportance.errors import ArgumentError
from pyimportance.io.paths import Folders
from pyimportance.io.urls import SCHEMES, is_url, join, parse, public

Source: TypeAlias = "str | os.PathLike[str] | Iterable[str | os.PathLike[str]]"

_OTHER = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|pipe:")
_JOINT = re.compile(r"::(?![^\[/]*\])")  # and not that of an IPv6 address
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_RANGE = 10_000_000


def expand(source: Source, *, again: bool = False) -> list[str]:
    """The tar files that ``source`` names.

    A path; a directory (its ``*.tar``, sorted by name); a pattern with ``*``, ``?`` or ``[...]`` (its
    matches, sorted); braces, ``{000..009}`` or ``{a,b}`` (as written); ``::`` joins such; so does a list.
    URLs of http, https, s3, gs and az, too: with braces, and but for web servers, which list nothing, with
    patterns (there in any case, for want of a way to ask for a name as it is written) and folders (what ends
    in a slash).
    again: a file that is named twice is given twice, both times as it was named first.
    Raises ArgumentError where nothing is named, nothing matches, or, but for ``again``, a file is named
    twice.
    """
    if isinstance(source, (str, os.PathLike)):
        files = list(_expand_text(os.fspath(source)))
    else:
        files = [file for item in source for file in _expand_text(os.fspath(item))]
        if not files:
            raise ArgumentError("source is an empty list; name at least one tar")
    seen: dict[str, str] = {}
    folders = Folders()
    for n, file in enumerate(files):
        real = public(file) if is_url(file) else folders.realpath(file)
        if real in seen and not again:
            shown, first = public(file), public(seen[real])
            also = "" if first == shown else f" (also as {first!r})"
            raise ArgumentError(f"source names {shown!r} twice{also}")
        files[n] = seen.setdefault(real, file)
    return files


def _expand_text(text: str) -> Iterator[str]:
    if os.path.exists(text):
        yield from _expand_path(text)
        return
    for spec in _JOINT.split(text):
        if not spec:
            raise ArgumentError(f"source {text!r} names no file")
        if not is_url(spec) and _OTHER.match(spec):
            raise ArgumentError(f"source {spec!r}: read are local files, and URLs of {', '.join(SCHEMES)}")
        for pattern in expand_braces(spec):
            yield from _expand_url(pattern) if is_url(pattern) else _expand_path(pattern)


def _expand_url(url: str) -> Iterator[str]:
    parsed = parse(url)
    is_folder = parsed.path == "" or parsed.path.endswith("/")
    if not parsed.is_http and (is_folder or glob.has_magic(parsed.path)):
        from pyimportance.io.listing import matches

        found = matches(join(url, "*.tar") if is_folder else url)
        if not found:
            raise ArgumentError(f"source {public(url)!r} matches no object{' *.tar' if is_folder else ''}")
        yield from found
    elif is_folder or "*" in parsed.path:
        raise ArgumentError(
            f"source {public(url)!r}: a web server lists nothing: name the tars, by braces if they are many"
        )
    else:
        yield url


def _expand_path(path: str) -> Iterator[str]:
    if os.path.isdir(path):
        tars = sorted(glob.glob(os.path.join(glob.escape(path), "*.tar")))
        if not tars:
            raise ArgumentError(f"source {path!r} is a directory without *.tar files")
        yield from tars
    elif not os.path.exists(path) and glob.has_magic(path):
        matches = sorted(m for m in glob.glob(path, recursive=True) if not os.path.isdir(m))
        if not matches:
            raise ArgumentError(f"source {path!r} matches no file")
        yield from matches
    else:
        yield path  # where it does not exist, opening it says so


def expand_braces(text: str) -> Iterator[str]:
    """``a-{00..02}.{x,y}`` -> a-00.x, a-00.y, a-01.x, ...; ends of a range are padded to the same width."""
    pieces = _BRACES.split(text)  # outside, inside, outside, ...
    if "{" in "".join(pieces[::2]) or "}" in "".join(pieces[::2]):
        raise ArgumentError(f"source {text!r}: braces do not pair, or are nested")
    choices = [_choices(p, text) if i % 2 else (p,) for i, p in enumerate(pieces)]
    for combination in itertools.product(*choices):
        yield "".join(combination)


def _choices(inside: str, text: str) -> tuple[str, ...]:
    match = _RANGE.fullmatch(inside)
    if match is None:
        return tuple(inside.split(","))
    first, last = int(match[1]), int(match[2])
    if last < first or last - first >= _MAX_RANGE:
        raise ArgumentError(f"source {text!r}: {{{inside}}} must rise, over at most {_MAX_RANGE} numbers")
    return tuple(str(n).zfill(len(match[1])) for n in range(first, last + 1))
