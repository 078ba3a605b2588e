"""The methods "ccs" and "moderate" of select, and the distance that moderate was made for."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyimportance import ArgumentError, NaNScoresWarning, Scores, select
from pyimportance.order.samplers.moderate import median_distance

a_score = st.one_of(st.floats(-100, 100, width=32), st.sampled_from([0.0, 1.0, np.nan, np.inf, -np.inf]))
some_scores = st.lists(a_score, min_size=1, max_size=120).map(lambda v: np.array(v, np.float32))
Values = npt.NDArray[np.float32]


def quiet(scores: Scores, **arguments: Any) -> npt.NDArray[np.int64]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NaNScoresWarning)
        return select(scores, **arguments)


@given(some_scores, st.booleans(), st.data())
def test_ccs_takes_exactly_as_many(values: Values, descending: bool, data: st.DataObject) -> None:
    assume(not np.isnan(values).all())
    N, known = values.size, int(np.isfinite(values).sum() + np.isinf(values).sum())
    beta = data.draw(st.floats(0, 1))
    left_out = int(np.floor(beta * known + 0.5))
    count = data.draw(st.integers(0, N - left_out))
    bins = data.draw(st.integers(1, 60))
    ids = np.arange(N) * 7
    ccs = {"count": count, "method": "ccs", "beta": beta, "bins": bins}
    scores = Scores(values, ids=ids, descending=descending)
    chosen = quiet(scores, **ccs)
    assert len(set(chosen.tolist())) == chosen.size == count
    everything = quiet(scores, count=N)
    assert set(everything[:left_out].tolist()).isdisjoint(chosen.tolist())  # the beta hardest
    place = {int(i): rank for rank, i in enumerate(everything)}
    assert [place[i] for i in chosen.tolist()] == sorted(place[i] for i in chosen.tolist())
    assert quiet(scores, **ccs).tolist() == chosen.tolist()
    if count <= known - left_out:
        check_shares(values, (everything[left_out:known] // 7), chosen // 7, bins)
    else:
        assert set(everything[left_out:known].tolist()) <= set(chosen.tolist())


def check_shares(values: Values, pool: Any, chosen: Any, bins: int) -> None:
    """What a bin could not fill the others share: those not used up differ by one at most, and one that is
    used up has at most one more than they (the remainder goes to the larger bins).
    """
    left = values[pool].astype(np.float64)
    finite = left[np.isfinite(left)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    width = (high - low) / bins

    def cell(v: float) -> int:
        if np.isinf(v):
            return bins - 1 if v > 0 else 0
        return min(int((v - low) / (high - low) * bins), bins - 1) if width else 0

    sizes = np.bincount([cell(v) for v in left], minlength=bins)
    taken = np.bincount([cell(float(v)) for v in values[chosen]], minlength=bins)
    full = taken == sizes
    if not full.all():
        rest = taken[~full]
        assert np.ptp(rest) <= 1
        assert taken[full].max(initial=0) <= rest.min() + 1


def test_ccs_by_hand() -> None:
    """Ten bins of width 1; the two hardest are dropped; 2 + 1 + 5 of 8 asked for, 3 from the largest."""
    values = np.r_[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 4.5, 7.1, 7.2, 10, 50, 60].astype(np.float32)
    chosen = select(Scores(values), count=7, method="ccs", beta=2 / 13, bins=10)
    assert chosen[:4].tolist() == [10, 9, 8, 7]
    assert set(chosen[4:].tolist()) < set(range(7))
    easy = Scores(values, descending=False)  # now the low ones are hard
    assert not {0, 1} & set(select(easy, count=7, method="ccs", beta=2 / 13, bins=10).tolist())


def test_ccs_is_random_within_a_bin(z: Any) -> None:
    scores = Scores(np.r_[np.zeros(10), 1].astype(np.float32))
    draws = [select(scores, count=4, method="ccs", beta=0, seed=seed) for seed in range(1500)]
    assert all(d[0] == 10 for d in draws)
    for i in range(10):
        assert abs(z([float((d == i).any()) for d in draws], 0.3, 0.21)) < 4


def test_ccs_golden() -> None:
    values = (np.arange(40) ** 2).astype(np.float32)
    chosen = select(Scores(values), count=12, method="ccs", beta=0.1, bins=5, seed=3)
    assert chosen.tolist() == [33, 32, 30, 29, 27, 26, 21, 19, 17, 12, 11, 7]


def test_samples_without_a_score_come_last() -> None:
    scores = Scores(np.array([np.nan, 1, 2, np.nan, 3], np.float32))
    for options in ({"method": "ccs", "beta": 0.0}, {"method": "moderate"}):
        assert set(quiet(scores, count=3, **options).tolist()) == {1, 2, 4}
        assert quiet(scores, count=4, **options).tolist() == [4, 2, 1, 0]
    with pytest.warns(NaNScoresWarning, match="2 of 5 scores are NaN"):
        select(scores, count=2, method="ccs", beta=0.0)


def test_never_learned_samples_have_their_bin() -> None:
    forgetting = Scores(np.array([0, 0, 0, 0, np.inf, np.inf], np.float32))
    for seed in range(20):  # one of each
        chosen = select(forgetting, count=2, method="ccs", beta=0, seed=seed).tolist()
        assert chosen[0] in (4, 5)
        assert chosen[1] in (0, 1, 2, 3)
    assert select(forgetting, count=4, method="ccs", beta=2 / 6).tolist() == [0, 1, 2, 3]


@given(some_scores, st.booleans(), st.data())
def test_moderate_is_the_central_band(values: Values, descending: bool, data: st.DataObject) -> None:
    assume(not np.isnan(values).any())
    count = data.draw(st.integers(0, values.size))
    scores = Scores(values, descending=descending)
    chosen = select(scores, count=count, method="moderate").tolist()
    everything = select(scores, count=values.size).tolist()
    start = (values.size - count) // 2
    assert chosen == everything[start : start + count]


def test_median_distance() -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64, np.float16):
        features = rng.normal(size=(50, 4)).astype(dtype)
        targets = rng.integers(-2, 3, 50) * 10**12
        scores = median_distance(features, targets, ids=np.arange(50) + 9)
        assert (scores.measure, scores.descending) == ("median_distance", True)
        assert scores.sample_ids()[0] == 9
        for i in range(50):
            center = np.median(features[targets == targets[i]].astype(np.float64), axis=0)
            assert scores.values[i] == pytest.approx(np.linalg.norm(features[i] - center), rel=1e-5, abs=1e-6)
    assert median_distance(np.ones((1, 3)), [5]).values.tolist() == [0]
    assert median_distance(np.empty((0, 3)), []).num_samples == 0


@pytest.mark.parametrize(
    ("features", "targets", "text"),
    [
        (np.ones((2, 3)), [1], r"features: float64 of shape \[2, 3\]; must be floating point \[1, D\]"),
        (np.ones(2), [1, 2], "must be floating point"),
        (np.array([[1, 2], [np.nan, 0]]), [0, 0], "features: row 1 is not finite"),
        (np.ones((1, 2)), [0.5], "targets: float64"),
    ],
)
def test_wrong_features(features: Any, targets: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        median_distance(features, targets)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"method": "ccs"}, "method 'ccs' needs beta="),
        ({"method": "ccs", "beta": 1.5}, r"beta=1\.5: must be within 0\.\.1"),
        ({"method": "ccs", "beta": 0, "bins": 0}, "bins=0: must be at least 1"),
        ({"method": "ccs", "beta": 0, "seed": -1}, "seed=-1: must be at least 0"),
        ({"method": "ccs", "beta": 0.5}, "count=3: beta=0.5 leaves 2 of 4 samples"),
        ({"method": "ccs", "b": 1}, "method 'ccs' has no option 'b'; its options are beta, bins, seed"),
        ({"method": "moderate", "beta": 1}, "method 'moderate' has no option 'beta'; it takes none"),
        ({"beta": 1}, "method 'top' has no option 'beta'; it takes none"),
    ],
)
def test_wrong_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        select(Scores(np.arange(4, dtype=np.float32)), count=3, **options)
