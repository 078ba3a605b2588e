"""What a training process and its loader processes share, through memory that all of them map.

DataLoader copies a dataset into its loader processes once. What such a copy reads first is what it was sent
or forked with. Persistent processes iterate again and never see a later change to the original: so the
training process leaves word here of what to read next, and they look when they start again.

DataLoader does not wait for that start: an epoch that is set while an iteration begins could reach some
processes and not others. So each notes what it took up, and the one that finds that its siblings took up
something else raises.

Every process counts into a row of its own, claimed under a lock that the kernel releases when a process
dies. A row keeps what was counted when its process is gone, and the next one counts on from there. The row's
number is that of the region that its process sends through as well (sending.py), further on in the file.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, astuple, dataclass
from mmap import PAGESIZE
from typing import Any, ClassVar, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from pyimportance import _C
from pyimportance.errors import ArgumentError
from pyimportance.io.meter import TIERS, Meter
from pyimportance.load.mapped import Mapped

PROCESSES = 256
_ROOM = 2**17  # bytes for an assignment: a path and a number per worker
# Columns of a row; counts are the rest.
_PID, _POOL, _MEMBER, _NUMBER, _IN_ORDER, _SERIAL, _SKIPPED, _COUNTS = range(8)
_COLUMNS = _COUNTS + 2 * len(TIERS)
_SIZE = _ROOM + 8 * PROCESSES * _COLUMNS
_REGIONS = (
    -(-_SIZE // PAGESIZE) * PAGESIZE
)  # where the first of them begins; what nobody used takes no memory


@dataclass(frozen=True)
class Assignment:
    """What to read next. serial counts assignments; consumed: samples per worker that were yielded before."""

    serial: int
    root: str
    generation: int
    digest: str
    epoch: int
    consumed: tuple[int, ...]


@dataclass(frozen=True)
class Start:
    """The ``number``-th time (from 1) that process ``member`` of the loader processes ``pool`` iterates.

    in_order: whether their DataLoader gives batches in the order in which it asked for them.
    """

    pool: int
    member: int
    number: int
    in_order: bool


class Place(NamedTuple):
    """Which file, of all that a process maps, and the row of who sends."""

    device: int
    inode: int
    row: int


class Shared(Mapped):
    """Shared memory of one dataset, and of its copies in forked and spawned processes."""

    nbytes = _SIZE
    _of: ClassVar[WeakValueDictionary[tuple[int, int], Shared]] = WeakValueDictionary()
    _regions: dict[int, _C.LoadRegion]  # that were received from
    _meter: Meter | None
    _row: int
    _pid: int
    _file: tuple[int, int]

    def __init__(self) -> None:
        super().__init__()
        self.meter()

    def assign(self, assignment: Assignment) -> None:
        text = json.dumps(asdict(assignment)).encode() + b"\0"
        if len(text) > _ROOM:
            raise ArgumentError(
                f"shards: {len(assignment.consumed)} workers and the path {assignment.root!r} "
                f"take {len(text)} bytes to tell loader processes; at most {_ROOM} fit"
            )
        with self._locked():
            self._memory[: len(text)] = text

    def assignment(self) -> Assignment:
        """The latest."""
        with self._locked():
            return self._assignment()

    def start(self, this: Start, made_with: Assignment) -> Assignment:
        """What a loader process is to read: at first what it was made with, as its iteration began with
        that; later the latest assignment.

        Raises ArgumentError if another process of its pool took up another one at the same start.
        """
        with self._locked():
            told = made_with if this.number == 1 else self._assignment()
            self._rows[self._row, _POOL:_SKIPPED] = *astuple(this), told.serial
            same = (self._rows[:, _POOL] == this.pool) & (self._rows[:, _NUMBER] == this.number)
            siblings = [row for row in self._rows[same].tolist() if this.number > 1 and _alive(row[_PID])]
            # Loaders whose random generators are alike cannot be told apart; there is no saying then.
            if sum(row[_MEMBER] == this.member for row in siblings) > 1:
                return told
        if any(row[_SERIAL] != told.serial for row in siblings):
            raise ArgumentError(
                "the epoch, the generation or the position was changed while loader processes began to "
                "read it; change it before iter(loader), or when that iteration is over"
            )
        return told

    def noted(self, serial: int) -> bool:
        """Whether any loader process has started to read assignment ``serial``."""
        return bool((self._rows[:, _SERIAL] == serial).any())

    def in_order(self, serial: int) -> bool:
        """Whether all loader processes that have started to read assignment ``serial`` give it in order."""
        return bool(self._rows[self._rows[:, _SERIAL] == serial, _IN_ORDER].all())

    def meter(self) -> Meter:
        """The meter of this process, the same one at every call.

        Raises ArgumentError if more processes use the dataset than there is room for.
        """
        pid = os.getpid()
        if self._meter is None or self._pid != pid:
            with self._locked():
                owners = self._rows[:, _PID].tolist()
                row = next((n for n, owner in enumerate(owners) if owner == pid or not _alive(owner)), None)
                if row is None:
                    raise ArgumentError(
                        f"num_workers: at most {PROCESSES - 1} loader processes are supported"
                    )
                self._rows[row, :_SKIPPED] = 0
                self._rows[row, _PID] = pid
            self._row, self._pid = row, pid
            self._meter = Meter(self._rows[row, _COUNTS:].reshape(len(TIERS), 2))
        return self._meter

    def note_skipped(self) -> None:
        """Counts a place of which the sample is skipped."""
        self.meter()  # makes sure of a row
        self._rows[self._row, _SKIPPED] += 1

    def skipped(self) -> int:
        return int(self._rows[:, _SKIPPED].sum())

    def counts(self) -> NDArray[np.int64]:
        """int64 [4, 2]: bytes and requests by tier, of all processes."""
        total: NDArray[np.int64] = self._rows[:, _COUNTS:].sum(axis=0).reshape(len(TIERS), 2)
        return total

    @staticmethod
    def of(place: Place) -> Shared | None:
        """What a place is in, where this process has it."""
        return Shared._of.get((place.device, place.inode))

    @property
    def place(self) -> Place:
        """Of this process."""
        self.meter()  # makes sure of a row
        return Place(*self._file, self._row)

    def own_region(self) -> _C.LoadRegion:
        """Memory that this process sends through. Raises OSError where it cannot be had."""
        begin = _REGIONS + self.place.row * _C.LoadRegion.nbytes
        with self._locked():
            self._make_room(begin + _C.LoadRegion.nbytes)
        return _C.LoadRegion(self._fd, begin, True)

    def region(self, row: int) -> _C.LoadRegion:
        """That of another process, to receive from."""
        if row not in self._regions:
            self._regions[row] = _C.LoadRegion(self._fd, _REGIONS + row * _C.LoadRegion.nbytes, False)
        return self._regions[row]

    def _assignment(self) -> Assignment:
        text = self._memory[:_ROOM].split(b"\0", 1)[0]
        fields: dict[str, Any] = json.loads(text)
        return Assignment(**{**fields, "consumed": tuple(fields["consumed"])})

    def _map(self, fd: int) -> None:
        super()._map(fd)
        self._meter = None
        self._row = self._pid = -1
        self._regions = {}
        status = os.fstat(fd)
        self._file = status.st_dev, status.st_ino
        self._of[self._file] = self
        self._rows: NDArray[np.int64] = np.frombuffer(self._memory, np.int64, offset=_ROOM).reshape(
            PROCESSES, _COLUMNS
        )


def _alive(pid: int) -> bool:
    """Whether ``pid`` is that of a process, 0 being none."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
