"""quality against the definition and worked values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, Partition, Scores, partition
from pyimportance.order.quality import quality
from pyimportance.order.ranking import NaNScoresWarning


def scores(values: Any, ids: Any = None, descending: bool = True) -> Scores:
    return Scores(np.asarray(values, np.float32), ids=ids, descending=descending, measure="loss_mean")


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.5, 2.0, np.inf, np.nan]), min_size=1, max_size=50),
    st.integers(1, 4),
)
def test_against_the_definition(values: list[float], workers: int) -> None:
    some = scores(values)
    if np.isnan(some.values).all():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NaNScoresWarning)
        p = partition(some, workers, policy="blocks", bins=2)
    q = quality(p)
    assert q.samples.tolist() == [p.worker(w).size for w in range(workers)]
    whole = some.values[~np.isnan(some.values)]
    for w in range(workers):
        mine = some.values[p.worker(w)]
        mine = mine[~np.isnan(mine)]
        if mine.size == 0:
            assert np.isnan(q.ks[w])
            continue
        gaps = [np.mean(mine <= x) - np.mean(whole <= x) for x in whole]
        np.testing.assert_allclose(q.ks[w], np.abs(gaps).max(), atol=1e-12)
        finite = mine[np.isfinite(mine)]
        np.testing.assert_allclose(q.mean[w], finite.mean() if finite.size else np.nan, rtol=1e-6)


def test_blocks_are_far_apart_and_stripes_are_alike() -> None:
    some = scores(np.arange(1000))
    blocks, stripes = (quality(partition(some, 4, policy=name)) for name in ("blocks", "stripes"))
    assert blocks.mean.tolist() == [874.5, 624.5, 374.5, 124.5]
    assert blocks.mean_of_all == 499.5
    np.testing.assert_allclose(blocks.ks, [0.75, 0.5, 0.5, 0.75])
    assert stripes.ks.max() < 0.004


@given(st.integers(1, 5), st.integers(0, 60), st.data())
def test_bytes_and_classes(workers: int, n: int, data: st.DataObject) -> None:
    ids = np.cumsum(data.draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)), dtype=np.int64)
    order = np.array(data.draw(st.permutations(ids.tolist())), np.int64)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), min_size=workers - 1, max_size=workers - 1)))
    p = Partition(workers, 1, order, np.array([0, *cuts, n]), np.zeros(n, np.float32))
    sizes = np.array(
        data.draw(st.lists(st.integers(0, 2**60 // max(n, 1)), min_size=n, max_size=n)), np.int64
    )
    classes = np.array(data.draw(st.lists(st.sampled_from([-3, 0, 2**62]), min_size=n, max_size=n)), np.int64)
    q = quality(p, sizes=sizes, classes=classes)
    assert q.bytes is not None
    assert q.class_distance is not None
    for w in range(workers):
        mine = np.isin(ids, p.worker(w))
        assert q.bytes[w] == sizes[mine].sum()
        shares = [
            abs((classes[mine] == c).mean() - (classes == c).mean()) for c in np.unique(classes) if mine.any()
        ]
        np.testing.assert_allclose(q.class_distance[w], sum(shares) / 2 if mine.any() else np.nan, atol=1e-12)
    assert quality(p).bytes is quality(p).class_distance is None


def test_wrong_sizes_and_classes() -> None:
    p = partition(scores([3, 2, 1, 0]), 2)
    with pytest.raises(ArgumentError, match=r"sizes: int64 of shape \[2\]; .* of 4 samples"):
        quality(p, sizes=[1, 2])
    with pytest.raises(ArgumentError, match=r"classes: int64 of shape \[1\]; .* of 4 samples"):
        quality(p, classes=[1])


def test_other_scores() -> None:
    p = partition(scores([3, 2, 1, 0]), 2, policy="blocks")
    assert quality(p, scores([5, 5, 1, 1])).mean.tolist() == [5, 1]
    by_id = scores([5, 9, 5, 1, 1], ids=np.array([0, 7, 8, 9, 10]))
    with pytest.raises(ArgumentError, match="scores: there is none of sample id 1"):
        quality(p, by_id)
    with pytest.raises(ArgumentError, match="scores: there is none of sample id 3"):
        quality(p, scores([1, 2, 3]))
    with pytest.raises(ArgumentError, match="scores: ndarray; must be Scores"):
        quality(p, np.zeros(4))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="scores: none are given, and the partition carries none"):
        quality(Partition(1, 1, np.array([0]), np.array([0, 1])))
