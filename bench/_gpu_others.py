"""What else runs on a CUDA device, beside torch eager there: sequences of tokens, observations with features,
the reduction of a history, and sorting (torch sorts by CUB, as we do).

Every contender's answers are compared with float64 on the host, for a part of the samples, and with each
other's for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _device import Bench
from _harness import check, check_close
from torch.nn.functional import cross_entropy

from pyimportance import Tracker, argsort
from pyimportance.score import state
from pyimportance.score.history import ROW
from pyimportance.score.ranges import EL2N_MAX
from pyimportance.score.reference import row_statistics

SEQUENCES, FEATURES, HISTORY, SORTED = (4, 512, 50257), (16384, 1000, 2048), (100, 1_000_000), 10_000_000
PART = 64  # samples that are compared with the host


def bench_tokens(bench: Bench, shape: tuple[int, int, int] = SEQUENCES) -> None:
    """Logits [B, T, V] in bfloat16, without the last position, as language models have them: mean losses."""
    sequences, length, vocabulary = shape
    torch.manual_seed(0)
    nbytes = sequences * length * (vocabulary * 2 + 8)
    count = bench.rotation(nbytes)
    make: dict[str, Any] = {"device": bench.device}
    logits = [torch.randn(sequences, length + 1, vocabulary, **make).bfloat16()[:, :-1] for _ in range(count)]
    targets = [torch.randint(vocabulary, (sequences, length), **make) for _ in range(count)]
    num_samples = bench.calls * sequences
    ids = torch.randperm(num_samples, **make).view(-1, sequences)
    tracker, losses = Tracker(num_samples, device="cuda"), torch.zeros(num_samples, **make)

    def eager(number: int) -> None:
        z, y = logits[number % count], targets[number % count]
        each = cross_entropy(z.float().flatten(0, 1), y.flatten(), reduction="none")
        losses[ids[number]] = each.view(sequences, length).mean(1)

    add = bench.add(
        f"tokens {list(shape)} bfloat16",
        {
            "pyimportance": lambda n: tracker.observe(ids[n], logits[n % count], targets[n % count]),
            "torch eager": eager,
        },
        items=sequences * length,
        nbytes=nbytes,
        moved=nbytes,
        written={"pyimportance": sequences * ROW.itemsize, "torch eager": sequences * 4},
    )
    tracker.end_epoch()
    got = tracker.dynamics().mean("loss")
    check_close("tokens: torch eager", losses.cpu().numpy(), got, rtol=1e-4, atol=1e-4)
    for number in range(min(count, bench.calls)):
        z, y = (part[0].cpu() for part in (logits[number], targets[number]))
        right = cross_entropy(z.double(), y).item()
        check_close(f"tokens: call {number}", got[int(ids[number, 0])], right, rtol=1e-6)
    add()


def bench_features(bench: Bench, shape: tuple[int, int, int] = FEATURES) -> None:
    """Logits [B, C] with the last layer's input [B, D]: GraNd, and EL2N of it."""
    rows, classes, width = shape
    torch.manual_seed(0)
    nbytes = rows * ((classes + width) * 4 + 8)
    count = bench.rotation(nbytes)
    make: dict[str, Any] = {"device": bench.device}
    logits = [torch.randn(rows, classes, **make) * 3 for _ in range(count)]
    features = [torch.randn(rows, width, **make) for _ in range(count)]
    targets = [torch.randint(classes, (rows,), **make) for _ in range(count)]
    num_samples = bench.calls * rows
    ids = torch.randperm(num_samples, **make).view(-1, rows)
    tracker, grand = Tracker(num_samples, device="cuda"), torch.zeros(2, num_samples, **make)

    def ours(number: int) -> None:
        at = number % count
        tracker.observe(ids[number], logits[at], targets[at], features=features[at])

    def eager(number: int) -> None:  # the loss and these two alone
        at = number % count
        p, one = logits[at].softmax(1), targets[at][:, None]
        el2n = p.scatter_add(1, one, torch.full_like(one, -1, dtype=p.dtype)).norm(dim=1)
        norms = torch.linalg.vector_norm(features[at], dim=1)
        grand[:, ids[number]] = torch.stack([el2n, el2n * torch.sqrt(1 + norms * norms)])

    add = bench.add(
        f"features [{rows}, {classes}] and [{rows}, {width}] float32",
        {"pyimportance": ours, "torch eager, EL2N and GraNd alone": eager},
        items=rows,
        nbytes=nbytes,
        moved=nbytes,
        written={"pyimportance": rows * ROW.itemsize, "torch eager, EL2N and GraNd alone": rows * 8},
    )
    tracker.end_epoch()
    dynamics = tracker.dynamics()
    got = {"el2n": dynamics.mean("el2n"), "grand": dynamics.mean("grand")}
    for name, theirs in zip(got, grand.cpu().numpy(), strict=True):
        check_close(f"features: torch eager, {name}", theirs, got[name], rtol=2e-3, atol=1e-3)
    for number in range(min(count, bench.calls)):
        z, y, h = (part[:PART].cpu().numpy() for part in (logits[number], targets[number], features[number]))
        sample = ids[number, :PART].cpu().numpy()
        right = row_statistics(z, y, h)
        for name, values in got.items():
            what = f"features: call {number}, {name}"
            check_close(what, values[sample], right[name], rtol=1e-5, atol=1e-6)
    add()


