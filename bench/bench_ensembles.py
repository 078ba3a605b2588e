"""Ensemble.add: a member's logits into what an ensemble disagrees on, beside torch eager and NumPy.

All three keep the same of a member: sums of its probabilities and of its entropy, its votes, and how often it
was wrong. Every round adds another member, whose logits come from memory. With one thread, and with all
processors. What is kept after the last round is compared with float64 NumPy over all members.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from _harness import WARM, check_close, compare, options_parser, rounds, run_main, threads
from _machine import last_level_cache
from _report import Report

from pyimportance import Ensemble

Logits = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]
Kept = dict[str, npt.NDArray[np.float64]]


class TorchEnsemble:
    """What one would write around a loop over members."""

    def __init__(self, num_samples: int, num_classes: int, device: str = "cpu") -> None:
        with torch.device(device):
            self.p_sum = torch.full((num_samples, num_classes), 0.0, dtype=torch.float64)
            self.votes = torch.full((num_samples, num_classes), 0, dtype=torch.int32)
            self.entropy_sum = torch.full((num_samples,), 0.0, dtype=torch.float64)
            self.wrong = torch.full((num_samples,), 0, dtype=torch.int32)
            self.rows = torch.arange(num_samples)

    @torch.no_grad()
    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        log_p = logits.log_softmax(1, dtype=torch.float32)
        p = log_p.exp()
        vote = logits.argmax(1)
        self.p_sum += p
        self.entropy_sum -= (p * log_p).sum(1)
        self.votes[self.rows, vote] += 1
        self.wrong += vote != targets


class NumpyEnsemble:
    """The same in NumPy."""

    def __init__(self, num_samples: int, num_classes: int) -> None:
        self.p_sum = np.full((num_samples, num_classes), 0.0)
        self.votes = np.full((num_samples, num_classes), 0, np.int32)
        self.entropy_sum = np.full(num_samples, 0.0)
        self.wrong = np.full(num_samples, 0, np.int32)
        self.rows = np.arange(num_samples)

    def add(self, logits: Logits, targets: Targets) -> None:
        vote = logits.argmax(1)
        log_p = logits - logits[self.rows, vote][:, None]
        p = np.exp(log_p)
        total = p.sum(1, keepdims=True)
        log_p -= np.log(total)
        p /= total
        self.p_sum += p
        self.entropy_sum -= (p * log_p).sum(1)
        self.votes[self.rows, vote] += 1
        self.wrong += vote != targets


class Members:
    """Logits and targets by round, rotating over twice the last-level cache."""

    def __init__(self, rows: int, classes: int) -> None:
        rng = np.random.default_rng(0)
        count = 2 * last_level_cache() // (rows * classes * 4) + 2
        self.shape = rows, classes
        self.logits = [rng.standard_normal(self.shape, dtype=np.float32) * 3 for _ in range(count)]
        self.targets = rng.integers(0, classes, rows)

    def __getitem__(self, turn: int) -> Logits:
        return self.logits[turn % len(self.logits)]

    def kept(self, turns: int) -> Kept:
        """What is right after so many rounds."""
        oracle = NumpyEnsemble(*self.shape)
        for turn in range(turns):
            oracle.add(self[turn].astype(np.float64), self.targets)
        return kept(oracle)


def kept(ensemble: NumpyEnsemble | TorchEnsemble | Ensemble) -> Kept:
    names = ("p_sum", "votes", "entropy_sum", "wrong")
    if isinstance(ensemble, Ensemble):
        columns = ensemble.state_dict()["columns"]
        dtypes = {"p_sum": np.float64, "votes": np.uint16, "entropy_sum": np.float64, "wrong": np.int32}
        plain = {name: np.frombuffer(columns[name], dtypes[name]).astype(np.float64) for name in names}
        return {n: x.reshape(ensemble.num_samples, -1) if n in names[:2] else x for n, x in plain.items()}
    given = {name: getattr(ensemble, name) for name in names}
    host = {n: x.cpu().numpy() if isinstance(x, torch.Tensor) else x for n, x in given.items()}
    return {name: x.astype(np.float64) for name, x in host.items()}


def bench_shape(report: Report, members: Members, turns: int, count: int) -> None:
    ours, theirs, plain = (
        Ensemble(*members.shape),
        TorchEnsemble(*members.shape),
        NumpyEnsemble(*members.shape),
    )
    targets = torch.from_numpy(members.targets)
    with threads(count):
        seconds = compare(
            {
                "pyimportance": lambda turn: ours.add(logits=members[turn], targets=members.targets),
                "torch eager": lambda turn: theirs.add(torch.from_numpy(members[turn]), targets),
                "NumPy": lambda turn: plain.add(members[turn], members.targets),
            },
            turns,
            lambda *_: None,
        )
    right = members.kept(turns + WARM)
    for who, ensemble in (("pyimportance", ours), ("torch", theirs), ("NumPy", plain)):
        for name in right:
            rtol = 1e-9 if who == "pyimportance" else 1e-4
            exact = name in ("votes", "wrong")
            check_close(
                f"{who}, {name}", kept(ensemble)[name], right[name],
                rtol=0 if exact else rtol, atol=0 if exact else rtol * 1e-2,
            )  # fmt: skip
    rows, classes = members.shape
    report.add(
        f"[{rows}, {classes}]",
        seconds,
        items=rows,
        input_bytes=rows * (classes * 4 + 8),
        threads={"pyimportance": count, "torch eager": count, "NumPy": 1},
        written={
            "pyimportance": rows * (8 * classes + 18),
            "torch eager": rows * (8 * classes + 16),
            "NumPy": None,
        },
    )


def run(options: argparse.Namespace) -> Report:
    turns = rounds(options, 21)
    report = Report("ensembles", item="row", about="")
    for rows, classes in ((8192, 10), (512, 1000)) if options.quick else ((262144, 10), (16384, 1000)):
        members = Members(rows, classes)
        for count in sorted({1, len(os.sched_getaffinity(0))}):
            bench_shape(report, members, turns, count)
    report.about = (
        "MB in: a member's logits and targets. MB written: what changes of the state, most of it the sum of "
        "probabilities, which is read as well. Logits rotate over "
        f"{2 * last_level_cache() / 1e6:.0f} MB or more, twice the last-level cache."
    )
    return report


def main(argv: Sequence[str] | None = None) -> int:
    return run_main(run, options_parser("a member added to an ensemble, beside torch eager and NumPy"), argv)


if __name__ == "__main__":
    sys.exit(main())
