"""Who opens a file closes it, and once."""

from __future__ import annotations

import os
from typing import TypeVar

Owner = TypeVar("Owner", bound="Descriptor")


class Descriptor:
    """Holds a file descriptor until the end of ``with``, `close`, or its own end, whichever comes first."""

    path = ""
    _fd = -1  # before it is open, as after it was closed

    def fileno(self) -> int:
        """The descriptor. ValueError once it is closed."""
        if self._fd < 0:
            raise ValueError(f"{self.path}: is closed")
        return self._fd

    def close(self) -> None:
        """Twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self: Owner) -> Owner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def open_nameless(path: str) -> int:
    """A new file at ``path``, which must not exist, to read and write, and its name removed: it goes with its
    descriptor. OSError where it cannot be made."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return fd
