"""Folders: where many files really lie."""

from __future__ import annotations

import os


class Folders:
    """Remembers where folders lie, so that a link in the way to a thousand files is looked for once."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def realpath(self, path: str) -> str:
        """`os.path.realpath` of a file's path."""
        folder, name = os.path.split(path)
        if name in ("", ".", "..") or os.path.islink(path):
            return os.path.realpath(path)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return os.path.join(self._real[folder], name)
