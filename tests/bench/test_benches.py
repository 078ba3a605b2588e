"""Every bench runs, with as many rounds as it is told, and says what it measured and on what."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pyimportance.score.reference import row_statistics

BENCH = Path(__file__).parents[2] / "bench"
CONTENDERS = {
    "observe": {"pyimportance", "torch eager", "numba", "sum", "arithmetic"},
    "ensembles": {"pyimportance", "torch eager", "NumPy"},
    "score": {"Tracker.end_epoch", "torch copy_ of as many bytes", "score", "NumPy"},
    "reduce": {"reduce", "Dynamics.from_history", "NumPy", "numba", "sum"},
    "order": {"pyimportance", "numpy stable", "torch.sort stable", "stripes", "sticky"},
    "scale": {"1e+05 samples", "1e+06 samples"},
    "movement": {"stripes", "blocks", "sticky(k=16)", "sticky(tolerance=0.01)"},
    "shards": {
        "index + write_shards", "cp -r --reflink=never, sync", "index, score, shard",
        "webdataset read + ShardWriter", "index + write_shards, zstd", "of which index",
        "headers, by pread", "verify", "read + CRC32C", "repartition (7 of 8 move)", "compact",
    },
    "load": {"pyimportance", "pyimportance, batched", "plain reading", "webdataset"},
    "tracking": {"no tracking", "Tracker", ".item() of every loss", "matrix[ids, e] = losses"},
}  # fmt: skip


def test_every_bench_is_run_here() -> None:
    assert {path.stem.removeprefix("bench_") for path in BENCH.glob("bench_*.py")} == set(CONTENDERS)


@pytest.fixture
def quick(bench: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What a bench prints; one of them as a program, since webdataset leaves files open there."""

    def run(name: str) -> str:
        options = ["--quick", "--repeats", "3", "--json", "-"]
        if name != "load":
            assert bench(name).main(options) == 0
            return capsys.readouterr().out
        options += ["--cases", "samples,tensors,loaders,cold,first"]  # memory has a test of its own
        command = [sys.executable, str(BENCH / f"bench_{name}.py"), *options]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.mark.parametrize("name", CONTENDERS)
def test_quick(quick: Callable[[str], str], name: str) -> None:
    report = json.loads(quick(name))
    assert report["bench"] == name
    assert report["machine"].keys() >= {"cpu", "cores", "caches", "memory", "threads", "versions", "load"}
    assert {row["contender"] for row in report["rows"]} >= CONTENDERS[name]
    for row in report["rows"]:
        assert len(row["seconds"]) == 3
        assert 0 < row["time"]["low"] <= row["time"]["median"] <= row["time"]["high"]
        assert row["threads"] >= 1
        assert row["input_bytes"] > 0
        if row["times_first"] is not None:
            assert 0 < row["times_first"]["low"] <= row["times_first"]["high"]
    if name in ("observe", "reduce", "tracking"):
        bare = {"observe": ("sum", "arithmetic"), "reduce": (), "tracking": ("no tracking",)}[
            name
        ]  # what others are compared to
        for row in report["rows"]:
            assert (row["fraction"] is None) == (row["contender"] in bare)
    if name in ("shards", "load"):
        by_kernel = (  # where it counts
            "webdataset read + ShardWriter", "index, score, shard", "read + CRC32C"
        )  # fmt: skip
        for row in report["rows"]:
            if row["read_bytes"] is None:
                assert name == "load" or row["contender"] in by_kernel
            else:  # counted, beside what was declared: nobody can read less, but for padding
                assert row["read_bytes"] >= 0.9 * row["input_bytes"]


