"""The network simplex against scipy's linear programming, and worked values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from pyimportance import _C, ArgumentError

Arcs = list[tuple[int, int, int, int]]


def solve(arcs: Arcs, supply: list[int], start: list[int] | None = None) -> tuple[list[int], int]:
    columns = np.array(arcs, np.int64).reshape(-1, 4)
    ends = [np.ascontiguousarray(columns[:, i], np.int32) for i in (0, 1)]
    amounts = [np.ascontiguousarray(columns[:, i]) for i in (2, 3)]
    begin = np.array([0] * len(arcs) if start is None else start, np.int64)
    flow, cost = _C.cheapest_flow(*ends, *amounts, np.array(supply, np.int64), begin)
    return flow.tolist(), cost


@given(st.integers(2, 8), st.data())
def test_no_flow_is_cheaper(nodes: int, data: st.DataObject) -> None:
    node = st.integers(0, nodes - 1)
    arc = st.tuples(node, node, st.integers(0, 9), st.integers(0, 9))
    arcs = data.draw(st.lists(arc, min_size=1, max_size=30))
    supply = data.draw(st.lists(st.integers(-6, 6), min_size=nodes - 1, max_size=nodes - 1))
    supply.append(-sum(supply))

    out = np.zeros((nodes, len(arcs)))
    for e, (a, b, _, _) in enumerate(arcs):
        out[a, e] += 1
        out[b, e] -= 1
    costs, bounds = [cost for _, _, _, cost in arcs], [(0, capacity) for _, _, capacity, _ in arcs]
    best = linprog(costs, A_eq=out, b_eq=supply, bounds=bounds)
    if not best.success:
        with pytest.raises(ArgumentError, match="no flow carries these supplies"):
            solve(arcs, supply)
        return
    flow, cost = solve(arcs, supply)
    assert all(0 <= f <= capacity for f, (_, _, capacity, _) in zip(flow, arcs, strict=True))
    assert (out @ flow).tolist() == supply
    assert cost == np.dot(costs, flow) == round(best.fun)

    # From anywhere allowed: some arcs of a tree partly full, others empty or full, one node of it off.
    start = [data.draw(st.sampled_from([0, capacity])) for _, _, capacity, _ in arcs]
    tree = list(range(nodes))
    for e, (a, b, capacity, _) in enumerate(arcs):
        if capacity > 1 and tree[a] != tree[b]:
            start[e] = data.draw(st.integers(1, capacity - 1))
            tree = [tree[a] if t == tree[b] else t for t in tree]
    off = np.array(supply) - (out @ start).astype(int)
    if all(sum(off[v] != 0 for v in range(nodes) if tree[v] == t) <= 1 for t in set(tree)):
        assert solve(arcs, supply, start)[1] == cost
    else:
        with pytest.raises(ArgumentError, match="two nodes of a tree are out of balance"):
            solve(arcs, supply, start)


def test_worked_values() -> None:
    # Two ways from 0 to 2; the cheap one by 1 holds three.
    assert solve([(0, 1, 3, 1), (1, 2, 9, 1), (0, 2, 9, 5)], [5, 0, -5]) == ([3, 3, 2], 16)
    assert solve([(0, 1, 3, 1)], [0, 0]) == ([0], 0)
    large = 2**61
    assert solve([(0, 1, large, 0)], [large, -large]) == ([large], 0)


@pytest.mark.parametrize(
    ("arcs", "supply", "text"),
    [
        ([(0, 2, 1, 1)], [0, 0], "arc 0 is none of this network"),
        ([(0, 1, -1, 1)], [0, 0], "arc 0 is none of this network"),
        ([(0, 1, 1, -1)], [0, 0], "arc 0 is none of this network"),
        ([(0, 1, 1, 1)], [1, 0], "supplies must sum to 0"),
    ],
)
def test_what_is_no_network(arcs: Arcs, supply: list[int], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        solve(arcs, supply)


def test_what_cannot_be_started_from() -> None:
    with pytest.raises(ArgumentError, match="flow: exceeds an arc's capacity"):
        solve([(0, 1, 1, 1)], [0, 0], [2])
    with pytest.raises(ArgumentError, match="flow: arcs neither empty nor full form a cycle"):
        solve([(0, 1, 2, 1), (1, 0, 2, 1)], [0, 0], [1, 1])
