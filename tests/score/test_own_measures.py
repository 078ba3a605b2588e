"""Measures of the users' own, compiled and called by the native loop."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import ArgumentError, Dynamics, Tracker, measure, measures, score, score_logits
from pyimportance.score.measures import history, own
from pyimportance.score.measures.registry import REGISTRY


@pytest.fixture(autouse=True)
def nothing_is_left_behind() -> Iterator[None]:
    before = dict(REGISTRY)
    yield
    for table in (REGISTRY, own._OWN, own._OF_LOGITS):
        table.clear()  # type: ignore[attr-defined]
    REGISTRY.update(before)


def line_of(function: Callable[..., Any], below: int) -> int:
    return function.__code__.co_firstlineno + below


def recorded(rng: np.random.Generator, epochs: int = 12, samples: int = 300) -> dict[str, npt.NDArray[Any]]:
    unseen = rng.random((epochs, samples)) < 0.3
    unseen[:, 5] = True
    unseen[:, 6] = np.arange(epochs) != 3
    loss = np.where(unseen, np.nan, rng.exponential(size=(epochs, samples)))
    right = np.where(unseen, np.nan, (rng.random((epochs, samples)) < 0.5).astype(float))
    return {"loss": loss, "p_true": np.exp(-loss), "correct": right}


def test_a_measure_is_its_function_sample_by_sample(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    @measure("late_rise", high="hard")
    def late_rise(correct: Any, loss: Any) -> float:
        rise = 0.0
        for e in range(1, loss.size):
            if loss[e] > loss[e - 1] and correct[e] == 0:
                rise += (loss[e] - loss[e - 1]) * e
        return rise + np.median(loss)

    given = recorded(rng)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(own, "default_threads", lambda threads=threads: threads)
        monkeypatch.setattr(history, "_NUMBERS", 24 * 70)
        results.append(score(Dynamics.from_history(**given), "late_rise"))
    want = np.full(300, np.nan, np.float32)
    for n in range(300):
        seen = ~np.isnan(given["loss"][:, n])
        if seen.any():
            want[n] = late_rise(given["correct"][seen, n], given["loss"][seen, n])
    np.testing.assert_allclose(results[0].values, want, rtol=1e-6)
    assert np.isnan(want[5])
    assert all(result.values.tobytes() == results[0].values.tobytes() for result in results)
    assert (results[0].measure, results[0].descending) == ("late_rise", True)
    assert "late_rise" in measures()
    with pytest.raises(ArgumentError, match="'late_rise' needs correct, which was not recorded"):
        score(Dynamics.from_history(loss=given["loss"]), "late_rise")


def test_of_a_tracker(rng: np.random.Generator) -> None:
    @measure("spread", high="easy")
    def spread(margin: Any, entropy: Any, el2n: Any, p_true: Any) -> float:
        return margin.max() - margin.min() + entropy[-1] * 10 + el2n[0] * 100 + p_true.mean() * 1000

    tracker = Tracker(40, history="memory")
    for _ in range(4):
        ids = rng.permutation(40)[:30]
        tracker.observe(ids, rng.normal(size=(30, 5)).astype(np.float32), rng.integers(0, 5, 30))
        tracker.end_epoch()
    dynamics = tracker.dynamics()
    assert dynamics.history is not None
    got, columns = score(dynamics, "spread"), {}
    for name in ("margin", "entropy", "el2n", "p_true"):
        columns[name] = dynamics.history.array(name)
    for n in range(40):
        one = {name: column[~np.isnan(column[:, n]), n] for name, column in columns.items()}
        if one["margin"].size:
            np.testing.assert_allclose(got.values[n], spread(**one), rtol=1e-6)
    assert not got.descending


def test_no_score_and_infinity_are_scores() -> None:
    @measure("odd", high="hard")
    def odd(loss: Any) -> float:
        return np.nan if loss[0] > 1 else np.inf if loss[0] > 0.5 else 7

    nan = np.nan
    got = score(Dynamics.from_history(loss=[[2.0, 0.7, 0.1, nan]]), "odd")
    np.testing.assert_array_equal(got.values, np.float32([nan, np.inf, 7, nan]))
    assert got.metadata == {"epochs": "1", "unscored": "1"}  # who was never observed is none
    runs = [Dynamics.from_history(loss=[[2.0, nan, nan]]), Dynamics.from_history(loss=[[0.1, 2.0, nan]])]
    assert score(runs, "odd").metadata["unscored"] == "1"
    assert "unscored" not in score(runs[:1] * 2, "loss_mean").metadata

    @measure("root", high="hard", of="logits")
    def root(logits: Any, target: Any) -> float:
        return np.nan if logits[target] < 0 else np.sqrt(logits[target])

    rooted = score_logits(np.float32([[4, 0], [-1, 0], [-4, 9]]), [0, 0, 1], "root")
    np.testing.assert_array_equal(rooted.values, np.float32([2, nan, 3]))
    assert rooted.metadata == {"unscored": "1"}


def test_a_division_by_zero_names_line_and_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    @measure("ratio", high="hard")
    def ratio(loss: Any) -> float:
        total = loss.sum()
        best = loss.min()
        return total / best

    loss = np.ones((3, 2000))
    loss[1, [700, 1500]] = 0
    text = (
        rf"measure 'ratio': .*test_own_measures.py:{line_of(ratio, 4)}: ZeroDivisionError: division by zero "
    )
    for threads in (1, 2, 4):
        monkeypatch.setattr(own, "default_threads", lambda threads=threads: threads)
        with pytest.raises(ArgumentError, match=text + r"\(for sample 700\)"):
            score(Dynamics.from_history(loss=loss), "ratio")


def test_what_it_raises_and_indexes_that_are_not_there() -> None:
    @measure("strict", high="hard")
    def strict(loss: Any) -> float:
        if loss.size < 2:
            raise ValueError("too few")
        return loss[2]

    with pytest.raises(ArgumentError, match=rf":{line_of(strict, 3)}: ValueError: too few \(for sample 1\)"):
        score(Dynamics.from_history(loss=[[1, 1.0], [1, np.nan], [1, np.nan]]), "strict")
    with pytest.raises(ArgumentError, match=rf":{line_of(strict, 4)}: IndexError: .*\(for sample 0\)"):
        score(Dynamics.from_history(loss=[[1.0], [1.0]]), "strict")
    assert score(Dynamics.from_history(loss=[[1.0], [1.0], [4.0]]), "strict").values.tolist() == [4]


def test_what_cannot_be_compiled() -> None:
    @measure("files", high="hard")
    def files(loss: Any) -> float:
        best = loss.min()
        handle = open("x")  # noqa: SIM115
        return best + len(handle.read())

    @measure("attribute", high="hard")
    def attribute(loss: Any) -> float:
        return loss.minimum()  # type: ignore[no-any-return]

    @measure("several", high="hard")
    def several(loss: Any) -> Any:
        return loss

    dynamics = Dynamics.from_history(loss=[[1.0]])
    for function, below, text in (
        (files, 3, "Untyped global name 'open'"),
        (attribute, 2, "Unknown attribute 'minimum'"),
        (several, 0, "must return one number"),
    ):
        name = function.__name__
        where = (
            f"measure '{name}': .*test_own_measures.py:{line_of(function, below)}: numba cannot compile this"
        )
        with pytest.raises(ArgumentError, match=f"{where}: {text}"):
            score(dynamics, name)


def good(loss: Any) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("arguments", "function", "text"),
    [
        ({"name": "aum", "high": "hard"}, good, "name='aum': there is a measure of that name"),
        ({"name": "a b", "high": "hard"}, good, "name='a b': must be a word"),
        ({"name": "x", "high": "heavy"}, good, "high='heavy': must be one of hard, ambiguous"),
        ({"name": "x", "high": "hard", "of": "probs"}, good, "of='probs': must be 'history' or 'logits'"),
        ({"name": "x", "high": "hard"}, lambda losses: 1.0, "parameter 'losses' of <lambda>; those of a"),
        ({"name": "x", "high": "hard"}, lambda *loss: 1.0, r"parameter '\*loss'"),
        ({"name": "x", "high": "hard"}, lambda: 1.0, "takes nothing; must take at least one of loss, p_true"),
        ({"name": "x", "high": "hard"}, 3, "int; must be a Python function"),
        (
            {"name": "x", "high": "hard", "of": "logits"},
            lambda target, logits: 1.0,
            "must take these, in this",
        ),
    ],
)
def test_definitions_that_are_refused(arguments: dict[str, Any], function: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        measure(**arguments)(function)


def test_one_may_be_defined_anew() -> None:
    dynamics = Dynamics.from_history(loss=[[3.0]])
    for factor in (1.0, 2.0):

        @measure("again", high="hard")
        def again(
            loss: Any,
        ) -> float:
            return loss[0] * factor  # type: ignore[no-any-return]  # noqa: B023

        assert score(dynamics, "again").values.tolist() == [3.0 * factor]


def test_of_logits(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    @measure("gap", high="easy", of="logits")
    def gap(logits: Any, target: Any) -> float:
        best = -np.inf
        for c in range(logits.size):
            if c != target and logits[c] > best:
                best = logits[c]
        return logits[target] - best

    z, y = rng.normal(size=(5000, 7)).astype(np.float32), rng.integers(0, 7, 5000)
    others = np.where(np.arange(7) == y[:, None], -np.inf, z)
    want = (z[np.arange(5000), y].astype(np.float64) - others.max(1)).astype(np.float32)
    for threads in (1, 3):
        monkeypatch.setattr(own, "default_threads", lambda threads=threads: threads)
        np.testing.assert_array_equal(score_logits(z, y, "gap").values, want)
    ids = rng.permutation(9000)[:5000]
    scores = score_logits(z[::-1], y[::-1], "gap", ids=ids[::-1])
    assert scores.ids is not None
    np.testing.assert_array_equal(scores.ids, np.sort(ids))
    np.testing.assert_array_equal(scores.values, want[np.argsort(ids)])
    assert (scores.measure, scores.descending) == ("gap", False)
    assert score_logits([], [], "gap").num_samples == 0
    with pytest.raises(ArgumentError, match="targets: 7 at row 0; must be at least 0 and below 7"):
        score_logits(z[:1], [7], "gap")
    with pytest.raises(ArgumentError, match="ids: 4 at position 1 follows 4; ids must ascend strictly"):
        score_logits(z[:2], y[:2], "gap", ids=[4, 4])
    with pytest.raises(ArgumentError, match="measure='aum': must be one of your own of logits, here gap"):
        score_logits(z, y, "aum")

    @measure("broken", high="easy", of="logits")
    def broken(logits: Any, target: Any) -> float:
        return 1 / target

    with pytest.raises(ArgumentError, match=rf":{line_of(broken, 2)}: ZeroDivisionError: .*for sample 41\)"):
        score_logits(np.zeros((3, 2), np.float32), [1, 0, 0], "broken", ids=[7, 41, 3])


def test_it_is_faster_than_python(rng: np.random.Generator) -> None:
    @measure("slow", high="hard")
    def slow(loss: Any) -> float:
        total = 0.0
        for x in loss:
            total += x * x
        return total

    loss = rng.exponential(size=(20, 20_000))
    dynamics = Dynamics.from_history(loss=loss)
    score(dynamics, "slow")
    start = time.process_time()
    got = score(dynamics, "slow").values
    compiled = time.process_time() - start
    start = time.process_time()
    want = [slow(column) for column in loss.T[:2000]]
    python = 10 * (time.process_time() - start)
    np.testing.assert_allclose(got[:2000], want, rtol=1e-6)
    assert compiled * 5 < python


def test_numba_is_imported_only_when_it_compiles() -> None:
    code = """if True:
        import sys
        from pyimportance import Dynamics, measure, score, ArgumentError
        @measure("mine", high="hard")
        def mine(loss):
            return loss[0]
        assert "numba" not in sys.modules
        sys.modules["numba"] = None
        try:
            score(Dynamics.from_history(loss=[[1.0]]), "mine")
        except ArgumentError as error:
            assert "need numba, which is not installed: pip install numba" in str(error), error
        else:
            raise AssertionError
    """
    subprocess.run([sys.executable, "-c", code], check=True)
