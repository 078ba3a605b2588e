"""An epoch on a device: whose observation stands, what is refused, and the fold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import _C
from pyimportance.score import state
from pyimportance.score.history import ROW

N = 50


class Epoch:
    """The extension's, with the tensors it works on."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.rows = machine.tensor(torch.zeros(N, 32, dtype=torch.uint8))
        self.claims = machine.tensor(torch.full((N,), -1, dtype=torch.int32))
        self.problems = machine.tensor(torch.tensor([-1, 0, 0, 0, 0, 0, 0]))
        self.native = machine.native.Epoch(self.rows, self.claims, self.problems, machine.stream())

    def observe(
        self, ids: Any, z: Any, y: Any, *, mask: Any = None, norms: Any = None, skip: bool = False
    ) -> None:
        on = self.machine.tensor
        mask = None if mask is None else on(np.asarray(mask, np.uint8))
        norms = None if norms is None else on(np.asarray(norms, np.float32))
        scratch = self.machine.poisoned(len(ids), 32)
        self.native.observe_logits(on(ids), on(z), on(y), mask, norms, skip, scratch, self.machine.stream())
        assert (self.claims == -1).all()  # every claim has been given up

    def result(self) -> npt.NDArray[np.void]:
        rows: npt.NDArray[np.void] = self.rows.cpu().numpy().view(ROW).reshape(-1)
        return rows


def test_the_first_observation_stands(machine: Any, rng: np.random.Generator) -> None:
    """Of an id that a batch has many times, across blocks, the lowest position; before it, earlier ones."""
    for classes in (10, 300):
        epoch = Epoch(machine)
        ids = rng.integers(0, 7, 600)
        z = rng.standard_normal((600, classes)).astype(np.float32)
        y = rng.integers(0, classes, 600)
        epoch.observe(ids, z, y)
        each = machine.rows(z, y)
        first = np.array([np.flatnonzero(ids == i)[0] for i in range(7)])
        assert epoch.result()[:7].tobytes() == each[first].tobytes()
        assert (epoch.result()["code"][7:] == 0).all()
        before = epoch.result()
        epoch.observe([3, 8, 8], z[:3], y[:3])
        after = epoch.result()
        assert after[[0, 1, 2, 3, 4, 5, 6]].tobytes() == before[:7].tobytes()
        assert after[8].tobytes() == each[1].tobytes()


def test_one_that_is_left_out_leaves_its_place_to_the_next(machine: Any) -> None:
    z = np.arange(12, dtype=np.float32).reshape(4, 3)
    z[0, 1] = np.nan
    epoch = Epoch(machine)
    epoch.observe([5, 5, 5, 5], z, [0, 1, 2, 0], mask=[1, 0, 1, 1], skip=True)
    assert epoch.result()[5].tobytes() == machine.rows(z, [0, 1, 2, 0])[2].tobytes()
    assert epoch.problems.tolist() == [-1, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"ids": {40: N, 70: -1}}, [1, 40, N, 0, 2]),
        ({"ids": {40: 2**32 + 1}}, [1, 40, 2**32 + 1, 0, 1]),
        ({"y": {40: 10, 41: -100}}, [2, 40, 40, 10, 2]),
        ({"z": {41: np.nan, 69: np.inf}}, [3, 41, 41, 0, 2]),
        ({"z": {41: np.nan}, "ids": {3: -7}, "y": {12: 99}}, [1, 3, -7, 0, 3]),
    ],
)
def test_what_is_wrong_is_recorded_and_the_rest_stored(
    machine: Any, change: dict[str, dict[int, Any]], problem: list[int], rng: np.random.Generator
) -> None:
    n = 90
    batch = {
        "ids": np.arange(n) % 45,
        "z": rng.standard_normal((n, 10)).astype(np.float32),
        "y": rng.integers(0, 10, n),
    }
    bad = sorted({at for entries in change.values() for at in entries})
    for name, entries in change.items():
        for at, value in entries.items():
            batch[name][at] = value
    epoch = Epoch(machine)
    epoch.observe(batch["ids"], batch["z"], batch["y"])
    assert epoch.problems.tolist()[1:6] == problem
    good = np.delete(np.arange(n), bad)
    plain = Epoch(machine)
    plain.observe(batch["ids"][good], batch["z"][good], batch["y"][good])
    assert epoch.result().tobytes() == plain.result().tobytes()
    epoch.observe([N + 1], batch["z"][:1], [0])  # the first of all stays
    assert epoch.problems.tolist()[1:5] == problem[:4]
    assert epoch.problems.tolist()[5] == problem[4] + 1