def bench_reduce(bench: Bench, shape: tuple[int, int] = HISTORY) -> None:
    """A history [E, N] of p_y and of correct: mean, variance, how often forgotten, when first learned."""
    epochs, samples = shape
    torch.manual_seed(0)
    p = torch.rand(epochs, samples, device=bench.device)
    correct = torch.rand(epochs, samples, device=bench.device) < 0.7
    native = bench.native()
    history = {"p_true": p, "correct": correct.view(torch.uint8)}
    names = state.names(("p_true", "correct"))
    columns = {n: torch.from_numpy(np.zeros(samples, state.DTYPES[n])).to(bench.device) for n in names}
    wrong = torch.zeros(1, dtype=torch.int32, device=bench.device)
    theirs: dict[str, torch.Tensor] = {}

    def ours(_: int) -> None:
        with bench.stream() as stream:
            native.reduce(columns, history, EL2N_MAX, wrong, stream)

    def eager(_: int) -> None:
        theirs["mean"], theirs["variance"] = p.mean(0), p.var(0, unbiased=False)
        theirs["forgotten"] = (correct[:-1] & ~correct[1:]).sum(0)
        theirs["first_learned"] = correct.int().argmax(0)

    nbytes, kept = epochs * samples * 5, sum(column.nbytes for column in columns.values())
    add = bench.add(
        f"reduce [{epochs}, {samples}] float32 and bool",
        {"pyimportance": ours, "torch eager": eager},
        items=samples,
        nbytes=nbytes,
        moved=nbytes + kept,
        written={"pyimportance": kept, "torch eager": samples * 24},
    )
    check(not wrong.item(), "reduce: the history was refused")
    got = {n: column.cpu().numpy() for n, column in columns.items()}
    mine = {
        "mean": got["p_mean"],
        "variance": got["p_m2"] / epochs,
        "forgotten": got["forgotten"],
        "first_learned": got["first_learned"],
    }
    for name, other in theirs.items():
        rtol = 0 if name in ("forgotten", "first_learned") else 1e-3
        check_close(f"reduce: torch eager, {name}", other.cpu().numpy(), mine[name], rtol=rtol)
    part = p[:, :PART].double().cpu().numpy()
    check_close("reduce: mean", mine["mean"][:PART], part.mean(0), rtol=1e-9)
    check_close("reduce: variance", mine["variance"][:PART], part.var(0), rtol=1e-9)
    add()


def bench_argsort(bench: Bench, num_values: int = SORTED) -> None:
    """Positions of float32 values, descending."""
    torch.manual_seed(0)
    count = bench.rotation(num_values * 4)
    values = [torch.randn(num_values, device=bench.device) for _ in range(count)]
    orders: dict[str, dict[int, torch.Tensor]] = {"pyimportance": {}, "torch.sort stable": {}}

    def ours(number: int) -> None:
        orders["pyimportance"][0] = argsort(values[number % count])

    def theirs(number: int) -> None:
        _, orders["torch.sort stable"][0] = torch.sort(values[number % count], descending=True, stable=True)

    nbytes = num_values * 4
    add = bench.add(
        f"argsort {num_values} float32",
        {"pyimportance": ours, "torch.sort stable": theirs},
        items=num_values,
        nbytes=nbytes,
        moved=num_values * 12,  # what a sort of one pass would read and write
        written=dict.fromkeys(orders, num_values * 8),
    )
    last = values[(bench.calls - 1) % count].cpu().numpy()
    right = np.argsort(-last, kind="stable")
    for name, order in orders.items():
        check_close(f"argsort: {name}", order[0].cpu().numpy(), right)
    add()
