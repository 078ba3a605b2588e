"""A store in memory, behind every URL, as tests look at it and disturb it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import obstore
import pytest

from pyimportance import OutputError
from pyimportance.io import upload

URL = "s3://bucket/deep/out"
OPTIONS: Any = {"shard_bytes": 40_000}


def objects(store: Any, url: str = URL) -> dict[str, str]:
    """Like `tree`: the objects below the URL."""
    found = {}
    for name in sorted(upload.below(url)):
        data = bytes(obstore.get(store, f"{url.removeprefix('s3://bucket/')}/{name}").bytes())
        found[name] = f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()[:16]}"
    return found


def written(
    monkeypatch: pytest.MonkeyPatch,
    check: Callable[[str], object] = lambda name: None,
    after: Callable[[str], object] = lambda name: None,
) -> list[str]:
    """What is asked of the store from now on, in this order: names that are put, with ! where only one can
    create them and ~ where they are replaced on a condition; - before those that are deleted.

    ``check`` is called before a request, with the object's whole name, and ``after`` behind it.
    """
    names: list[str] = []
    lock, put, delete = threading.Lock(), obstore.put, obstore.delete

    def noting(mark: str, path: str, ask: Callable[[], Any]) -> Any:
        with lock:
            check(path)
            names.append(mark.format(path.removeprefix("deep/out/")))
        answer = ask()
        with lock:
            after(path)
        return answer

    def noting_put(store: Any, path: str, *args: Any, **more: Any) -> Any:
        mode = more.get("mode")
        mark = "{}!" if mode == "create" else "{}~" if mode else "{}"
        return noting(mark, path, lambda: put(store, path, *args, **more))

    def noting_delete(store: Any, paths: Any) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            noting("-{}", path, partial(delete, store, path))

    monkeypatch.setattr(obstore, "put", noting_put)
    monkeypatch.setattr(obstore, "delete", noting_delete)
    return names


def without_notes(files: dict[str, str]) -> dict[str, str]:
    """Files of the format, of all that lies in a folder or a store."""
    return {n: f for n, f in files.items() if not n.rpartition("/")[2].startswith(("job", "claim"))}


def save(store: Any) -> dict[str, tuple[bytes, Any]]:
    """All that is in a store, for `restore`."""
    found = {}
    for listed in obstore.list(store).collect():
        got = obstore.get(store, listed["path"])
        found[listed["path"]] = bytes(got.bytes()), got.attributes
    return found


def restore(store: Any, saved: dict[str, tuple[bytes, Any]]) -> None:
    for listed in obstore.list(store).collect():
        obstore.delete(store, listed["path"])
    for name, (data, attributes) in saved.items():
        obstore.put(store, name, data, attributes=attributes)


class Gone:
    """Kills what is at work at the ``at``-th request to change something, before it or before its answer."""

    def __init__(self, at: int, *, answered: bool) -> None:
        self.left, self.answered, self.struck = at, answered, False

    def before(self, name: str) -> None:
        self.left -= 1
        if self.struck or (self.left < 0 and not self.answered):
            self.strike()

    def after(self, name: str) -> None:
        if self.left < 0:
            self.strike()

    def strike(self) -> None:
        self.struck = True
        raise obstore.exceptions.GenericError("it is gone")


def interrupt_everywhere(
    monkeypatch: pytest.MonkeyPatch, store: Any, work: Callable[[], object], check: Callable[[], object]
) -> int:
    """Stops ``work`` at each of its requests, calls ``check``, and ``work`` again, which gives the same."""
    before = save(store)
    work()
    whole, at = objects(store), 0
    for answered in (False, True):
        for at in range(1000):
            restore(store, before)
            gone = Gone(at, answered=answered)
            with monkeypatch.context() as patch:
                written(patch, gone.before, gone.after)
                with suppress(OutputError):
                    work()
            if not gone.struck:
                break
            check()
            work()
            assert objects(store) == whole, (at, answered)
    return at
