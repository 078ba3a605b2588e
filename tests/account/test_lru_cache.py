"""LRUCache against a model: a dict with the same order of use."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import ArgumentError, OutputError
from pyimportance.account.lru_cache import LRUCache
from pyimportance.io.meter import Meter

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["get", "put"]), st.integers(0, 8), st.binary(max_size=10)), max_size=60
)


@given(operations=OPERATIONS, capacity=st.integers(0, 40))
def test_behaves_like_a_bounded_dict(
    tmp_path: Path, operations: list[tuple[str, int, bytes]], capacity: int
) -> None:
    model: OrderedDict[int, bytes] = OrderedDict()
    meter = Meter()
    hits = 0
    with LRUCache(tmp_path / "cache", capacity, 10, meter) as cache:
        for operation, key, data in operations:
            if operation == "put":
                cache.put(key, data)
                model.pop(key, None)
                if len(data) <= capacity:
                    model[key] = data
                    while sum(map(len, model.values())) > capacity:
                        model.popitem(last=False)
            else:
                assert cache.get(key) == model.get(key)
                if key in model:
                    model.move_to_end(key)
                    hits += len(model[key])
        assert {k: cache.get(k) for k in range(9)} == {k: model.get(k) for k in range(9)}
        assert cache.nbytes == sum(map(len, model.values())) <= capacity
        assert meter.bytes("cache") == hits + sum(map(len, model.values()))


def test_slots_are_used_again(tmp_path: Path) -> None:
    cache = LRUCache(tmp_path / "cache", 100, 50)
    for i in range(1000):
        cache.put(i, bytes([i % 256]) * 50)
    assert cache.evictions == 998
    assert cache.get(999) == bytes([999 % 256]) * 50
    assert cache._slots == 2
    cache.close()
    cache.close()


def test_leaves_no_file_and_touches_none(tmp_path: Path) -> None:
    with LRUCache(tmp_path / "cache", 10, 10) as cache:
        cache.put("a", b"x")
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").write_bytes(b"precious")
    with pytest.raises(OutputError, match="mine: the cache cannot be made"):
        LRUCache(tmp_path / "mine", 10, 10)
    assert (tmp_path / "mine").read_bytes() == b"precious"


def test_refuses(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="capacity_bytes=-1: must be at least 0"):
        LRUCache(tmp_path / "cache", -1, 1)
    with (
        LRUCache(tmp_path / "cache", 10, 4) as cache,
        pytest.raises(ArgumentError, match="entry 7 has 5 bytes; a slot holds 4"),
    ):
        cache.put(7, b"12345")


def test_a_closed_cache_says_so(tmp_path: Path) -> None:
    cache = LRUCache(tmp_path / "cache", 10, 10)
    cache.put("a", b"1")
    cache.close()
    for use in (lambda: cache.get("a"), lambda: cache.put("b", b"2")):
        with pytest.raises(ValueError, match="cache: is closed"):
            use()
