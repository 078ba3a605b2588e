"""One observation: the statistics of a row of logits, by every instruction set, against the oracle."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import _C, Tracker
from pyimportance.score.reference import row_statistics
from tests.score.rows_of import assert_rows, rows_of

Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]
CLASSES = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 127, 159, 160, 161, 175, 176, 177, 300, 1000, 1003)
MANY = (2047, 2048, 2049, 4097, 50257, 256_000)


def test_against_the_oracle(isa: str, kind: str, make_logits: Logits, rng: np.random.Generator) -> None:
    for classes in (*CLASSES, *MANY):
        count = 33 if classes < 2000 else 3
        z = make_logits(kind, count, classes, rng)
        y = rng.integers(0, classes, count) * np.isfinite(z).all(1)  # class 0 is finite
        y[::2] = z[::2].argmax(1)
        assert_rows(rows_of(z, y), z, y, f"{kind}, {classes} classes")


def test_the_oracle_by_hand() -> None:
    got = row_statistics([[np.log(3.0), 0.0], [np.log(3.0), 0.0]], [0, 1])
    np.testing.assert_allclose(got["loss"], [np.log(4 / 3), np.log(4)])
    np.testing.assert_allclose(got["p_true"], [0.75, 0.25])
    np.testing.assert_allclose(got["p_false"], [0.25, 0.75])
    np.testing.assert_allclose(got["margin"], [np.log(3), -np.log(3)])
    np.testing.assert_allclose(got["el2n"], np.hypot([0.25, 0.75], [0.25, 0.75]))
    np.testing.assert_allclose(got["entropy"], -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    np.testing.assert_array_equal(got["correct"], [1, 0])


def test_small_losses_keep_their_digits(isa: str) -> None:
    gap = np.array([10, 20, 30, 60, 100], np.float32)
    z = np.stack([gap, np.zeros_like(gap)], 1)
    got = rows_of(z, np.zeros(5, np.int64))["loss"]
    np.testing.assert_allclose(got, np.log1p(np.exp(-gap.astype(float))), rtol=1e-11)  # one other: no sum


def test_the_first_maximum_wins(isa: str) -> None:
    for classes in (4, 350):
        z = np.zeros((3, classes), np.float32)
        z[:, [1, 3]] = 1
        assert rows_of(z, np.array([1, 3, 0]))["code"].tolist() == [2, 1, 1]
        assert rows_of(z, np.array([1, 3, 0]))["margin"].tolist() == [0, 0, -1]


@pytest.mark.parametrize("classes", [3, 10, 160, 400, 5000])
def test_a_row_depends_on_nothing_but_itself(
    isa: str, classes: int, make_logits: Logits, rng: np.random.Generator
) -> None:
    z, y = make_logits("normal", 67, classes, rng), rng.integers(0, classes, 67)
    whole = rows_of(z, y)
    for threads in (1, 2, 3, 4):  # 67 rows are too few for threads, unless there are many
        many = np.tile(z, (-(-(threads << 18) // z.size), 1))
        again = rows_of(many, np.tile(y, len(many) // 67), threads)
        assert again.tobytes() == whole.tobytes() * (len(many) // 67)
    for start, stop in ((0, 1), (1, 33), (3, 35), (5, 36), (66, 67)):
        assert rows_of(z[start:stop], y[start:stop]).tobytes() == whole[start:stop].tobytes()


@pytest.mark.parametrize("classes", [5, 350, 2049])
def test_strides(isa: str, classes: int, make_logits: Logits, rng: np.random.Generator) -> None:
    wide, y = make_logits("normal", 40, classes + 3, rng), rng.integers(0, classes, 40)
    plain = rows_of(np.ascontiguousarray(wide[:, 1:-2]), y)
    assert rows_of(wide[:, 1:-2], y).tobytes() == plain.tobytes()
    assert rows_of(wide[::-1, 1:-2], y[::-1].copy()).tobytes() == plain[::-1].tobytes()
    assert rows_of(wide[::2, 1:-2], y[::2].copy()).tobytes() == plain[::2].tobytes()
    with pytest.raises(ValueError, match="elements of a row must be adjacent"):
        rows_of(np.asfortranarray(wide), y)


def test_instruction_sets_agree(make_logits: Logits, rng: np.random.Generator) -> None:
    before = _C.instruction_set()
    for classes in (10, 500):
        z, y = make_logits("confident", 200, classes, rng), rng.integers(0, classes, 200)
        results = []
        for name in _C.instruction_sets():
            _C.use_instruction_set(name)
            results.append(rows_of(z, y))
        _C.use_instruction_set(before)
        for other in results[1:]:
            np.testing.assert_allclose(other["loss"], results[0]["loss"], rtol=2e-6)


def test_unknown_instruction_set() -> None:
    with pytest.raises(ValueError, match="instruction set 'mmx': this processor has baseline"):
        _C.use_instruction_set("mmx")


def test_the_environment_names_one() -> None:
    import subprocess
    import sys

    code = "from pyimportance import _C; print(_C.instruction_set())"
    env = {**os.environ, "PYIMPORTANCE_ISA": "baseline"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "baseline"


@pytest.mark.parametrize("classes", [4, 350, 2049, 4097])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite(
    isa: str, classes: int, bad: float, make_logits: Logits, rng: np.random.Generator
) -> None:
    z, y = make_logits("normal", 9, classes, rng), rng.integers(0, classes, 9)
    for column in {0, 1, classes // 2, classes - 2, classes - 1}:
        for target in (column, 0):
            broken, targets = z.copy(), y.copy()
            broken[5, column], targets[5] = bad, target
            tracker = Tracker(100)
            with pytest.raises(ValueError, match=r"logits: NaN or \+inf.* of sample 35 \(position 5\)"):
                tracker.observe(np.arange(9) * 7, broken, targets)
            tracker.end_epoch()
            assert tracker.dynamics().count.sum() == 0
            tracker.observe(np.arange(9) * 7, broken, targets, nonfinite="skip")
            tracker.end_epoch()
            assert tracker.dynamics().count.sum() == 8
            assert tracker.dynamics().count[35] == 0
            assert tracker.skipped == 1


@pytest.mark.parametrize("classes", [3, 350, 2049])
def test_minus_infinity_at_the_target_is_an_infinite_loss(isa: str, classes: int) -> None:
    z = np.zeros((2, classes), np.float32)
    z[1, 2] = -np.inf
    with pytest.raises(ValueError, match="a loss that is infinite, of sample 1"):
        Tracker(2).observe([0, 1], z, [2, 2])
    Tracker(2).observe([0, 1], z, [2, 1])
    with pytest.raises(ValueError, match="of sample 0"):
        Tracker(2).observe([0], np.full((1, classes), -np.inf, np.float32), [0])