@pytest.mark.parametrize("repeats", ["0", "-1", "2.5", "many"])
@pytest.mark.parametrize("name", [*CONTENDERS, "_gpu"])
def test_rounds_are_one_or_more(
    bench: Callable[[str], ModuleType], name: str, repeats: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(name).main([f"--repeats={repeats}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"error: argument --repeats: '{repeats}': must be an integer of at least 1")


def test_checks_are_no_asserts() -> None:
    """`python -O` leaves asserts out."""
    for path in BENCH.glob("*.py"):
        assert not [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]


def test_the_oracle_agrees_with_the_reference(bench: Callable[[str], ModuleType]) -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 10, 100):
        logits = rng.standard_normal((50, classes), dtype=np.float32) * 5
        targets = rng.integers(0, classes, 50)
        right = row_statistics(logits, targets)
        for name, values in bench("_oracle").statistics(logits, targets).items():
            np.testing.assert_allclose(values, right[name], rtol=1e-9, atol=1e-14, err_msg=name)


def test_contenders_take_turns_and_every_answer_is_examined(bench: Callable[[str], ModuleType]) -> None:
    calls: list[object] = []
    seconds = bench("_harness").compare(
        {"a": lambda turn: calls.append(("a", turn)) or turn, "b": lambda turn: calls.append(("b", turn))},
        2,
        lambda name, turn, answer: calls.append((name, turn, answer)),
        prepare=calls.append,
        before=calls.append,
    )
    each = [[t, "a", ("a", t), ("a", t, t), "b", ("b", t), ("b", t, None)] for t in range(3)]
    assert calls == [call for turn in each for call in turn]
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 2, "b": 2}


def test_a_slow_contender_has_fewer_rounds_and_those_along_have_all(
    bench: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, now = bench("_harness"), [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])

    def takes(seconds: float) -> Callable[[int], None]:
        return lambda _: now.__setitem__(0, now[0] + seconds)

    calls = {"ours": takes(2), "slow": takes(60), "some": takes(2.5), "fast": takes(0.25)}
    seconds = harness.compare(calls, 9, lambda *_: None, budget=9, along=["ours"])
    assert seconds == {"ours": [2] * 9, "slow": [60] * 3, "some": [2.5] * 4, "fast": [0.25] * 9}
    seconds = harness.compare({**calls, "fast": takes(3)}, 9, lambda *_: None, budget=9, along=["ours"])
    assert {name: len(taken) for name, taken in seconds.items()} == {
        "ours": 5,
        "slow": 3,
        "some": 4,
        "fast": 3,
    }


@pytest.mark.parametrize(
    ("got", "right", "says"),
    [
        ([1.0, 2.0], [1.0, 2.0001], r"it: 2\.0 at 1; right is 2\.0001 \(1 of 2 are wrong\)"),
        ([1.0, np.nan], [1.0, 2.0], "it: nan at 1"),
        ([1.0, 2.0], [np.nan, 2.0], "right is nan"),
        ([1.0, np.inf], [1.0, -np.inf], "it: inf at 1"),
        ([1.0], [1.0, 1.0], r"it: shape \[1\]; right is \[2\]"),
        ([1, 2], [1, 3], "it: 2 at 1; right is 3"),
    ],
)  # fmt: skip
def test_check_close_says_what_differs(
    bench: Callable[[str], ModuleType], got: list[float], right: list[float], says: str
) -> None:
    harness = bench("_harness")
    harness.check_close("it", right, right)
    for tolerance in ({}, {"rtol": 1e-5, "atol": 1e-9}):
        with pytest.raises(harness.WrongAnswerError, match=says):
            harness.check_close("it", got, right, **tolerance)


def test_ratios_are_of_the_same_round_and_intervals_are_labelled(
    bench: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    module = bench("_report")
    report = module.Report("nothing", item="row", about="MB in: none.")
    # A machine that slows down 10 times: the medians' ratio is 6 or so, every round's is 2.
    seconds = {"ours": [1.0, 1.0, 10.0], "peer": [2.0, 2.0, 20.0]}
    report.fraction_of = "% of what there is"
    report.add("case", seconds, items=1, input_bytes=1, fractions={"peer": [0.125, 0.125, 0.25]})
    ours, peer = report.rows
    assert ours.fraction is None
    assert (peer.fraction.median, peer.fraction.low, peer.fraction.high) == (0.125, 0.125, 0.25)
    assert ours.times_first is None
    assert (peer.times_first.median, peer.times_first.low, peer.times_first.high) == (2, 2, 2)
    assert ours.time.low <= ours.time.median == 1 <= ours.time.high
    module.publish(report, None)
    shown = capsys.readouterr().out
    assert "median [95 % bootstrap interval of the median]" in shown
    assert "seconds over those of the case's first contender in the same round" in shown
    for word in (
        report.machine["cpu"],
        "cores",
        "load",
        "threads",
        "numpy",
        "MB in: none.",
        "peer",
        "12.50 [12.50",
    ):
        assert word in shown
    assert report.as_dict()["interval"] == module.INTERVAL


def test_an_interval_narrows_and_holds_the_median(bench: Callable[[str], ModuleType]) -> None:
    draws = np.random.default_rng(0).normal(10, 1, (200, 15))
    intervals = [bench("_report").Interval.of(draw) for draw in draws]
    assert np.mean([i.low <= 10 <= i.high for i in intervals]) > 0.9
    wide = bench("_report").Interval.of(draws[0])
    narrow = bench("_report").Interval.of(draws.ravel())
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
