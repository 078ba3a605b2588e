"""argsort and divide on a device are those of the host."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, NaNScoresWarning, Scores, argsort, partition
from pyimportance.order.device import POLICIES, argsort_native, divide

DTYPES = [
    torch.float32, torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64, torch.float16,
    torch.bfloat16, torch.int8, torch.uint8, torch.int16, torch.bool,
]  # fmt: skip


def values_of(n: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Every pattern of bits, and many ties."""
    bits = np.random.default_rng(seed).integers(0, 256, n * dtype.itemsize, np.uint8)
    if dtype == torch.bool:
        return torch.from_numpy(bits > 99)
    values = torch.from_numpy(bits).view(dtype) if n else torch.zeros(0, dtype=dtype)
    values[n // 2 :] = values[: n - n // 2].clone()
    return values


def expected(values: torch.Tensor, descending: bool) -> npt.NDArray[np.int64]:
    return argsort(values.cpu(), descending=descending).numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 255, 257, 5000])
def test_the_order_of_the_host(machine: Any, dtype: torch.dtype, n: int) -> None:
    values = values_of(n, dtype, n)
    for descending in (False, True):
        order = argsort_native(machine.tensor(values), descending, machine.native, machine.stream())
        assert (order.dtype, order.device) == (torch.int64, machine.device)
        np.testing.assert_array_equal(order.cpu().numpy(), expected(values, descending))


def test_nan_zeros_infinities_and_strides(machine: Any) -> None:
    few = [np.nan, 0.0, -0.0, -np.nan, np.inf, -np.inf, 0.0, 1e-45, -1e-45]
    values = machine.tensor(torch.tensor(few * 3).reshape(3, 9).T.reshape(-1))
    for view in (values, values[::2], values[5:]):
        for descending in (False, True):
            order = argsort_native(view, descending, machine.native, machine.stream())
            np.testing.assert_array_equal(order.cpu().numpy(), expected(view, descending))


def test_a_workspace_serves_again(machine: Any) -> None:
    values, other = (machine.tensor(values_of(1000, torch.float32, seed)) for seed in (1, 2))
    stream, native = machine.stream(), machine.native
    workspace = machine.poisoned(native.argsort_workspace(values, stream))
    order = machine.tensor(torch.empty(1000, dtype=torch.int64))
    for each in (values, other, values):
        native.argsort(each, True, workspace, order, stream)
        np.testing.assert_array_equal(order.cpu().numpy(), expected(each, True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"workspace": (7, torch.uint8)}, "workspace: must be [0-9]+ bytes"),
        ({"order": (99, torch.int64)}, "order: 99 of them; must be 100"),
        ({"order": (100, torch.int32)}, "order: has another dtype"),
        ({"values": (100, torch.float16)}, "values: must be floats or integers of 32 or 64 bits"),
    ],
)
def test_what_does_not_fit(machine: Any, change: dict[str, Any], text: str) -> None:
    kinds = {"values": (100, torch.float32), "workspace": (9000, torch.uint8), "order": (100, torch.int64)}
    given = {
        name: torch.zeros(n, dtype=dtype, device=machine.device)
        for name, (n, dtype) in {**kinds, **change}.items()
    }
    with pytest.raises(ValueError, match=text):
        machine.native.argsort(given["values"], True, given["workspace"], given["order"], machine.stream())


def check_division(values: torch.Tensor, workers: int, bins: int, policy: str) -> None:
    order, offsets = divide(values, workers, bins=bins, policy=policy, seed=3)
    right = partition(Scores(values.cpu().numpy()), workers, bins=bins, policy=policy, seed=3)
    assert order.device == offsets.device == values.device
    np.testing.assert_array_equal(order.cpu().numpy(), right.order)
    np.testing.assert_array_equal(offsets.cpu().numpy(), right.offsets)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("n", [1, 2, 29, 30, 31, 32, 1000])
def test_divisions_of_tensors_on_the_host(policy: str, n: int) -> None:
    values = torch.from_numpy(np.random.default_rng(n).integers(0, 50, n).astype(np.float32))
    for workers in (1, 3, 4, 10, 40):
        check_division(values, workers, 1 + n % 3, policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_divisions_by_the_kernels(machine: Any, policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sorts, by score and by owner, are the kernels': what `argsort` calls where tensors are CUDA's."""
    sorted_dtypes = []

    def by_kernels(values: torch.Tensor, *, descending: bool = True) -> torch.Tensor:
        sorted_dtypes.append(values.dtype)
        return argsort_native(values, descending, machine.native, machine.stream())

    monkeypatch.setattr("pyimportance.order.device.argsort", by_kernels)
    for n, workers, bins in ((1, 3, 2), (31, 4, 1), (32, 4, 3), (33, 10, 2), (1000, 7, 4)):
        values = np.random.default_rng(n).integers(0, 50, n).astype(np.float32)
        values[::9] = np.nan if n > 1 else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NaNScoresWarning)
            check_division(machine.tensor(values), workers, bins, policy)
    assert set(sorted_dtypes) == {torch.float32} | (set() if policy == "blocks" else {torch.int32})


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES)
def test_divisions_on_a_device(device: Any, policy: str) -> None:
    values = device.tensor(torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    check_division(values, 7, 4, policy)


def test_what_cannot_be_divided() -> None:
    with pytest.raises(ArgumentError, match="values: ndarray; must be a tensor"):
        divide(np.zeros(3), 2)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="policy 'sticky': on a device it is one of random, stripes"):
        divide(torch.zeros(3), 2, policy="sticky")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_many_values_on_a_side_stream_and_in_a_graph(device: Any, dtype: torch.dtype) -> None:
    values = device.tensor(values_of(3_000_000, dtype, 5))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        order = argsort(values)
    torch.cuda.current_stream().wait_stream(side)
    np.testing.assert_array_equal(order.cpu().numpy(), expected(values, True))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        order = argsort(values)
    values.copy_(values.flip(0))
    graph.replay()
    np.testing.assert_array_equal(order.cpu().numpy(), expected(values, True))
