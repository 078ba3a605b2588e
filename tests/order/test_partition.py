"""partition(): properties every policy has, and the wrong arguments it refuses."""

from __future__ import annotations

import warnings
from dataclasses import fields
from fractions import Fraction
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, Partition, Scores, partition
from pyimportance.order.policies.registry import policies
from pyimportance.order.ranking import NaNScoresWarning
from tests.score import running


def scores(values: Any, ids: Any = None, descending: bool = True) -> Scores:
    return Scores(np.asarray(values, np.float32), ids=ids, descending=descending, measure="loss_mean")


# Few distinct values, so that ties are everywhere; NaN and infinities among them.
VALUES = st.lists(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, np.inf, -np.inf, np.nan]), min_size=1, max_size=70
)
STICKY = [{"k": 1}, {"k": 3}, {"tolerance": 0.0}, {"tolerance": 0.2}]
POLICY = st.sampled_from([*(("sticky", o) for o in STICKY), *((name, {}) for name in policies())])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, int, int]:
    values = draw(VALUES.filter(lambda v: not np.isnan(v).all()))
    gaps = draw(st.lists(st.integers(1, 2**33), min_size=len(values), max_size=len(values)))
    ids = draw(st.sampled_from([None, np.cumsum(gaps)]))
    return scores(values, ids, draw(st.booleans())), draw(st.integers(1, 9)), draw(st.integers(1, 5))


def quiet(*args: Any, **options: Any) -> Partition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NaNScoresWarning)
        return partition(*args, **options)


def by_importance(s: Any) -> list[int]:
    """The order of importance by Python's own sort: NaN last, ties by id."""
    ids = range(s.values.size) if s.ids is None else s.ids.tolist()
    sign = -1 if s.descending else 1
    return [
        i
        for _, _, i in sorted(
            (bool(np.isnan(v)), 0 if np.isnan(v) else sign * v, i) for v, i in zip(s.values, ids, strict=True)
        )
    ]


def column(n: int, low: int, high: int) -> st.SearchStrategy[Any]:
    return st.lists(st.integers(low, high), min_size=n, max_size=n).map(np.array)


def largest_remainder(capacity: list[float], n: int) -> list[int]:
    whole = [Fraction(c) for c in capacity]
    quotas = [n * c / sum(whole) for c in whole]
    counts = [int(q) for q in quotas]
    by_fraction = sorted(range(len(counts)), key=lambda w: (-(quotas[w] - counts[w]), w))
    for w in by_fraction[: n - sum(counts)]:
        counts[w] += 1
    return counts


@given(problems(), POLICY, st.data())
def test_every_policy(problem: Any, policy: Any, data: st.DataObject) -> None:
    s, workers, bins = problem
    name, options = policy
    n = s.values.size
    current = data.draw(st.one_of(st.none(), column(n, -1, workers + 1)))
    sized = name == "balanced" or data.draw(st.booleans())
    sizes = data.draw(column(n, 0, 5)) if sized else None
    classes = data.draw(st.one_of(st.none(), column(n, -(2**62), 2**62), column(n, 0, 2)))
    numbers = st.one_of(st.integers(0, 4), st.floats(0, 8, width=16))
    shares = st.lists(numbers, min_size=workers, max_size=workers).filter(any)
    capacity = data.draw(st.one_of(st.none(), shares))
    options = {**options, "current": current, "sizes": sizes, "classes": classes, "capacity": capacity}
    p = quiet(s, workers, policy=name, bins=bins, **options)

    ranks = {i: rank for rank, i in enumerate(by_importance(s))}
    assert sorted(p.order.tolist()) == sorted(ranks)  # every sample exactly once
    counts = p.counts
    expected = counts.sum(axis=1)
    if capacity is None:
        assert np.ptp(expected) <= 1
    else:
        expected = np.array(largest_remainder(capacity, n))
        assert counts.sum(axis=1).tolist() == expected.tolist()
    if classes is not None:
        owners = p.worker_of(np.sort(p.order))
        for c in np.unique(classes):
            inside = np.bincount(owners[classes == c], minlength=workers)
            if capacity is None:
                assert np.ptp(inside) <= 1
            else:  # each of two ends of a class's stretch of turns is at most half a round off
                share = expected * inside.sum() / n
                assert (np.abs(inside - share) <= 1 + workers * expected / n).all()
    for w in range(workers):
        assert np.ptp(counts[w]) <= 1
        mine = [ranks[i] for i in p.worker(w).tolist()]
        assert mine == sorted(mine)  # most important first, through the bins
        for b in range(bins):
            assert (p.worker_of(p.group(w, b)) == w).all()
            assert (p.bin_of(p.group(w, b)) == b).all()
    by_id = dict(zip(range(n) if s.ids is None else s.ids.tolist(), s.values, strict=True))
    assert p.values is not None
    np.testing.assert_array_equal(p.values, [by_id[i] for i in p.order.tolist()])

    again = quiet(s, workers, policy=name, bins=bins, **options)
    np.testing.assert_array_equal(p.order, again.order)
    np.testing.assert_array_equal(p.offsets, again.offsets)


