"""Faults: what a handler says of samples that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pyimportance.errors import ArgumentError, DataError
from pyimportance.load.webdataset.stages import Handler, always_raises, reraise

_STOPS = ("ignore_and_stop", "warn_and_stop")
_GOES_ON = ("ignore_and_continue", "warn_and_continue")


class Faults:
    """Asks the handler once for every place of a sample in error, when it was read; what it raises, or that
    reading is to end, takes effect where the sample would have been yielded.
    """

    def __init__(self, handler: Handler) -> None:
        if not callable(handler):
            raise ArgumentError(f"handler={handler!r}: must be a function of an exception")
        self.handler, self.stopped = handler, False
        self._said: list[tuple[DataError, Exception | None]] = []  # of those that are not to be skipped

    @property
    def may_stop(self) -> bool:
        """Whether it may end reading, as far as its name tells."""
        return not always_raises(self.handler) and getattr(self.handler, "__name__", None) not in _GOES_ON

    def check_may_stop(self, ranks: int) -> None:
        """Raises ArgumentError for webdataset's handlers that stop, where others would wait for this rank."""
        if ranks > 1 and (name := getattr(self.handler, "__name__", None)) in _STOPS:
            raise ArgumentError(
                f"handler={name}: one of {ranks} ranks would stop alone, and the others wait for it; "
                "reraise_exception stops all, warn_and_continue and ignore_and_continue go on"
            )

    def skips(self, error: DataError, ranks: int) -> bool:
        """Whether another sample may take the place of one; ranks: how many have to yield equally much."""
        if self.handler is reraise:
            return False
        raised: Exception | None = None
        try:
            if self.handler(error):
                return True
            if ranks > 1:
                raise ArgumentError(
                    f"handler: said to stop, which one of {ranks} ranks cannot do alone; true goes on, and "
                    f"what it raises stops all ({error})"
                )
        except Exception as e:
            raised = e
        self._said.append((error, raised))
        return False

    def until_stopped(self, samples: Iterable[Any]) -> Iterator[Any]:
        """Samples, and whether the handler ended them: ``stopped``, right then."""
        try:
            yield from samples
        except DataError as error:
            said = [raised for about, raised in self._said if about is error]
            if not said or said[0] is error:
                raise
            if said[0] is not None:
                raise said[0] from error
            self.stopped = True
        else:
            self.stopped = False
