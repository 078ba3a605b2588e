"""Which epoch an iteration reads where nobody says so: each one the next.

A DataLoader that iterates again tells its data set nothing; its loader processes are made anew, or begin
anew, one after the other. They know each other by the random number that their DataLoader drew, so that the
first of them takes the next turn and the others join it, through memory that they share.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pyimportance.load.mapped import Mapped
from pyimportance.load.shared import Start

_NBYTES = 2**17
_REMEMBERED = 16  # iterations of loaders, and assignments


@dataclass
class _Taken:
    """A turn, and the loader processes that began it."""

    serial: int
    turn: int
    pool: int
    number: int
    members: list[int]


@dataclass
class _State:
    """next: assignment -> [the next turn, loader processes of the latest (0: the training process's)]."""

    next: dict[str, list[int]] = field(default_factory=dict)
    taken: list[_Taken] = field(default_factory=list)
    uneven: bool = False


class Turns(Mapped):
    """Turns count from 0 after each assignment (of an epoch, a position, a generation), a ``serial`` each."""

    nbytes = _NBYTES

    def take(self, serial: int) -> int:
        """The next turn, for the training process."""
        with self._locked():
            state = self._read()
            turn = _next(state, serial)
            self._write(state, serial, turn + 1, 0)
        return turn

    def join(self, serial: int, this: Start, processes: int) -> int:
        """The turn of the loader process that begins ``this``: that of its siblings, if any has begun."""
        with self._locked():
            state = self._read()
            upcoming = _next(state, serial)
            for taken in reversed(state.taken):
                same = (taken.serial, taken.pool, taken.number) == (serial, this.pool, this.number)
                # Loaders with equal generators draw the same number: a member that has begun begins another.
                if same and this.member not in taken.members:
                    taken.members.append(this.member)
                    break
            else:
                taken = _Taken(serial, upcoming, this.pool, this.number, [this.member])
                state.taken = [*state.taken[1 - _REMEMBERED :], taken]
            self._write(state, serial, max(upcoming, taken.turn + 1), processes)
        return taken.turn

    def reach(self, serial: int, turn: int, processes: int) -> None:
        """A loader process goes on with ``turn``, from a state of its own: later ones come after it."""
        with self._locked():
            state = self._read()
            self._write(state, serial, max(_next(state, serial), turn + 1), processes)

    def latest(self, serial: int) -> tuple[int, int]:
        """(The latest turn, -1 for none; how many loader processes took it, 0 for the training process)."""
        with self._locked():
            upcoming, processes = self._read().next.get(str(serial), [0, 0])
        return upcoming - 1, processes

    def note_uneven(self) -> None:
        """Some stage left samples out, so that their number does not follow from that of its outputs."""
        with self._locked():
            state = self._read()
            state.uneven = True
            self._store(state)

    @property
    def uneven(self) -> bool:
        with self._locked():
            return self._read().uneven

    def _read(self) -> _State:
        text = self._memory[:].split(b"\0", 1)[0]
        values: dict[str, Any] = json.loads(text) if text else {}
        return _State(**{**values, "taken": [_Taken(**taken) for taken in values.get("taken", [])]})

    def _write(self, state: _State, serial: int, upcoming: int, processes: int) -> None:
        state.next.pop(str(serial), None)
        state.next[str(serial)] = [upcoming, processes]
        state.next = dict(list(state.next.items())[-_REMEMBERED:])
        self._store(state)

    def _store(self, state: _State) -> None:
        text = json.dumps(asdict(state)).encode() + b"\0"
        self._memory[: len(text)] = text


def _next(state: _State, serial: int) -> int:
    return state.next.get(str(serial), [0, 0])[0]