@pytest.mark.parametrize("name", [*policies(), "sticky(tolerance)"])
def test_the_same_on_any_number_of_threads(name: str) -> None:
    rng = np.random.default_rng(4)
    n = 30_000
    s = scores(rng.random(n).round(4))
    options = {"policy": name, "current": rng.integers(-1, 7, n), "sizes": rng.integers(0, 2**40, n)}
    if name == "sticky(tolerance)":
        options |= {"policy": "sticky", "tolerance": 0.001}
    options |= {"classes": rng.integers(0, 5, n), "capacity": rng.random(7)}
    found = []
    for count in (1, 2, 5):
        with running.threads(count):
            found.append(partition(s, 7, bins=2, **options))
    for other in found[1:]:
        np.testing.assert_array_equal(other.order, found[0].order)
        np.testing.assert_array_equal(other.offsets, found[0].offsets)


@pytest.mark.parametrize("name", policies())
def test_scores_come_out_as_they_are_to_the_bit(name: str) -> None:
    rng = np.random.default_rng(8)
    values = rng.integers(0, 2**32, 3000, np.uint32).view(np.float32)  # NaN with payloads among them
    values[::5] = np.copysign(np.float32(0), values[::5])
    values[::7] = values[1]
    for ids in (None, np.sort(rng.choice(2**40, 3000, replace=False))):
        for descending in (False, True):
            p = quiet(scores(values, ids, descending), 7, policy=name, bins=2, sizes=np.arange(3000))
            rows = p.order if ids is None else np.searchsorted(ids, p.order)
            assert p.values is not None
            assert p.values.tobytes() == values[rows].tobytes()


@pytest.mark.parametrize("ids", [None, np.arange(40) * 3])
def test_what_is_made_is_a_partition_like_any_other(ids: Any) -> None:
    p = partition(scores(np.arange(40.0), ids), 3, bins=2)
    again = Partition(**{field.name: getattr(p, field.name) for field in fields(Partition)})
    for made in (p, again):
        for array in (made.order, made.offsets, made.values):
            assert array is not None
            assert not array.flags.writeable
    assert (p.order.dtype, p.seed, p.policy) == (np.int64, 0, "stripes")
    np.testing.assert_array_equal(p.worker_of(p.ids), again.worker_of(again.ids))


@pytest.mark.parametrize("name", policies())
def test_equal_capacities_are_as_good_as_none(name: str) -> None:
    rng = np.random.default_rng(5)
    s, sizes, current = scores(rng.random(90)), rng.integers(1, 9, 90), rng.integers(-1, 6, 90)
    options = {"policy": name, "sizes": sizes, "current": current}
    np.testing.assert_array_equal(
        partition(s, 6, capacity=[0.1] * 6, **options).order, partition(s, 6, **options).order
    )


