"""URLs as text: which are read, what of them may be shown, and what lies where below them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, unquote

from pyimportance.errors import ArgumentError

SCHEMES: Final = ("http", "https", "s3", "gs", "az")
_URL = re.compile(rf"({'|'.join(SCHEMES)})://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class URL:
    """A URL taken apart.

    user   what stands before ``@``, a name and a password
    host   host and port, or bucket, or container
    path   after ``host/``, with slashes, not escaped: the name of an object
    query  of http and https: what follows ``?``. In an object's name a question mark is one like others.
    """

    scheme: str
    user: str
    host: str
    path: str
    query: str

    @property
    def is_http(self) -> bool:
        return self.scheme in ("http", "https")

    def __str__(self) -> str:
        path = quote(self.path, safe="/!$&'()*+,;=:@") if self.is_http else self.path
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.host}/{path}" + (f"?{self.query}" if self.query else "")


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether this is asked of a server rather than read from a file system."""
    return isinstance(path, str) and _URL.match(path) is not None


def parse(url: str) -> URL:
    """Of something that `is_url`."""
    match = _URL.match(url)
    assert match is not None, url
    user, _, host = match[2].rpartition("@")
    rest, query = match[3], ""
    if match[1].lower() in ("http", "https"):
        rest, _, query = rest.partition("#")[0].partition("?")
        rest = unquote(rest)
    return URL(match[1].lower(), user, host, rest.removeprefix("/"), query)


def public(path: str) -> str:
    """A path as it may be printed and stored: of a URL neither password nor query, where signatures stand."""
    if not is_url(path):
        return path
    url = parse(path)
    return str(replace(url, user="", query="")) if url.user or url.query else path


def check_takes_files(url: str, what: str) -> None:
    """Raises ArgumentError, naming ``what`` would write there, for the URL of a web server."""
    if parse(url).is_http:
        raise ArgumentError(
            f"{public(url)}: {what} writes there, and web servers take nothing; s3, gs and az do"
        )


def join(root: str, name: str) -> str:
    """The path of ``name``, with slashes, below a folder or a URL."""
    if not is_url(root):
        return os.path.join(root, name)
    url = parse(root)
    return str(replace(url, path=f"{url.path.rstrip('/')}/{name}".removeprefix("/")))


def relative(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths and URLs as seen from the folder that all of them have in common: the same wherever that is."""
    if not paths:
        return ()
    rooted = [_rooted(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in rooted])
    return tuple(os.path.relpath(path, common) for path in rooted)


def _rooted(path: str) -> str:
    if not is_url(path):
        return os.path.abspath(path)
    url = parse(path)
    return f"/{url.scheme}:/{url.host}/{url.path}"
