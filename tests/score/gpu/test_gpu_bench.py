"""The benches of what runs on a device check their answers: small cases, also with the host as the device."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pyimportance import Ensemble, Tracker

BENCH = Path(__file__).parents[3] / "bench"
SMALL: dict[str, Any] = {
    "bench_tokens": (3, 7, 50),
    "bench_features": (70, 11, 5),
    "bench_reduce": (9, 600),
    "bench_argsort": 1000,
}


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("_gpu_others")


@pytest.fixture
def bench(machine: Any, others: Any) -> Any:
    """Two rounds of every contender, their clock the host's."""

    def compare(contenders: Mapping[str, Callable[[int], object]], turns: int) -> Any:
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for number in range((turns + 1) * 4):
            for name, call in contenders.items():
                start = time.perf_counter()
                call(number)
                seconds[name].append(time.perf_counter() - start)
        return seconds, {name: min(taken) for name, taken in seconds.items()}

    module = importlib.import_module("_device")
    report = importlib.import_module("_report").Report("gpu", item="row", about="")
    plain = module.Bench(report, 2, 1000, 1e9, device=str(machine.device), native=lambda: machine.native)
    return plain if machine.device.type == "cuda" else replace(plain, compare=compare)


@pytest.mark.parametrize("name", SMALL)
def test_two_rounds(others: Any, bench: Any, trackers: Callable[..., Tracker], name: str) -> None:
    getattr(others, name)(bench, SMALL[name])
    ours, theirs = bench.report.rows
    assert ours.contender == "pyimportance"
    assert ours.case == theirs.case
    assert " of copy, host " in ours.notes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_two_rounds_of_what_is_aimed_at(
    bench: Any, trackers: Callable[..., Tracker], ensembles: Callable[..., Ensemble], dtype: torch.dtype
) -> None:
    module = importlib.import_module("_gpu")
    inputs = module.Inputs(bench, 70, 13, dtype, samples=2000)
    module.bench_shape(bench, inputs, module.observe_with_torch)
    assert [row.contender for row in bench.report.rows] == ["pyimportance", "torch eager", "torch.compile"]
    assert bench.report.rows[0].case == f"[70, 13] {str(dtype).removeprefix('torch.')}"
    module.bench_ensemble(bench, inputs)
    assert bench.report.rows[-1].case.startswith("ensemble [70, 13]")


@pytest.mark.parametrize("name", ["bench_tokens", "bench_features"])
def test_a_wrong_answer_is_no_figure(
    others: Any, bench: Any, trackers: Callable[..., Tracker], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    observe = Tracker.observe

    def wrong(self: Tracker, ids: Any, logits: torch.Tensor, *rest: Any, **options: Any) -> None:
        observe(self, ids, logits * 1.01, *rest, **options)

    monkeypatch.setattr(Tracker, "observe", wrong)
    with pytest.raises(importlib.import_module("_harness").WrongAnswerError, match="right is"):
        getattr(others, name)(bench, SMALL[name])
    assert not bench.report.rows