def test_capacity_shares_every_degree_of_importance() -> None:
    s = scores(-np.arange(60.0))
    for name, options in (("stripes", {}), ("snake", {}), ("sticky", {"k": 2})):
        p = partition(s, 3, policy=name, capacity=[1, 2, 3], **options)
        owners = p.worker_of(np.arange(60)).reshape(5, 12)
        assert all(np.bincount(part).tolist() == [2, 4, 6] for part in owners), name
    blocks = partition(s, 3, policy="blocks", capacity=[1, 0, 2])
    assert blocks.worker_of(np.arange(60)).tolist() == [0] * 20 + [2] * 40


def test_labels_go_round_among_equal_counts_only() -> None:
    s = scores(-np.arange(8.0))
    held = np.array([2, 2, 2, 2, 0, 0, 1, 1])
    p = partition(s, 3, policy="blocks", capacity=[2, 1, 1], current=held)
    # Blocks of 4, 2, 2: worker 2 holds all of the first, but is to have two.
    assert p.worker_of(np.arange(8)).tolist() == [0, 0, 0, 0, 2, 2, 1, 1]


@pytest.mark.parametrize("name", [*policies(), "sticky(tolerance)"])
@pytest.mark.parametrize("classes", [None, np.arange(400) % 3])
def test_no_other_labels_would_keep_more_bytes(name: str, classes: Any) -> None:
    rng = np.random.default_rng(6)
    s, sizes, current = scores(rng.random(400)), rng.integers(0, 999, 400), rng.integers(-1, 7, 400)
    options: dict[str, Any] = {"policy": name, "k": 3} if name == "sticky" else {"policy": name}
    if name == "sticky(tolerance)":
        options = {"policy": "sticky", "tolerance": 0.1}
    p = partition(s, 6, current=current, sizes=sizes, classes=classes, **options)
    held = np.zeros((7, 6), np.int64)
    np.add.at(held, (current, p.worker_of(np.arange(400))), sizes)  # -1, 6: two rows that nobody keeps
    kept = held[:6].trace()
    assert kept == max(held[list(labels), range(6)].sum() for labels in permutations(range(6)))
    if not name.startswith("sticky"):  # the match has something to do
        unmatched = partition(s, 6, sizes=sizes, classes=classes, **options).worker_of(np.arange(400))
        assert kept > sizes[unmatched == current].sum()


def test_classes_are_recorded_and_divided_one_by_one() -> None:
    s = scores(-np.arange(8.0))
    p = partition(s, 2, policy="blocks", classes=[0, 1, 0, 1, 0, 1, 0, 1])
    assert p.policy == "stratified(blocks)"
    assert p.worker_of(np.arange(8)).tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert partition(s, 2, policy="sticky", classes=np.zeros(8, int)).policy == "stratified(sticky(k=16))"
    # What three of a class leave over goes on where the class before it stopped.
    dealt = partition(scores(-np.arange(6.0)), 2, classes=[0, 0, 0, 1, 1, 1]).worker_of(np.arange(6))
    assert [np.bincount(part).tolist() for part in (dealt[:3], dealt[3:])] == [[2, 1], [1, 2]]


