"""Stream: what can only be read in order, as units of work that do not depend on each other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from pyimportance.errors import DataError, PyimportanceError
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file
from pyimportance.io.urls import is_url, parse
from pyimportance.shards.sources import Source

Sample: TypeAlias = "tuple[str, dict[str, bytes]]"
"""(key, payload by extension)"""

Data: TypeAlias = "Source | Iterable[Mapping[str, Any]]"
"""What names a source, or is one: paths of any kind, or samples as dicts."""

_AT_ONCE = 16  # units that are looked at: a server is asked for each


class State(NamedTuple):
    """What a part of a source is at the moment.

    tells   JSON that changes when the data do, so far as that can be told
    nbytes  how much there is to be read; 0 where that is unknown
    """

    tells: Any
    nbytes: int = 0


@dataclass(frozen=True)
class Samples:
    """A part of a stream that yields samples.

    name   what tars made of it are called after
    where  what errors call it
    read   samples in order, always the same; what is read is counted there as "origin"
    state  what is there now
    """

    name: str
    where: str
    read: Callable[[Meter | None], Iterator[Sample]]
    state: Callable[[], State]


@dataclass(frozen=True)
class Tar:
    """A part of a stream that is a tar; fields as above, ``read`` yields the tar's bytes."""

    name: str
    where: str
    read: Callable[[Meter | None], Iterator[bytes]]
    state: Callable[[], State]


@dataclass(frozen=True)
class Stream:
    """``units`` in the order of their samples; ``what`` names the source in messages.

    folder  everything below it is the source; None: that is not so
    """

    what: str
    units: tuple[Samples | Tar, ...]
    folder: str | None = None

    def states(self) -> list[State]:
        """What each unit is now."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda unit: unit.state(), self.units))

    def version(self) -> str:
        """SHA-256 (hex) of what its units tell now."""
        return version_of(self, self.states())


def version_of(stream: Stream, states: Sequence[State]) -> str:
    """`Stream.version`, for states that are known."""
    units = [[unit.name, state.tells] for unit, state in zip(stream.units, states, strict=True)]
    return hashlib.sha256(json.dumps(units).encode()).hexdigest()


def state_of(*paths: str) -> State:
    """Of files and URLs: names, sizes and versions. Raises DataError where one is not there."""
    tells, nbytes = [], 0
    for path in paths:
        with open_file(path) as file:
            tells.append([os.path.basename(file.path), file.size, file.version])
            nbytes += file.size
    return State(tells, nbytes)


def name_of(path: str) -> str:
    """What a file or the object of a URL is called, without where it lies."""
    return os.path.basename(parse(path).path if is_url(path) else path)


def stem(path: str) -> str:
    """Its name without the last extension."""
    return os.path.splitext(name_of(path))[0]


def guarded(values: Iterable[Any], what: str) -> Iterator[Any]:
    """``values``. What they raise becomes a DataError: it is not the fault of the file written meanwhile."""
    iterator, number = iter(values), 0
    while True:
        try:
            value = next(iterator)
        except StopIteration:
            return
        except PyimportanceError:
            raise
        except Exception as e:
            raise DataError(f"{what} {number}: the source raised {type(e).__name__}: {e}") from e
        yield value
        number += 1
