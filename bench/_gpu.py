"""What runs on a CUDA device beside torch eager and torch.compile; run by gpu_check.py, which builds first.
Here observe and ensembles, the rest in _gpu_others.py.

All compute loss, p_y, correct, margin, EL2N and entropy of every row and scatter them by sample id into the
state of 10 million samples. Logits rotate over several times the L2 cache, ids are new in every call. Timed
by CUDA events, with the device kept busy until all calls of a round are enqueued, so that it is the device
that is timed; what a call costs the host stands beside it. After the last round the first rows of each input
are compared with float64 NumPy, all rows with torch. Of members of an ensemble all keep the same sums.

All cases together move about 1.2 TB of device memory, most of it for torch: a second on the fastest devices,
five where memory gives 250 GB/s. What takes longer is torch.compile, three cases of a quarter of a minute,
and the checks on the host.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from _device import Bench, copy_bandwidth
from _gpu_others import bench_argsort, bench_features, bench_reduce, bench_tokens
from _harness import check, check_close, options_parser, rounds, run_main
from _oracle import statistics
from _report import Report
from bench_ensembles import NumpyEnsemble, TorchEnsemble, kept

from pyimportance import Ensemble, Tracker
from pyimportance.score.history import ROW

SHAPES = ((65536, 10, torch.float32), (65536, 1000, torch.float32), (8192, 50257, torch.bfloat16))
SAMPLES = 10_000_000
NAMES = ("loss", "p_true", "margin", "el2n", "entropy", "correct")
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def observe_with_torch(
    state: torch.Tensor, ids: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor
) -> None:
    """state: float32 [6, N]."""
    log_p = logits.log_softmax(1, dtype=torch.float32)
    p = log_p.exp()
    at = targets[:, None]
    loss = -log_p.gather(1, at)[:, 0]
    others = logits.scatter(1, at, -torch.inf)
    error = p.scatter_add(1, at, torch.full_like(at, -1, dtype=torch.float32))
    margin = logits.gather(1, at)[:, 0].float() - others.amax(1).float()
    correct = (logits.argmax(1) == targets).float()
    rows = (loss, torch.exp(-loss), margin, error.norm(dim=1), -(p * log_p).sum(1), correct)
    state[:, ids] = torch.stack(rows)


class Inputs:
    """Batches by number: ids that no other has, logits and targets that rotate."""

    def __init__(
        self, bench: Bench, rows: int, classes: int, dtype: torch.dtype, samples: int = SAMPLES
    ) -> None:
        torch.manual_seed(0)
        make: dict[str, Any] = {"device": bench.device}
        self.rows, self.ids = rows, torch.randperm(samples, **make)
        count = bench.rotation(rows * classes * dtype.itemsize)
        self.logits = [torch.randn(rows, classes, **make).mul_(3).to(dtype) for _ in range(count)]
        self.targets = [torch.randint(classes, (rows,), **make) for _ in range(count)]

    def __getitem__(self, number: int) -> Batch:
        at = number % len(self.logits)
        return self.ids[number * self.rows :][: self.rows], self.logits[at], self.targets[at]


def check_states(tracker: Tracker, states: Mapping[str, torch.Tensor], inputs: Inputs, calls: int) -> None:
    tracker.end_epoch()
    dynamics = tracker.dynamics()
    ours: dict[str, Any] = {name: dynamics.mean(name) for name in NAMES[:-1]}
    ours["correct"] = dynamics.correct
    check(tracker.skipped == 0, f"the tracker skipped {tracker.skipped} rows")
    check_close("samples observed", int(dynamics.count.sum()), calls * inputs.rows)
    used = inputs.ids[: calls * inputs.rows].cpu().numpy()
    for contender, state in states.items():
        for name, theirs in zip(NAMES[:-1], state.cpu().numpy(), strict=False):
            check_close(f"{contender}, {name}", ours[name][used], theirs[used], rtol=2e-3, atol=1e-4)
    for number in range(min(calls, len(inputs.logits))):
        ids, logits, targets = (part[:64].cpu() for part in inputs[number])
        for name, right in statistics(logits.float().numpy(), targets.numpy()).items():
            exact = name == "correct"
            check_close(
                f"pyimportance, call {number}, {name}", ours[name][ids.numpy()], right,
                rtol=0 if exact else 1e-5, atol=0 if exact else 1e-6,
            )  # fmt: skip


def bench_shape(bench: Bench, inputs: Inputs, compiled: Callable[..., None] | None) -> None:
    samples = inputs.ids.numel()
    tracker = Tracker(samples, device="cuda")
    others = {"torch eager": observe_with_torch} | ({"torch.compile": compiled} if compiled else {})
    check(bench.calls * inputs.rows <= samples, "there are too few samples for so many rounds")
    states = {name: torch.zeros(len(NAMES), samples, device=bench.device) for name in others}
    contenders: dict[str, Callable[[int], object]] = {
        "pyimportance": lambda number: tracker.observe(*inputs[number])
    }
    for name, step in others.items():

        def call(number: int, step: Callable[..., None] = step, state: torch.Tensor = states[name]) -> None:
            step(state, *inputs[number])

        contenders[name] = call
    rows, classes = inputs.logits[0].shape
    nbytes = rows * (classes * inputs.logits[0].element_size() + 16)
    kept = {name: rows * (ROW.itemsize if name == "pyimportance" else 4 * len(NAMES)) for name in contenders}
    title = f"[{rows}, {classes}] {str(inputs.logits[0].dtype).removeprefix('torch.')}"
    with torch.no_grad():
        add = bench.add(title, contenders, items=rows, nbytes=nbytes, moved=nbytes, written=kept)
    check_states(tracker, states, inputs, bench.calls)
    add()


def check_ensembles(ours: Ensemble, theirs: TorchEnsemble, inputs: Inputs, calls: int) -> None:
    """All rows of the two, and the first in float64."""
    got, other = kept(ours), kept(theirs)
    right = NumpyEnsemble(64, got["p_sum"].shape[1])
    for number in range(calls):
        right.add(inputs[number][1][:64].double().cpu().numpy(), inputs.targets[0][:64].cpu().numpy())
    for name, want in kept(right).items():
        exact = name in ("votes", "wrong")
        rtol, atol = (0, 0) if exact else (1e-9, 1e-11)
        check_close(f"pyimportance, {name}", got[name][:64], want, rtol=rtol, atol=atol)
        if not exact:  # of equal largest logits torch's device takes any
            check_close(f"torch eager, {name}", other[name], got[name], rtol=2e-3, atol=1e-3 * calls)


def bench_ensemble(bench: Bench, inputs: Inputs) -> None:
    """A member whole, the same targets every time."""
    rows, classes = inputs.logits[0].shape
    ours, theirs = Ensemble(rows, classes, device="cuda"), TorchEnsemble(rows, classes, bench.device)
    targets = inputs.targets[0]
    nbytes, written = rows * (classes * inputs.logits[0].element_size() + 8), rows * (8 * classes + 18)
    add = bench.add(
        f"ensemble [{rows}, {classes}] {str(inputs.logits[0].dtype).removeprefix('torch.')}",
        {
            "pyimportance": lambda number: ours.add(logits=inputs[number][1], targets=targets),
            "torch eager": lambda number: theirs.add(inputs[number][1], targets),
        },
        items=rows,
        nbytes=nbytes,
        moved=nbytes + 2 * written,  # the sums are read as well
        written={"pyimportance": written, "torch eager": rows * (8 * classes + 16)},
    )
    check_ensembles(ours, theirs, inputs, bench.calls)
    add()


def run(options: argparse.Namespace) -> Report:
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    cache = int(gpu.L2_cache_size)
    copy = copy_bandwidth(max(4 * cache, 1 << 30))
    report = Report("gpu", item="row", about="")
    report.machine |= {
        "gpu": gpu.name,
        "gpu_l2": cache,
        "copy_gb_per_s": copy / 1e9,
        "cuda": torch.version.cuda,
    }
    compiled = None if options.no_compile else torch.compile(observe_with_torch, dynamic=False)
    few = Bench(report, rounds(options, 5), cache, copy)
    for rows, classes, dtype in SHAPES:
        inputs = Inputs(few, rows, classes, dtype)
        bench_shape(Bench(report, rounds(options, 9), cache, copy), inputs, compiled)
        if classes <= 1000:
            bench_ensemble(few, inputs)
        del inputs
        torch.cuda.empty_cache()
    for other in (bench_tokens, bench_features, bench_reduce, bench_argsort):
        other(few)
        torch.cuda.empty_cache()
    report.about = (
        f"{gpu.name}, L2 {cache / 1e6:.0f} MB, CUDA {torch.version.cuda}. "
        f"Copy: {copy / 1e9:.0f} GB/s, read and written. "
        "ms: on the device. MB in: logits, ids and targets; logits rotate over 4 times the L2 or more."
    )
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = options_parser("observe on a CUDA device beside torch")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    return run_main(run, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
