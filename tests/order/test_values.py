"""Partition, the noun: look-ups, moves and what it refuses to be."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, Partition


def make(**fields: Any) -> Partition:
    values: dict[str, Any] = {
        "workers": 2,
        "bins": 2,
        "order": np.array([4, 2, 0, 3]),
        "offsets": np.array([0, 1, 2, 2, 4]),
    }
    return Partition(**{**values, **fields})


def test_groups_and_lookups() -> None:
    p = make()
    assert p.num_samples == 4
    assert p.group(0, 0).tolist() == [4]
    assert p.group(1, 0).size == 0
    assert p.worker(1).tolist() == [0, 3]
    assert p.ids.tolist() == [0, 2, 3, 4]
    assert p.counts.tolist() == [[1, 1], [0, 2]]
    assert p.worker_of([0, 1, 2, 3, 4, 5, -1, 2**62]).tolist() == [1, -1, 0, 1, 0, -1, -1, -1]
    assert p.bin_of([0, 1, 2, 3, 4]).tolist() == [1, -1, 1, 1, 0]
    assert p.worker_of(np.zeros((2, 3), np.int64)).shape == (2, 3)
    assert p.worker_of([]).shape == (0,)
    assert p.worker_of(4) == 0
    assert p.worker_of(np.array([4, 2**64 - 4], np.uint64)).tolist() == [0, -1]
    with pytest.raises(ArgumentError, match="ids: float64; sample ids are integers"):
        p.worker_of([0.0])


@given(st.lists(st.integers(0, 2**62), unique=True, max_size=40), st.integers(1, 4), st.integers(1, 3))
def test_lookups_of_sparse_ids(ids: list[int], workers: int, bins: int) -> None:
    cuts = np.linspace(0, len(ids), workers * bins + 1).astype(np.int64)
    p = Partition(workers, bins, np.array(ids, np.int64), cuts)
    for w in range(workers):
        for b in range(bins):
            assert (p.worker_of(p.group(w, b)) == w).all()
            assert (p.bin_of(p.group(w, b)) == b).all()
    absent = np.array([i + 1 for i in ids if i + 1 not in ids], np.int64)
    assert (p.worker_of(absent) == -1).all()


def test_no_samples_at_all() -> None:
    p = make(order=np.empty(0, np.int64), offsets=np.zeros(5, np.int64))
    assert p.num_samples == 0
    assert p.worker_of([0, 1]).tolist() == [-1, -1]
    assert p.moved_from(p).moved_samples == 0


def test_arrays_are_read_only_and_the_repr_is_short() -> None:
    p = make(values=np.zeros(4, np.float32))
    for array in (p.order, p.offsets, p.values, p.ids, p.worker(0)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1  # type: ignore[index]
    assert repr(p) == "Partition(4 samples, workers=2, bins=2, policy='', measure='', seed=0)"


def test_it_goes_to_other_processes_as_it_is() -> None:
    before = make(values=np.arange(4, dtype=np.float32), policy="blocks")
    assert before.worker_of([0]).tolist() == [1]  # fills the look-up table
    data = pickle.dumps(before)
    assert b"IdMap" not in data
    after = pickle.loads(data)
    assert repr(after) == repr(before)
    np.testing.assert_array_equal(after.order, before.order)
    np.testing.assert_array_equal(after.values, before.values)
    assert not after.order.flags.writeable


def test_moves() -> None:
    before = Partition(3, 1, np.array([0, 1, 2, 3, 4]), np.array([0, 2, 4, 5]))  # 0 1 | 2 3 | 4
    after = Partition(2, 1, np.array([0, 2, 7, 1, 3]), np.array([0, 3, 5]))  # 0 2 7 | 1 3
    moves = after.moved_from(before, sizes=[1, 10, 100, 1000, 2**55])  # of 0, 1, 2, 3, 7
    assert moves.samples.tolist() == [[1, 1], [1, 1], [0, 0]]
    assert moves.bytes is not None
    assert moves.bytes.tolist() == [[1, 10], [100, 1000], [0, 0]]
    assert moves.new_samples.tolist() == [1, 0]
    assert moves.new_bytes is not None
    assert moves.new_bytes.tolist() == [2**55, 0]
    assert (moves.moved_samples, moves.moved_bytes) == (2, 110)
    assert after.moved_from(before).moved_bytes is None
    with pytest.raises(ArgumentError, match=r"sizes: int64 of shape \[2\]; .* of 5 samples"):
        after.moved_from(before, sizes=[1, 2])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"workers": 0}, "workers=0: must be at least 1"),
        (
            {"order": np.array([4, 2, 0, 3], np.int32)},
            "order: int32 with 1 axes; must be int64 with one axis",
        ),
        ({"order": np.array([[4, 2, 0, 3]])}, "order: int64 with 2 axes"),
        ({"order": np.array([4, 2, 0, 4])}, "order: sample id 4 occurs more than once"),
        ({"order": np.array([4, 2, 3, 3])}, "order: sample id 3 occurs more than once"),
        ({"order": np.array([4, 2, -7, 3])}, "order: sample id -7 is negative"),
        ({"offsets": np.array([0, 2, 4])}, "offsets: 3 of them; 2 workers of 2 bins need 5"),
        ({"offsets": np.array([0, 1, 2, 2, 3])}, "offsets must rise from 0 to the number of samples, 4"),
        ({"offsets": np.array([1, 1, 2, 2, 4])}, "offsets must rise from 0"),
        ({"offsets": np.array([0, 3, 2, 2, 4])}, "offsets must rise from 0"),
        ({"values": np.zeros(3, np.float32)}, "values: 3 of them for 4 samples in order"),
        ({"values": np.zeros(4)}, "values: float64 with 1 axes; must be float32"),
    ],
)
def test_what_is_not_a_partition(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make(**fields)


def test_groups_outside() -> None:
    with pytest.raises(ArgumentError, match="worker 2, bin 0: there are 2 workers of 2 bins, counted from 0"):
        make().group(2, 0)
    with pytest.raises(ArgumentError, match="worker -1: there are 2"):
        make().worker(-1)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        (
            np.array([1, 2, 2**63, 4], np.uint64),
            "sizes: 9223372036854775808 at position 2 is 2[*][*]63 or more",
        ),
        ([2**62, 2**62, 0, 0], "sizes: their sum is 9223372036854775808; must be below 2[*][*]63"),
        ([2**63 - 1] * 4, "sizes: their sum is 36893488147419103228"),
        ([1, 2, -3, 4], "sizes: -3 at position 2 is negative"),
    ],
)
def test_sizes_that_int64_cannot_add_up(sizes: Any, text: str) -> None:
    p = make()
    with pytest.raises(ArgumentError, match=text):
        p.moved_from(p, sizes=sizes)
    most = np.array([2**63 - 1, 0, 0, 0], np.uint64)
    moves = p.moved_from(p, sizes=most)
    assert moves.bytes is not None
    assert moves.bytes.sum() == 2**63 - 1