def test_the_gradient_of_the_last_layer(machine: Any, rng: np.random.Generator) -> None:
    z, y = rng.standard_normal((4, 20)).astype(np.float32), np.arange(4)
    norms = np.float32([0, 2, np.inf, 1e20])
    epoch = Epoch(machine)
    epoch.observe(np.arange(4), z, y, norms=norms, skip=True)
    rows = epoch.result()
    assert (rows["code"][:4] != 0).tolist() == [True, True, False, True]
    np.testing.assert_allclose(
        rows["grand"][[0, 1, 3]], rows["el2n"][[0, 1, 3]] * np.hypot(1, norms[[0, 1, 3]]), rtol=1e-6
    )
    assert np.isnan(machine.rows(z, y)["grand"]).all()


def test_losses(machine: Any) -> None:
    epoch = Epoch(machine)
    ids, loss = (
        machine.tensor(np.array([4, 2, 4, 9, 60])),
        machine.tensor(np.array([1.5, np.nan, 2, -3e9, 1])),
    )
    scratch = machine.poisoned(5, 32)
    epoch.native.observe_losses(ids, loss, None, False, scratch, machine.stream())
    rows = epoch.result()
    assert rows["code"][[2, 4, 9]].tolist() == [0, 3, 3]
    assert rows["loss"][[4, 9]].tolist() == [1.5, -3e9]
    assert np.isnan(rows["margin"][4])
    assert np.isnan(rows["el2n"][4])
    assert epoch.problems.tolist()[1:6] == [3, 1, 2, 0, 2]


@pytest.mark.parametrize("kind", list(state.KINDS))
def test_the_fold_gives_the_bits_of_the_cpu(machine: Any, kind: str, rng: np.random.Generator) -> None:
    columns = state.zeros(N, state.KINDS[kind])
    state.decay(columns, 0.5)  # with weights, all the columns that there are
    tensors = {name: machine.tensor(torch.from_numpy(column.copy())) for name, column in columns.items()}
    for number in range(5):
        rows = np.zeros(N, ROW)
        seen = rng.random(N) < 0.7
        rows["loss"] = rng.exponential(2.0, N) * 10.0 ** rng.uniform(-8, 1, N)
        rows["margin"], rows["el2n"], rows["entropy"], rows["grand"] = rng.standard_normal((4, N))
        rows["code"] = np.where(seen, rng.integers(1, 3, N) if kind != "loss" else 3, 0)
        rows[~seen] = np.zeros((), ROW)
        epoch = Epoch(machine)
        ids = np.flatnonzero(seen)
        packed = torch.from_numpy(rows[ids].view(np.uint8).reshape(-1, 32).copy())
        epoch.native.commit_rows(machine.tensor(ids), machine.tensor(packed), machine.stream())
        assert epoch.result().tobytes() == rows.tobytes()
        epoch.native.fold(tensors, number, machine.stream())
        _C.fold(columns, rows, number, 1)
        assert not epoch.rows.any()  # ready for the next one
    for name, column in columns.items():
        assert tensors[name].cpu().numpy().tobytes() == column.tobytes(), name


@pytest.mark.parametrize(
    ("at", "id_", "code", "problem"),
    [
        (3, N, 1, [1, 3, N, 0, 1]),
        (0, -1, 1, [1, 0, -1, 0, 1]),
        (49, 2**40, 1, [1, 49, 2**40, 0, 1]),
        (5, 5, 4, [6, 5, 5, 4, 1]),
        (5, 5, 0, [6, 5, 5, 0, 1]),
        (5, 5, -9, [6, 5, 5, -9, 1]),
    ],
)
def test_rows_that_cannot_be_are_left_out(
    machine: Any, at: int, id_: int, code: int, problem: list[int]
) -> None:
    rows, ids = np.zeros(N, ROW), np.arange(N)
    rows["code"], rows["loss"] = 3, ids + 1
    ids[at], rows["code"][at] = id_, code
    epoch = Epoch(machine)
    packed = torch.from_numpy(rows.view(np.uint8).reshape(-1, 32))
    epoch.native.commit_rows(machine.tensor(ids), machine.tensor(packed), machine.stream())
    assert epoch.problems.tolist()[1:6] == problem
    want = np.arange(N) + 1.0
    want[at] = 0
    np.testing.assert_array_equal(epoch.result()["loss"], want)
    np.testing.assert_array_equal(epoch.result()["code"] == 3, want > 0)


def test_columns_that_do_not_fit(machine: Any) -> None:
    epoch = Epoch(machine)
    with pytest.raises(ValueError, match="count: 3 of them; must be 50"):
        epoch.native.fold({"count": machine.tensor(np.zeros(3, np.int32))}, 0, machine.stream())
    with pytest.raises(ValueError, match="count: has another dtype"):
        epoch.native.fold({"count": machine.tensor(np.zeros(N))}, 0, machine.stream())
    with pytest.raises(ValueError, match="columns: count, or the companion of a column, is missing"):
        epoch.native.fold({}, 0, machine.stream())
