"""Patterns of URLs -> the objects that match, where a store can list what it holds."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import replace

import obstore

from pyimportance.io import urls
from pyimportance.io.remote import ask, store_of

_TOKEN = re.compile(r"\*+|\?|\[(?P<not>!?)(?P<one>\]?[^\]]*)\]|.", re.DOTALL)


def matches(pattern: str) -> list[str]:
    """The URLs of s3, gs or az whose objects' names match, sorted.

    As for files, ``*``, ``?`` and ``[...]`` stand for no slash, and ``**`` between slashes for any folders; a
    dot that begins a name is written. Raises DataError where the store cannot be asked.
    """
    url = urls.parse(pattern)
    fits = re.compile(_expression(url.path), re.DOTALL).fullmatch
    names = ask(lambda: sorted(n for n in _names(pattern, url.path) if fits(n)), urls.public(pattern))
    return [str(replace(url, path=name)) for name in names]


def _names(url: str, pattern: str) -> Iterator[str]:
    """Names of objects, among them all that match."""
    parts = pattern.split("/")
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    prefix, store = "/".join(parts[:plain]) or None, store_of(url)
    if plain == len(parts) - 1:
        yield from (found["path"] for found in obstore.list_with_delimiter(store, prefix)["objects"])
    else:
        for page in obstore.list(store, prefix):
            yield from (found["path"] for found in page)


def _expression(pattern: str) -> str:
    """The regular expression of a pattern over whole names."""
    *folders, last = pattern.split("/")
    each = (r"(?:(?!\.)[^/]+/)*" if folder == "**" else _of_part(folder) + "/" for folder in folders)
    return "".join(each) + _of_part(last)


def _of_part(part: str) -> str:
    return ("" if part.startswith(".") else r"(?!\.)") + _TOKEN.sub(_of_token, part)


def _of_token(token: re.Match[str]) -> str:
    if token["one"] is not None:
        characters = re.sub(r"[\\\[\]^&~|]", r"\\\g<0>", token["one"])
        return f"(?!/)[{'^' if token['not'] else ''}{characters}]"
    return {"*": "[^/]*", "?": "[^/]"}.get(token[0][0], re.escape(token[0]))
