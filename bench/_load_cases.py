"""The cases of loading: ours and the peers over the same samples, each answer checked."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from _harness import compare, say
from _load_aims import judge
from _load_cold import COLD, bytes_fetched, forget
from _load_data import Data
from _load_memory import held
from _load_ours import KINDS, OURS, READ, Batched, Ours, check_plain, plain
from _load_peer import Peer
from _machine import bytes_read, version_of
from _report import Report

PROCESSES = 2
COUNTED = (*OURS, READ, "webdataset")  # those that read, and do not map, their files


@dataclass(frozen=True)
class Turns:
    """So many rounds at most, and seconds for each contender of a case."""

    rounds: int
    budget: float | None


class Contenders:
    """Ours and the peers that are here, over the same samples; ``size`` is the name of the data."""

    def __init__(self, report: Report, size: str, data: Data, turns: Turns) -> None:
        self.report, self.size, self.data, self.turns = report, size, data, turns
        self.peers = dict[str, Peer]()

    def find(self, peers: Sequence[str], absent: dict[str, str]) -> None:
        """Has ours and these peers write their formats; those that cannot be imported are ``absent``."""
        for kind in KINDS:
            if kind.name in (*OURS, *peers):
                say(f"{self.size} samples: {kind.name} writes its files")
                try:
                    self.peers[kind.name] = peer = kind(self.data, self.data.folder / kind.__name__)
                except ImportError as error:
                    absent[kind.name] = f"cannot be imported ({error})"
                else:
                    if kind.name not in OURS:
                        self.report.machine["versions"][peer.package] = version_of(peer.package)

    def samples(self) -> None:
        self.compare(
            "samples",
            "this process",
            {name: partial(_all_of, peer) for name, peer in self.peers.items()},
            examine=self.check_samples,
        )

    def tensors(self) -> None:
        self.compare(
            "tensors",
            "tensors of 256",
            {name: partial(_tensors_of, peer) for name, peer in self.peers.items() if peer.has_tensors},
            examine=lambda _, what, batches: self.data.check_images(what, (b.numpy() for b in batches)),
            note=lambda name: "the files" if name == READ else "tensors [256, ...]",
        )

    def loaders(self) -> None:
        with _quiet():
            loaders = {name: peer.loader(PROCESSES) for name, peer in self.peers.items() if peer.has_loader}
            self.compare(
                "loaders",
                f"{PROCESSES} loader processes",
                {name: partial(list, loader) for name, loader in loaders.items()},
                examine=lambda name, what, batches: self.check_samples(name, what, _flat(name, batches)),
                counted=(READ,),  # not what loader processes read
            )

    def cold(self) -> None:
        had = dict[str, float]()

        def before(name: str) -> None:
            had[name] = max(had.get(name, 0.0), forget(self.data.folder))

        self.compare(
            "cold",
            "this process, not in the page cache",
            {name: partial(_all_of, peer) for name, peer in self.peers.items()},
            examine=self.check_samples,
            before=before,
            counter=bytes_fetched,
            counted=(*self.peers, READ),
            note=lambda name: (
                self.yields(name)
                + f"; {had[name]:.0%} of all files WAS in the page cache" * (had[name] > COLD)
            ),
        )

    def memory(self) -> None:
        """A process of its own for each, with loader processes, or without where it cannot have them."""
        seconds, notes = dict[str, list[float]](), dict[str, str]()
        case = f"{self.size} samples, memory while an epoch is read"
        for name, peer in self.peers.items():
            say(f"{case}: {name}")
            if peer.has_loader:
                with _quiet():
                    peer.loader(PROCESSES)  # writes what only loaders read
            for processes in (PROCESSES,) * peer.has_loader + (0,) * (
                name == Ours.name or not peer.has_loader
            ):
                start = time.perf_counter()
                found = held(name, self.data, processes)
                row = name if processes else f"{name}, no loader process"
                seconds[row], notes[row] = [time.perf_counter() - start], found.text(processes)
        self.report.add(
            case, seconds, items=self.data.samples, input_bytes=self.data.input_bytes, notes=notes
        )

    def yields(self, name: str) -> str:
        return "the files" if name == READ else self.peers[name].yields

    def check_samples(self, name: str, what: str, items: Any) -> None:
        self.data.check(what, self.peers[name].seen(items))

    def compare(
        self,
        kind: str,
        how: str,
        calls: Mapping[str, Callable[[], Any]],
        *,
        examine: Callable[[str, str, Any], None],
        before: Callable[[str], None] = lambda _: None,
        counter: Callable[[], int | None] = bytes_read,
        counted: Sequence[str] = COUNTED,
        note: Callable[[str], str] | None = None,
    ) -> None:
        """The rows of a case: ``calls``, with plain reading between ours and the peers'."""
        case, data = f"{self.size} samples, {how}", self.data
        every: dict[str, Callable[[], Any]] = {name: calls[name] for name in calls if name in OURS}
        every[READ] = partial(plain, data)
        every |= calls
        read = dict.fromkeys(every, 0)

        def call(name: str, turn: int) -> Any:
            start = counter()
            answer = every[name]()
            read[name] = (counter() or 0) - (start or 0)
            return answer

        def look(name: str, turn: int, answer: Any) -> None:
            if name == READ:
                check_plain(data, answer)
            else:
                examine(name, f"{case}, {name}, epoch {turn}", answer)

        seconds = compare(
            {name: partial(call, name) for name in every},
            self.turns.rounds,
            look,
            prepare=lambda turn: say(f"{case}: round {turn}"),
            before=before,
            budget=self.turns.budget,
            along=(*OURS, READ),
        )
        self.report.add(
            case,
            seconds,
            items=data.samples,
            input_bytes=data.input_bytes,
            read={name: read[name] if name in counted and read[name] else None for name in every},
            fractions={
                name: [a / b for a, b in zip(seconds[READ], taken, strict=False)]
                for name, taken in seconds.items()
                if name != READ
            },
            notes={
                name: f"{data.samples / np.median(taken):,.0f} samples/s: {(note or self.yields)(name)}"
                for name, taken in seconds.items()
            },
        )
        judge(self.report, kind, self.size, case)


def _all_of(peer: Peer) -> list[Any]:
    return list(peer.epoch())


def _tensors_of(peer: Peer) -> list[Any]:
    return list(peer.tensors())


def _flat(name: str, batches: list[Any]) -> Iterator[Any]:
    if name == Batched.name:
        return iter(batches)
    return (item for batch in batches for item in batch)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'pin_memory' argument")  # energon always asks for it
        yield
