"""Draw checks itself; chance is the same on every machine."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from pyimportance import ArgumentError, samplers
from pyimportance.order.samplers.chance import Chance
from pyimportance.order.samplers.draw import Draw


def test_fields_and_copies_are_read_only() -> None:
    draw = Draw(np.array([3, 3, 2**40]), np.array([1, 0.5, 2], np.float32), biased=False)
    assert (draw.num_samples, repr(draw)) == (3, "Draw(3 samples, biased=False)")
    for same in (draw, copy.deepcopy(draw), pickle.loads(pickle.dumps(draw))):
        assert (same.ids.dtype, same.weights.dtype, same.biased) == (np.int64, np.float32, False)
        assert same.ids.tolist() == [3, 3, 2**40]
        assert same.weights.tolist() == [1, 0.5, 2]
        for array in (same.ids, same.weights):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1
    assert Draw.plain(np.empty(0, np.int64), biased=True).num_samples == 0
    assert samplers.Draw is Draw


@pytest.mark.parametrize(
    ("ids", "weights", "biased", "text"),
    [
        ([1.5], [1.0], True, "ids: float64"),
        ([1, 2], [1.0], True, r"weights: float64 of shape \[1\]; must be floats \[2\]"),
        ([1], [1], True, "weights: int64"),
        ([1, 7], [1.0, np.nan], True, "weights: nan for sample 7; must be finite and >= 0"),
        ([1, 7], [1.0, -1.0], True, "weights: -1.0 for sample 7"),
        ([1, 7], [1.0, 1e300], True, "weights: inf for sample 7"),
        ([1], [1.0], 1, "biased=1: must be True or False"),
    ],
)
def test_wrong_fields(ids: Any, weights: Any, biased: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Draw(np.array(ids), np.array(weights), biased)


def test_the_stream_is_fixed() -> None:
    # NumPy keeps PCG64's stream: these are the numbers of every machine and release.
    assert Chance("RS2", 5, 7).permutation(8).tolist() == [4, 2, 5, 1, 0, 6, 3, 7]
    assert Chance("RS2", 5, 7).words(1).tolist() == [6016239413432273985]
    assert Chance("ISD", 5, 7).words(1).tolist() != [6016239413432273985]


def test_a_call_goes_on_where_the_last_one_ended() -> None:
    chance, whole = Chance("x", 0), Chance("x", 0).words(5)
    assert [*chance.words(2), *chance.words(3)] == whole.tolist()


def test_uniforms_and_replacing() -> None:
    u = Chance("u", 0).uniforms(10_000)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 4 / np.sqrt(12 * u.size)
    mass = np.array([0.0, 1e308, 0.0, 1e308, 3e-320, 0.0])  # sums beyond float64, and next to nothing
    drawn = Chance("r", 0).replacing(mass, 1000)
    assert set(drawn.tolist()) == {1, 3}


@pytest.mark.parametrize("u", [0.0, 0.5, 1 - 2**-53])
def test_the_least_and_the_greatest_uniform_draw_what_has_mass(
    monkeypatch: pytest.MonkeyPatch, u: float
) -> None:
    monkeypatch.setattr(Chance, "uniforms", lambda self, count: np.full(count, u))
    for size in range(1, 100):
        mass = np.r_[0.0, np.full(size, 0.1), 0.0]
        (at,) = Chance("r", 0).replacing(mass, 1).tolist()
        assert mass[at] > 0


@pytest.mark.parametrize(
    ("seed", "epoch", "text"),
    [(-1, 0, "seed=-1: must be at least 0"), (0, 1.5, "epoch=1.5: must be an int"), (True, 0, "seed=True")],
)
def test_wrong_seeds(seed: Any, epoch: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Chance("x", seed, epoch)
