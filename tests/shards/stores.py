"""A store in memory, behind every URL, as tests look at it and disturb it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import obstore
import pytest

from pyimportance.io import upload

URL = "s3://bucket/deep/out"


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
