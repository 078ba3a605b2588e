"""NodeCache: a folder on this node's disk with what its processes have fetched, within a bound.

Any number of processes share the folder, of any number of jobs. Each object has an entry (entry.py), and
parts of it are fetched by whoever needs them first. The bound is on the blocks that the disk has given to
entries: they are given before anything is fetched, and where there is no room for more, the entries that
were not used for longest are removed, but never one that somebody reads just then. The folder may hold other
files: nothing is removed but pairs of files whose journal says that they were fetched.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from collections import defaultdict
from contextlib import ExitStack
from typing import Any, Final

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io import urls
from pyimportance.io.atomic import make_directory
from pyimportance.io.entry import Entry, try_to_hold_alone
from pyimportance.io.extents import HEADER, encode_header, nonce_of
from pyimportance.io.lock import locked

LOCK: Final = "lock"
_JOURNAL = re.compile(r"(?P<key>[0-9a-f]{32})\.journal")
_BLOCK = 4096
_SPARE = 20  # where no bound is given, this part of the disk is left free
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OPTIONS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class NodeCache:
    """Given to another process, it stands for the same folder there.

    folder  made if it does not exist
    nbytes  of all entries at most; None: a twentieth of the disk is left free. Processes that share a folder
            should give the same

    Raises ArgumentError, and OutputError where the folder cannot be made.
    """

    def __init__(self, folder: Any, nbytes: int | None = None) -> None:
        if not isinstance(folder, str | os.PathLike) or urls.is_url(folder):
            raise ArgumentError(f"cache_dir={folder!r}: must be the path of a folder on this node's disk")
        self.nbytes = None if nbytes is None else check_integer("cache_bytes", nbytes, 1)
        self.folder = os.path.abspath(os.fspath(folder))
        make_directory(self.folder)
        self._lock = os.path.join(self.folder, LOCK)
        self._sound: defaultdict[str, set[int]] = defaultdict(set)  # by journal, records that were checked

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sound": defaultdict(set)}

    def entry(self, url: str, size: int, crc32c: int | None) -> tuple[str, Entry | None]:
        """(what it is called, the entry of an object), made where there is none.

        Another size or checksum is another object. None: there is a file in its place that is no entry.
        Raises OutputError.
        """
        identity = json.dumps([urls.public(url), size, crc32c]).encode()
        key = hashlib.sha256(identity).hexdigest()[:32]
        journal_path, parts_path = self._paths(key)
        with locked(self._lock, wait=True), ExitStack() as stack:
            try:
                journal = os.open(journal_path, _OPTIONS | os.O_CREAT, 0o666)
                stack.callback(os.close, journal)
                header = os.pread(journal, HEADER, 0)
                if not header.strip(b"\0"):  # new, or its maker was killed
                    header = encode_header(urls.public(url), size, secrets.token_hex(8))
                    os.pwrite(journal, header, 0)
                if (nonce := nonce_of(header)) is None:
                    return key, None
                parts = os.open(parts_path, _OPTIONS | os.O_CREAT, 0o666)
                stack.callback(os.close, parts)
                if os.fstat(parts).st_size != size:
                    os.ftruncate(parts, size)
            except OSError as e:
                raise OutputError(f"{journal_path}: the cache cannot be used ({e.strerror or e})") from e
            stack.pop_all()
        return key, Entry(parts_path, journal, parts, size, self._sound[nonce])

    def reserve(self, entry: Entry, begin: int, nbytes: int) -> bool:
        """Makes room on the disk for bytes of an entry; False where there is none, whatever is removed."""
        rounded = -(-nbytes // _BLOCK) * _BLOCK + 2 * _BLOCK
        with locked(self._lock, wait=True) as file:
            used = int.from_bytes(file.read()[:8], "little")
            fits = used + rounded <= (limit := self._limit(used))
            if not fits and rounded <= limit:
                used = self._make_room(limit, rounded)
                fits = used + rounded <= self._limit(used)
            try:
                if fits:
                    os.posix_fallocate(entry.fileno(), begin, nbytes)
            except OSError as e:
                if e.errno not in _FULL:
                    raise
                used, fits = self._make_room(used, rounded), False
            file.write((used + rounded * fits).to_bytes(8, "little"), durable=False)
        return fits

    def remove(self, key: str) -> bool:
        """Removes an entry, unless somebody uses it, or it is no entry."""
        journal_path, parts_path = self._paths(key)
        with ExitStack() as stack:
            try:
                journal = os.open(journal_path, _OPTIONS)
                stack.callback(os.close, journal)
                if nonce_of(os.pread(journal, HEADER, 0)) is None or not try_to_hold_alone(journal):
                    return False
                parts = os.open(parts_path, _OPTIONS | os.O_CREAT, 0o666)
                stack.callback(os.close, parts)
                os.ftruncate(parts, 0)  # others may have it open; none of them reads it again
                os.unlink(parts_path)
                os.unlink(journal_path)
            except OSError:
                return False
        return True

    def _paths(self, key: str) -> tuple[str, str]:
        return os.path.join(self.folder, f"{key}.journal"), os.path.join(self.folder, f"{key}.parts")

    def _limit(self, used: int) -> int:
        if self.nbytes is not None:
            return self.nbytes
        disk = os.statvfs(self.folder)
        return used + disk.f_bavail * disk.f_frsize - disk.f_blocks * disk.f_frsize // _SPARE

    def _make_room(self, limit: int, nbytes: int) -> int:
        """Removes what was used longest ago, a little more than is needed; the bytes of what is left."""
        entries, total = [], 0
        for found in os.scandir(self.folder):
            if (match := _JOURNAL.fullmatch(found.name)) is None:
                continue
            try:
                journal = found.stat(follow_symlinks=False)
                used = (journal.st_blocks + os.lstat(self._paths(match["key"])[1]).st_blocks) * 512
            except OSError:
                continue
            entries.append((journal.st_mtime_ns, match["key"], used))
            total += used
        goal = min(limit - nbytes, limit - limit // 16)
        for _, key, used in sorted(entries):
            if total <= goal:
                break
            if self.remove(key):
                total -= used
        return total
