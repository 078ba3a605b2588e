"""The reduction of a history [E, N], against the float64 oracle, by every instruction set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance import _C, ArgumentError, Dynamics, measures, score
from pyimportance.score import archive, arrays
from pyimportance.score.reference import measure
from tests.score import running
from tests.score.runs import bits

Array = npt.NDArray[Any]
NAMES = ("loss", "p_true", "correct", "margin", "el2n", "entropy", "grand")
# Round the lanes of a vector, the block of samples and the epochs taken together.
SAMPLES = (1, 2, 7, 8, 9, 31, 33, 511, 512, 513, 1030)
EPOCHS = (1, 2, 3, 4, 5, 8, 9, 254, 255, 256)

OVER_EPOCHS = ("loss_mean", "loss_variance", "forgetting", "first_learned", "unforgettable", "confidence")
OVER_EPOCHS += ("variability", "correctness", "threshold_closeness", "prediction_variance", "el2n", "aum")


def history(
    rng: np.random.Generator, epochs: int, samples: int, missing: float, kind: str
) -> dict[str, Array]:
    """Numbers that training could leave behind, float32, NaN where not observed."""
    shape = (epochs, samples)
    if kind == "random":
        loss = rng.exponential(size=shape)
    elif kind == "constant":
        loss = np.broadcast_to(rng.exponential(size=samples), shape).copy()
    elif kind == "learned":  # one large loss, then small ones: far from what the sums are taken about
        loss = rng.exponential(size=shape) * 1e-3
        loss[0] = 10
    else:
        loss = rng.uniform(1, 10, shape) * 10.0 ** rng.integers(-30, 30, shape)
    p = np.exp(-loss)
    result = {
        "loss": loss,
        "p_true": p,
        "correct": (rng.random(shape) < 0.6).astype(float),
        "margin": rng.normal(size=shape) * 10,
        "el2n": rng.uniform(0, 1.41, shape),
        "entropy": rng.exponential(size=shape),
        "grand": rng.exponential(size=shape) * 30,
    }
    unseen = rng.random(shape) < missing
    for values in result.values():
        values[unseen] = np.nan
    return {name: values.astype(np.float32) for name, values in result.items()}


@settings(max_examples=150, deadline=None)
@given(
    epochs=st.sampled_from(EPOCHS),
    samples=st.sampled_from(SAMPLES),
    missing=st.sampled_from([0.0, 0.2, 0.95, 1.0]),
    kind=st.sampled_from(["random", "constant", "learned", "wild"]),
    dtype=st.sampled_from([np.float32, np.float64]),
    chosen=st.sets(st.sampled_from(NAMES), min_size=1),
    seed=st.integers(0, 2**32 - 1),
    isa=st.sampled_from(_C.instruction_sets()),
    threads=st.sampled_from([2, 3, 5]),
)
def test_columns_are_those_of_the_definitions(  # noqa: PLR0917
    epochs: int,
    samples: int,
    missing: float,
    kind: str,
    dtype: Any,
    chosen: set[str],
    seed: int,
    isa: str,
    threads: int,
) -> None:
    whole = history(np.random.default_rng(seed), epochs, samples, missing, kind)
    given = {name: whole[name].astype(dtype) for name in NAMES if name in chosen}
    with running.instruction_set(isa):
        dynamics = Dynamics.from_history(**given)
        with running.threads(threads):
            assert bits(Dynamics.from_history(**given)) == bits(dynamics)
    check(dynamics, given)


def check(dynamics: Dynamics, given: dict[str, Array]) -> None:
    seen = ~np.isnan(next(iter(given.values())))
    some = seen.any(0)
    np.testing.assert_array_equal(dynamics.count, seen.sum(0))
    exact = {name: np.where(seen, values, 0).astype(np.longdouble) for name, values in given.items()}
    count = np.maximum(seen.sum(0), 1)
    rounding = 4 * np.finfo(np.float64).eps * seen.shape[0]
    for name, mean, m2 in (("loss", "loss_mean", "loss_m2"), ("p_true", "p_mean", "p_m2")):
        if name not in given:
            continue
        middle = exact[name].sum(0) / count
        want = np.where(seen, exact[name] - middle, 0) ** 2
        largest = np.abs(exact[name]).max(0, initial=0)
        near(getattr(dynamics, mean), middle, rounding * largest)
        # The promise of reduce.h: no more is lost than a factor E of the rounding of the sums.
        near(
            getattr(dynamics, m2), want.sum(0), rounding * (seen.shape[0] * want.sum(0) + 1e-16 * largest**2)
        )
    if "p_true" in given:
        q = np.where(seen, 1 - exact["p_true"], 0).sum(0)
        near(dynamics.q_sum, q, rounding * q)
    for name in ("margin", "el2n", "entropy", "grand"):
        if name in given:
            near(getattr(dynamics, f"{name}_sum"), exact[name].sum(0), rounding * np.abs(exact[name]).sum(0))
    latest = seen.shape[0] - 1 - seen[::-1].argmax(0)
    for name in ("loss", "margin", "el2n", "entropy"):
        if name in given:
            want = np.where(some, given[name][latest, np.arange(some.size)], 0)
            column = getattr(dynamics, f"{name}_last")
            np.testing.assert_array_equal(column, want.astype(column.dtype))
    if "correct" in given:
        for n, column in enumerate(given["correct"].T):
            right = column[seen[:, n]] == 1
            events = (
                right.sum(),
                (right[:-1] & ~right[1:]).sum(),
                (column == 1).argmax() if right.any() else 0,
            )
            assert events == tuple(
                getattr(dynamics, name)[n] for name in ("correct", "forgotten", "first_learned")
            )


def near(got: Any, want: Array, bound: Array) -> None:
    off = np.abs(got.astype(np.longdouble) - want)
    assert (off <= bound + 1e-300).all(), (off - bound).max()


def test_scores_agree_with_the_oracle(isa: str, rng: np.random.Generator) -> None:
    given = {n: a.astype(np.float64) for n, a in history(rng, 30, 700, 0.1, "random").items()}
    dynamics = Dynamics.from_history(**given)
    names = set(measures(dynamics)) & set(OVER_EPOCHS)
    assert len(names) == len(OVER_EPOCHS)
    for name in names:
        want = measure(name, {**given, "p_false": 1 - given["p_true"]})
        np.testing.assert_allclose(score(dynamics, name).values, want, rtol=2e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("events", ["bools", "floats", "none"])
def test_threads_change_nothing(
    isa: str, rng: np.random.Generator, events: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Array] = history(rng, 60, 20_011, 0.01, "random")
    if events == "none":
        del given["correct"]
    elif events == "bools":
        given = {"correct": given["correct"] == 1, "p_true": given["p_true"]}
    results = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(arrays, "default_threads", lambda threads=threads: threads)
        dynamics = Dynamics.from_history(**given)
        columns = (getattr(dynamics, name) for name in archive._ARRAYS)
        results.append([column.tobytes() for column in columns if column is not None])
    assert all(result == results[0] for result in results)


def test_memory_of_any_layout(isa: str, rng: np.random.Generator, tmp_path: Path) -> None:
    """Rows apart, backwards, repeated, mapped, unaligned; and what has to be converted."""
    plain = history(rng, 9, 600, 0.1, "random")["loss"]
    want = Dynamics.from_history(loss=plain)
    wide = np.zeros((9, 1000), np.float32)
    wide[:, 300:900] = plain
    np.save(tmp_path / "loss.npy", plain)
    raw = np.zeros(plain.nbytes + 1, np.uint8)
    raw[1:] = plain.view(np.uint8).ravel()
    layouts = {
        "rows apart": wide[:, 300:900],
        "mapped": np.load(tmp_path / "loss.npy", mmap_mode="r"),
        "unaligned": raw[1:].view(np.float32).reshape(plain.shape),
        "backwards": plain[::-1].copy()[::-1],
        "columns": np.asfortranarray(plain),
        "big endian": plain.astype(">f4"),
        "samples apart": np.repeat(plain, 2, axis=1)[:, ::2],
        "doubles": plain.astype(np.float64),
    }
    for name, array in layouts.items():
        got = Dynamics.from_history(loss=array)
        for column in ("count", "loss_mean", "loss_m2", "loss_last"):
            np.testing.assert_array_equal(getattr(got, column), getattr(want, column), name)
    same = Dynamics.from_history(loss=np.broadcast_to(plain[:1], (9, 600)))
    np.testing.assert_array_equal(same.mean("loss"), plain[0])
    half = np.nan_to_num(plain, nan=1.5).astype(np.float16)
    np.testing.assert_array_equal(
        Dynamics.from_history(loss=half).loss_mean, Dynamics.from_history(loss=half.astype(float)).loss_mean
    )


def test_integers_know_nothing_of_what_was_not_observed() -> None:
    loss = np.array([[1.0, np.nan], [3.0, 4.0]])
    dynamics = Dynamics.from_history(loss=loss, correct=np.array([[1, 1], [0, 1]]))
    assert dynamics.correct is not None
    assert (dynamics.count.tolist(), dynamics.correct.tolist()) == ([2, 1], [1, 1])
    assert dynamics.history is not None
    np.testing.assert_array_equal(dynamics.history.array("correct"), [[1, np.nan], [0, 1]])


@pytest.mark.parametrize("at", [0, 511, 512, 70_000])
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("loss", np.inf, "loss: inf in epoch 5 of sample {}; allowed are finite numbers"),
        ("p_true", 1.25, "p_true: 1.25 in epoch 5 of sample {}; allowed are 0 to 1"),
        ("correct", 0.5, "correct: 0.5 in epoch 5 of sample {}; allowed are 0 and 1"),
        ("el2n", -0.5, "el2n: -0.5 in epoch 5 of sample {}; allowed are 0 to sqrt"),
        ("grand", np.inf, "grand: inf in epoch 5 of sample {}; allowed are finite numbers from 0"),
        ("entropy", np.nan, "entropy: epoch 5 of sample {} is nan, while in loss it is 0.5; NaN must mark"),
        ("correct", np.nan, "correct: epoch 5 of sample {} is nan, while in loss it is 0.5; NaN must mark"),
    ],
)
def test_one_wrong_number_among_many(isa: str, at: int, name: str, value: float, text: str) -> None:
    given = {n: np.full((6, 70_001), 0.5, np.float32) for n in NAMES}
    given["correct"][:] = 1
    given[name][5, at] = value
    with pytest.raises(ArgumentError, match=text.format(at)):
        Dynamics.from_history(**given)


def test_squares_beyond_the_largest_number() -> None:
    dynamics = Dynamics.from_history(loss=[[1e200, 3e38], [-1e200, 1.0]])
    assert dynamics.loss_m2 is not None
    np.testing.assert_allclose(dynamics.loss_m2, [np.inf, 4.5e76])


def test_bools_that_are_none() -> None:
    with pytest.raises(ArgumentError, match="bools whose bytes are neither 0 nor 1"):
        Dynamics.from_history(correct=np.full((2, 3), 2, np.uint8).view(np.bool_))
