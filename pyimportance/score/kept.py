"""The rows of all epochs of a tracker that keeps a history: in memory, or as files of a directory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError, DataError
from pyimportance.io.atomic import make_directory, writing
from pyimportance.score.history import ROW, UNSEEN, RowHistory, Rows, RowStore


class Kept:
    """What Tracker(history=...) says: None, "memory" or the path of a directory."""

    def __init__(self, history: Any, num_samples: int) -> None:
        self._num_samples = num_samples
        self._claimed = False  # whether what the directory holds is known to be ours
        self._store: RowStore | None = None
        if history == "memory":
            self._store = MemoryStore()
        elif isinstance(history, (str, os.PathLike)):
            self._store = DirectoryStore(history, num_samples)
        elif history is not None:
            raise ArgumentError(f'history={history!r}: must be None, "memory" or the path of a directory')

    def __bool__(self) -> bool:
        """Whether anything is kept."""
        return self._store is not None

    def claim(self) -> None:
        """A new run must not mix its epochs with another's; one that goes on (load_state_dict) finds its
        own.
        """
        if not self._claimed and self._store is not None and (there := self._store.epochs()):
            raise ArgumentError(
                f"history: the directory holds epochs {there[0]} to {there[-1]} of another run; must be "
                "empty, or load_state_dict be called before anything is observed"
            )
        self._claimed = True

    def write(self, epoch: int, rows: Rows) -> None:
        if self._store is not None:
            self._store.write(epoch, rows)

    def history(self, epochs: range, quantities: tuple[str, ...]) -> RowHistory | None:
        """Of those of the epochs that are there."""
        if self._store is None:
            return None
        return RowHistory(self._store, [e for e in self._store.epochs() if e in epochs], quantities)

    def take_in(self, other: Kept, mine: range, theirs: range) -> None:
        """What ``other`` keeps of the epochs that are committed: a directory may hold others, of a run that
        went on and was taken back.
        """
        if self._store is None or other._store is None:
            return
        self.claim()
        both = [epochs for epochs in (mine, theirs) if epochs]
        if not both:
            return
        for epoch in range(min(e.start for e in both), max(e.stop for e in both)):
            if epoch in theirs:
                rows = other._store.read(epoch)
                if epoch in mine:
                    own = self._store.read(epoch)
                    rows = np.where(own["code"] != UNSEEN, own, rows)
                self._store.write(epoch, rows)
            elif epoch not in mine:  # between the two: nobody was observed
                self._store.write(epoch, np.zeros(self._num_samples, ROW))

    def in_memory(self, epochs: range) -> dict[int, Rows] | None:
        """The rows of epochs, where they lie in memory: they travel with a tracker's state."""
        if not isinstance(self._store, MemoryStore):
            return None
        return {epoch: self._store.read(epoch) for epoch in epochs}

    def check_fits(self, found: Mapping[int, Rows] | None) -> None:
        """ArgumentError where a state has rows and the tracker keeps none in memory, or the reverse."""
        if isinstance(self._store, MemoryStore) != (found is not None):
            raise ArgumentError('state: one of it and the tracker has history="memory", the other has not')

    def go_on(self, found: Mapping[int, Rows] | None) -> None:
        """With the rows of a state, or with the directory as it is."""
        self._claimed = True
        if found is not None:
            self._store = MemoryStore(found)


class MemoryStore:
    """32 bytes a sample and epoch."""

    def __init__(self, rows: Mapping[int, Rows] | None = None) -> None:
        self._rows = dict(rows or {})

    def epochs(self) -> list[int]:
        return sorted(self._rows)

    def read(self, epoch: int) -> Rows:
        return self._rows[epoch]

    def write(self, epoch: int, rows: Rows) -> None:
        self._rows[epoch] = rows.copy()


class DirectoryStore:
    """One .npy file an epoch, ``epoch-000000.npy``: NumPy's own format, no pickle, written whole or not at
    all.
    """

    _NAME = re.compile(r"epoch-(\d{6,})\.npy")

    def __init__(self, path: str | os.PathLike[str], num_samples: int) -> None:
        self._path, self._num_samples = os.fspath(path), num_samples
        make_directory(self._path)

    def epochs(self) -> list[int]:
        matches = (self._NAME.fullmatch(name) for name in os.listdir(self._path))
        return sorted(int(match[1]) for match in matches if match)

    def _file(self, epoch: int) -> str:
        return os.path.join(self._path, f"epoch-{epoch:06d}.npy")

    def read(self, epoch: int) -> Rows:
        path = self._file(epoch)
        try:
            rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise DataError("no such file; the history of this epoch is lost", path=path) from None
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"not a NumPy array: {error}", path=path) from error
        if rows.dtype != ROW or rows.shape != (self._num_samples,):
            problem = f"{rows.dtype} of shape {list(rows.shape)}; must be rows [{self._num_samples}]"
            raise DataError(problem, path=path)
        return rows

    def write(self, epoch: int, rows: Rows) -> None:
        with writing(self._file(epoch)) as file:
            np.save(file, rows, allow_pickle=False)
