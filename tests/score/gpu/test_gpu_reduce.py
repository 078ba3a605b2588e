"""A history reduced on a device is one reduced on the host."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import _C, ArgumentError, Dynamics
from pyimportance.score import arrays, ranges
from pyimportance.score.device import reduced

Arrays = dict[str, npt.NDArray[Any]]


def history(epochs: int, samples: int, dtype: Any, missing: float = 0.3) -> Arrays:
    rng = np.random.default_rng(epochs)
    drawn: Arrays = {
        "loss": 1e3 + rng.standard_normal((epochs, samples)) * 1e-3,
        "p_true": 1 - rng.random((epochs, samples)) * 1e-6,
        "correct": rng.integers(0, 2, (epochs, samples)),
        "margin": rng.standard_normal((epochs, samples)),
        "el2n": rng.random((epochs, samples)),
        "entropy": rng.random((epochs, samples)),
        "grand": rng.random((epochs, samples)) * 9,
    }
    unseen = rng.random((epochs, samples)) < missing
    unseen[:, -1:] = True  # somebody whom nobody has seen
    result = {name: array.astype(dtype) for name, array in drawn.items()}
    for array in result.values():
        array[unseen] = np.nan
    return result


def compare(machine: Any, given: Arrays) -> None:
    tensors = {name: machine.tensor(array) for name, array in given.items()}
    got = reduced(tensors, machine.native, machine.stream())
    assert got is not None
    want = arrays.reduced(given)
    assert got.keys() == want.keys()
    for name, column in want.items():
        tolerance = 1e-9 if name.endswith("_m2") else 1e-12
        np.testing.assert_allclose(got[name], column, rtol=tolerance, atol=1e-18, err_msg=name)
        assert got[name].dtype == column.dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("epochs", "samples"), [(1, 1), (2, 31), (3, 32), (4, 33), (5, 255), (9, 257), (100, 600)]
)
def test_columns_of_the_host(machine: Any, dtype: Any, epochs: int, samples: int) -> None:
    given = history(epochs, samples, dtype)
    compare(machine, given)
    compare(machine, history(epochs, samples, dtype, missing=0.0))
    for name in given:
        compare(machine, {name: given[name]})
    learned = {"correct": np.nan_to_num(given["correct"]).astype(bool)}
    compare(machine, learned)
    compare(machine, {"loss": given["loss"], **learned})  # bools say nothing about who was observed


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_of_a_column_is_written(machine: Any, dtype: Any) -> None:
    """Whatever it held before, on a device and on the host."""
    given = history(5, 290, dtype)
    want = arrays.reduced(given)
    of_host = {name: np.full(len(column), 0x5A, column.dtype) for name, column in want.items()}
    poisoned = {name: machine.tensor(column).clone() for name, column in of_host.items()}
    ends = np.full(290, 0x5A, np.uint8)  # which a history leaves alone
    tensors, wrong = {n: machine.tensor(array) for n, array in given.items()}, machine.tensor([0]).int()
    with_ends = poisoned | {"ends": machine.tensor(ends)}
    machine.native.reduce(with_ends, tensors, ranges.EL2N_MAX, wrong, machine.stream())
    assert wrong.tolist() == [0]
    assert _C.reduce(of_host | {"ends": ends}, given, 5, 290, ranges.EL2N_MAX, 1)
    for name, column in want.items():
        assert of_host[name].tobytes() == column.tobytes(), name
        np.testing.assert_allclose(poisoned[name].cpu().numpy(), column, rtol=1e-9, atol=1e-18, err_msg=name)


def test_strides_and_nothing_at_all(machine: Any) -> None:
    wide = machine.tensor(history(6, 90, np.float32)["loss"])
    part = wide[::2, 5:80]
    got = reduced({"loss": part}, machine.native, machine.stream())
    assert got is not None
    want = arrays.reduced({"loss": part.cpu().numpy()})
    np.testing.assert_allclose(got["loss_mean"], want["loss_mean"], rtol=1e-12)
    assert reduced({"loss": torch.zeros(5, 0)}, machine.native, machine.stream()) is None
    nothing = reduced({"loss": machine.tensor(torch.zeros(0, 5))}, machine.native, machine.stream())
    assert nothing is not None
    assert nothing["count"].tolist() == [0] * 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", np.inf), ("loss", np.nan), ("p_true", 1.1), ("p_true", -0.1), ("el2n", 1.5), ("entropy", -1),
        ("grand", np.inf), ("correct", 0.5), ("margin", np.nan),
    ],
)  # fmt: skip
def test_what_the_host_would_refuse_is_left_to_it(machine: Any, name: str, value: float) -> None:
    given = history(7, 300, np.float32, missing=0)
    given = {n: np.nan_to_num(array, nan=0.5 if n != "correct" else 0) for n, array in given.items()}
    tensors = {n: machine.tensor(array) for n, array in given.items()}
    assert reduced(tensors, machine.native, machine.stream()) is not None
    tensors[name][6, 299] = value
    assert reduced(tensors, machine.native, machine.stream()) is None


def test_kinds_that_the_host_converts(machine: Any) -> None:
    one = machine.tensor(history(3, 5, np.float32)["loss"])
    for given in (
        {"loss": one.half()},
        {"loss": one, "margin": one.double()},
        {"loss": one.T.contiguous().T},
        {"loss": one, "margin": one[:2]},
        {"loss": one[0]},
        {"loss": one > 0},
        {"loss": (one > 0).to(torch.uint8)},
    ):
        assert reduced(given, machine.native, machine.stream()) is None


@pytest.mark.gpu
def test_from_history(device: Any) -> None:
    given = history(20, 3000, np.float32)
    ours = Dynamics.from_history(**{name: device.tensor(array) for name, array in given.items()})
    hosts = Dynamics.from_history(**given)
    np.testing.assert_allclose(ours.mean("loss"), hosts.mean("loss"), rtol=1e-12)
    assert ours.history is not None
    np.testing.assert_array_equal(ours.history.array("margin"), given["margin"])
    given["el2n"][3, 4] = 7
    with pytest.raises(ArgumentError, match=r"el2n: 7\.0 in epoch 3 of sample 4"):
        Dynamics.from_history(**{name: device.tensor(array) for name, array in given.items()})