@given(problems())
def test_stripes_blocks_snake_formulas(problem: Any) -> None:
    s, n, _ = problem
    order = by_importance(s)
    N = len(order)
    stripes, blocks, snake = (quiet(s, n, policy=name) for name in ("stripes", "blocks", "snake"))
    for w in range(n):
        assert stripes.worker(w).tolist() == order[w::n]
        assert blocks.worker(w).tolist() == order[w * N // n : (w + 1) * N // n]
        turns = [i for turn in range(N // n + 1) for i in [turn * n + (w if turn % 2 == 0 else n - 1 - w)]]
        assert snake.worker(w).tolist() == [order[i] for i in turns if i < N]


def test_random_is_a_seeded_permutation_blind_to_scores() -> None:
    rng = np.random.default_rng(1)
    one, two = (scores(rng.random(1000)) for _ in range(2))
    owners = partition(one, 7, policy="random", seed=3).worker_of(np.arange(1000))
    np.testing.assert_array_equal(
        owners, partition(two, 7, policy="random", seed=3).worker_of(np.arange(1000))
    )
    other = partition(one, 7, policy="random", seed=4).worker_of(np.arange(1000))
    assert 0.08 < (owners == other).mean() < 0.21  # 1/7, give or take four standard deviations
    # The stream is NumPy's frozen PCG64: these are the bytes of every machine and release.
    assert (
        partition(scores([0.0] * 12), 3, policy="random", seed=0).worker_of(np.arange(12)).tolist() == GOLDEN
    )


GOLDEN = [0, 0, 2, 1, 2, 1, 2, 1, 1, 2, 0, 0]


def test_bins_beyond_the_samples_are_empty() -> None:
    p = partition(scores([3.0, 1.0, 2.0]), 2, bins=4)
    assert p.counts.tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]
    assert p.group(0, 0).size == 0
    assert p.worker(0).tolist() == [0, 1]


def test_workers_beyond_the_samples_get_nothing() -> None:
    for name in policies():
        p = partition(scores([3.0, 1.0]), 5, policy=name, sizes=[1, 2])
        assert sorted(p.counts[:, 0].tolist()) == [0, 0, 0, 1, 1]


def test_policy_and_seed_are_recorded() -> None:
    p = partition(scores([1.0, 2.0], descending=False), 2, policy="sticky", k=3, seed=9)
    assert (p.policy, p.seed, p.measure, p.descending) == ("sticky(k=3)", 9, "loss_mean", False)


def test_nan_scores_come_last_counted_and_warned_about() -> None:
    with pytest.warns(NaNScoresWarning, match="2 of 5 scores are NaN; these samples are ordered last"):
        p = partition(scores([np.nan, 1.0, 2.0, np.nan, -np.inf]), 1)
    assert p.order.tolist() == [2, 1, 4, 0, 3]


def test_current_of_another_number_of_workers() -> None:
    s = scores(np.arange(40.0))
    before = partition(s, 8, policy="blocks")
    after = partition(s, 4, policy="blocks", current=before)
    # Worker i < 4 held ranks [5 i, 5 i + 5); blocks of ten match workers 0 or 1 and 2 or 3, the rest anyone.
    moves = after.moved_from(before)
    assert moves.samples.shape == (8, 4)
    assert np.trace(moves.samples) == 10


def test_current_may_be_anything_with_worker_of() -> None:
    s = scores(np.arange(12.0), ids=np.arange(12) * 10)
    before = partition(s, 3, policy="random", seed=5)
    holders = before.worker_of(np.arange(12) * 10)
    by_object = partition(s, 3, policy="sticky", k=2, current=before)
    by_array = partition(s, 3, policy="sticky", k=2, current=holders)
    np.testing.assert_array_equal(by_object.order, by_array.order)


MASKED = np.ma.array([1, 0, 1], mask=[False, True, False])  # type: ignore[no-untyped-call]


def test_tensors_are_taken_as_arrays_are() -> None:
    s, rng = scores(np.arange(40)), np.random.default_rng(0)
    arrays = {
        "current": rng.integers(-1, 3, 40),
        "sizes": rng.integers(0, 9, 40).astype(np.int32),
        "classes": rng.integers(0, 3, 40).astype(np.uint8),
        "capacity": np.array([1, 2, 0.5], np.float32),
    }
    tensors: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tensors["capacity"] = tensors["capacity"].bfloat16().requires_grad_()
    by_arrays, by_tensors = (partition(s, 3, policy="sticky", **given) for given in (arrays, tensors))
    np.testing.assert_array_equal(by_tensors.order, by_arrays.order)
    unmasked = np.ma.array(arrays["classes"])  # type: ignore[no-untyped-call]
    np.testing.assert_array_equal(
        partition(s, 3, policy="sticky", **arrays | {"classes": unmasked}).order, by_arrays.order
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"workers": 0}, "workers=0: must be at least 1"),
        ({"workers": 2.5}, "workers=2.5: must be an integer"),
        ({"bins": 0}, "bins=0: must be at least 1"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        (
            {"workers": 2**20, "bins": 2**11},
            "workers=1048576, bins=2048: their product must be at most 4194304",
        ),
        (
            {"policy": "stripe"},
            "policy 'stripe' is unknown; allowed are random, stripes, blocks, snake, sticky, balanced",
        ),
        ({"k": 4}, "policy 'stripes' has no option 'k'; it takes none"),
        ({"policy": "sticky", "n": 4}, "policy 'sticky' has no option 'n'; its options are k, tolerance"),
        ({"policy": "sticky", "k": 0}, "k=0: must be at least 1"),
        (
            {"policy": "sticky", "k": 4, "tolerance": 0.1},
            r"k=4, tolerance=0\.1: one of the two says how much",
        ),
        ({"policy": "sticky", "tolerance": 1.5}, r"tolerance=1\.5: must be within 0\.\.1"),
        ({"policy": "sticky", "k": "x"}, "k='x': must be an integer"),
        ({"sizes": [1, 2]}, r"sizes: int64 of shape \[2\]; must be integers, one for each of 3 samples"),
        ({"sizes": [1.0, 2.0, 3.0]}, r"sizes: float64 of shape \[3\]; must be integers"),
        ({"sizes": [1, -2, 3]}, "sizes: -2 at position 1 is negative"),
        ({"policy": "balanced"}, r"sizes: policy 'balanced' needs the bytes \(or cost\) of each sample"),
        ({"classes": [1, 2]}, r"classes: int64 of shape \[2\]; must be integers, one for each of 3 samples"),
        ({"classes": ["a", "b", "c"]}, r"classes: <U1 of shape \[3\]; must be integers"),
        ({"capacity": [1]}, r"capacity: int64 of shape \[1\]; must be numbers, one for each of 2 workers"),
        ({"capacity": [True, False]}, r"capacity: bool of shape \[2\]; must be numbers"),
        ({"capacity": [1, -0.5]}, "capacity: -0.5 of worker 1; must be finite and >= 0"),
        ({"capacity": [np.inf, 1]}, "capacity: inf of worker 0; must be finite"),
        ({"capacity": [np.nan, 1]}, "capacity: nan of worker 0; must be finite"),
        ({"capacity": [0, 0.0]}, "capacity: all 2 are 0, which can hold no samples"),
        ({"current": [0, 1]}, r"current: int64 of shape \[2\]; .* for each of 3 samples"),
        ({"current": [0, -2, 1]}, "current: -2 at position 1; workers are >= 0, nobody is -1"),
        ({"sizes": [[1], [1, 2]]}, "sizes: no array can be made of this list"),
        ({"classes": [[1], [1, 2]]}, "classes: no array can be made of this list"),
        ({"current": [[1], [1, 2]]}, "current: no array can be made of this list"),
        ({"capacity": [[1], [1, 2]]}, "capacity: no array can be made of this list"),
        ({"current": MASKED}, r"current: .* \(1 of its 3 numbers are masked; fill them first\)"),
        ({"sizes": MASKED}, r"sizes: .* \(1 of its 3 numbers are masked"),
        ({"classes": MASKED}, r"classes: .* \(1 of its 3 numbers are masked"),
        ({"capacity": MASKED[:2]}, r"capacity: .* \(1 of its 2 numbers are masked"),
        ({"scores": scores([])}, "scores: there are none"),
        ({"scores": np.zeros(3)}, r"scores: ndarray; must be Scores, say Scores\(values=array\)"),
        ({"scores": scores([np.nan, np.nan])}, "scores: all 2 are NaN"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        partition(**{"scores": scores([1.0, 2.0, 3.0]), "workers": 2, **arguments})
