"""Functions of each sample, and what takes the place of one that they leave out.

All ranks yield equally many batches, so that none waits for another that has ended. A stage that leaves out
what cannot be decoded would break that, as ranks do not know of each other's losses. So where ranks must stay
equal, a neighbour takes the place there and then: the n-th output goes with the n-th input on every rank,
lengths are known beforehand, and positions go on being counted in batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.load.webdataset.stages import Handler, RefusedError, Stage, always_raises, reraise

Others = Callable[[], Iterator[Any]]

_AHEAD = 16  # inputs that are kept at most, where what takes a place is looked for among those that follow


@dataclass(frozen=True)
class Applied(Stage):
    """f of each input; None, and what ``handler`` says of an exception, leave it out. keyed: f is a user's
    own, and keys stay.
    """

    name: str
    f: Callable[[Any], Any]
    handler: Handler = reraise
    keyed: bool = False

    @property
    def may_leave_out(self) -> bool:
        return self.keyed or not always_raises(self.handler)

    def __call__(self, inputs: Iterator[Any], seed: str) -> Iterator[Any]:
        for sample in inputs:
            try:
                result = self._of(sample)
            except RefusedError:
                raise
            except Exception as error:
                if self.handler(error):
                    continue
                return
            if result is not None:
                yield result

    def filled(self, inputs: Iterator[Any], others: Others, note: Callable[[], None]) -> Iterator[Any]:
        """As many outputs as inputs: in the place of one that is left out, the result of its neighbour,
        marked as a pad: that of the last that was not left out, or of the next few, or else of the
        ``others``, which are read for that alone, and not kept.

        note() is called for each. Raises ArgumentError where there is none, and where the handler says stop.
        """
        ahead, sound = deque[Any](), list[Any]()
        for sample in _followed(ahead, inputs):
            before = _copied(sample)
            if (result := self._unless_left_out(sample)) is not None:
                sound = [before]
            else:
                note()
                for other in chain(sound, tuple(ahead), _held(inputs, ahead), others()):
                    if (result := self._unless_left_out(_copied(other, pad=True))) is not None:
                        sound = [_copied(other)]
                        break
                else:
                    raise ArgumentError(
                        f".{self.name}() leaves out every sample that this rank reads; none is left to "
                        "take their places, as ranks yield equally many"
                    )
            yield result

    def _unless_left_out(self, sample: Any) -> Any:
        try:
            return self._of(sample)
        except RefusedError:
            raise
        except Exception as error:
            if self.handler(error):
                return None
            raise ArgumentError(
                f"handler={self.handler!r} would end the epoch of this rank alone, and the others would wait "
                "for it; one that continues leaves the sample out"
            ) from error

    def _of(self, sample: Any) -> Any:
        result = self.f(sample)
        if self.keyed and isinstance(sample, dict) and isinstance(result, dict):
            result["__key__"] = sample.get("__key__")
        return result


def _followed(ahead: deque[Any], inputs: Iterator[Any]) -> Iterator[Any]:
    """What was taken ahead first."""
    while True:
        if ahead:
            yield ahead.popleft()
        else:
            try:
                yield next(inputs)
            except StopIteration:
                return


def _held(inputs: Iterator[Any], ahead: deque[Any]) -> Iterator[Any]:
    for sample in islice(inputs, _AHEAD - len(ahead)):
        ahead.append(sample)
        yield sample


def _copied(sample: Any, *, pad: bool = False) -> Any:
    """Its own container, which functions may change; of one sample, or of a batch's columns."""
    if isinstance(sample, list):
        return [_copied(each, pad=pad) for each in sample]
    if not isinstance(sample, dict):
        return sample
    marked = {"__pad__": np.ones_like(sample["__pad__"])} if pad and "__pad__" in sample else {}
    if marked and isinstance(sample["__pad__"], bool):
        marked = {"__pad__": True}
    return {**sample, **marked}
