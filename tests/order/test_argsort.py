"""argsort against NumPy's stable sort, for every dtype, direction, number of threads and kind of array."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyimportance import _C, ArgumentError, argsort
from pyimportance.order.argsort import _argsort_torch

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"]
FEW = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 3e38, -3e38]


def oracle(values: np.ndarray, descending: bool) -> np.ndarray:
    """A stable sort of the ranks of the distinct values, NaN after all others."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.size, bool)
    ranks = np.empty(values.size, np.int64)
    ranks[~missing] = np.unique(values[~missing], return_inverse=True)[1]  # -0.0 and 0.0 are one
    if descending:
        ranks = -ranks
    ranks[missing] = values.size
    return np.argsort(ranks, kind="stable")


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    elements: Any = None
    if dtype.kind == "f" and draw(st.booleans()):
        few = [v for v in FEW if dtype.itemsize > 2 or not 65504 < abs(v) < np.inf]
        elements = st.sampled_from([float(dtype.type(v)) for v in few])
    values: np.ndarray = draw(hnp.arrays(dtype, st.integers(0, 200), elements=elements, fill=st.nothing()))
    return values[:: draw(st.sampled_from([1, 2, -1, -3]))]


@given(arrays(), st.booleans())
def test_every_dtype(values: np.ndarray, descending: bool) -> None:
    order = argsort(values, descending=descending)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, oracle(values, descending))


@given(
    hnp.arrays(st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8"]), st.integers(0, 100)),
    st.booleans(),
)
def test_torch_sorts_the_same(values: np.ndarray, descending: bool) -> None:
    tensor = torch.from_numpy(values)
    on_cpu = argsort(tensor, descending=descending)
    assert on_cpu.dtype == torch.int64
    np.testing.assert_array_equal(on_cpu.numpy(), oracle(values, descending))
    np.testing.assert_array_equal(_argsort_torch(tensor, descending).numpy(), oracle(values, descending))


def random_values(n: int, dtype: str, kind: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "bits":  # every bit pattern, NaN payloads and denormals included
        return rng.integers(0, 256, n * np.dtype(dtype).itemsize, np.uint8).view(dtype)
    if kind == "ties":
        return rng.integers(0, 3, n).astype(dtype)
    return np.zeros(n, dtype) if kind == "equal" else np.arange(n)[::-1].astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u4", "u8"])
@pytest.mark.parametrize("kind", ["bits", "ties", "equal", "falling"])
def test_sizes_around_blocks_and_any_number_of_threads(dtype: str, kind: str) -> None:
    for n in (0, 1, 2, 31, 32, 33, 255, 256, 257, 2**16 - 1, 2**16, 3 * 2**16 + 1):
        values = random_values(n, dtype, kind)
        for descending in (False, True):
            expected = oracle(values, descending)
            for threads in (1, 2, 3, 7):
                for wide in (False, True):
                    order = _C.argsort(values, descending=descending, threads=threads, wide=wide)
                    np.testing.assert_array_equal(order, expected)


@pytest.mark.parametrize("bits", range(65))
def test_any_number_of_bits_to_sort_by(bits: int) -> None:
    """One digit, two, three ..: every way the two buffers can end up, entries of every size."""
    rng = np.random.default_rng(bits)
    least = int(rng.integers(2**64 - 2**bits, dtype=np.uint64, endpoint=True)) if bits < 64 else 0
    for common in {0, (64 - bits) // 2, 64 - bits}:  # low bits that are the same everywhere
        drawn = rng.integers(2**bits - 1, size=1000, dtype=np.uint64, endpoint=True)
        values = (drawn << np.uint64(min(common, 63))) + np.uint64(least if common == 0 else 0)
        expected = np.argsort(values, kind="stable")
        np.testing.assert_array_equal(argsort(values), np.argsort(~values, kind="stable"))
        for wide in (False, True):
            order = _C.argsort(values, descending=False, threads=1, wide=wide)
            np.testing.assert_array_equal(order, expected)


N = 600_000  # more than one bucket holds


def crowded(kind: str) -> np.ndarray:
    """Many values that begin with the same bits: divided more than once, or looked up beyond the first 32."""
    rng = np.random.default_rng(3)
    values: np.ndarray = {
        "one far out": lambda: np.append(1 + rng.random(N, np.float32) / 100, np.float32([3e38, np.nan])),
        "half zeros": lambda: np.maximum(rng.standard_normal(N), 0),
        "zeros of both signs": lambda: np.where(rng.random(N) < 0.01, 1, np.copysign(0, rng.random(N) - 0.5)),
        "all but the last bits": lambda: 1 + rng.integers(0, 2**20, N) * 2.0**-52 + (rng.random(N) < 1e-5),
        "pairs in all but the last bits": lambda: rng.integers(0, 2**62, N) // 4 * 4 + rng.integers(0, 2, N),
        "levels": lambda: (rng.integers(0, 2, (N, 4)) * 2.0 ** np.array([1000, 30, 0, -20])).sum(axis=1),
        "steps": lambda: np.int64([0, 1, 2**31, 2**62])[rng.integers(0, 4, N)] + rng.integers(0, 3, N),
        "integers": lambda: rng.integers(0, 2**13, N).astype(np.uint32),
        "mostly one": lambda: np.where(rng.random(N) < 0.9, 7, rng.integers(0, 2**60, N)),
    }[kind]()
    return np.concatenate([values, values[: N // 3]])  # ties


CROWDED = ["one far out", "half zeros", "zeros of both signs", "all but the last bits", "levels", "steps"]
CROWDED += ["pairs in all but the last bits", "integers", "mostly one"]


@pytest.mark.parametrize("kind", CROWDED)
def test_values_that_crowd_together(kind: str) -> None:
    values = crowded(kind)
    expected = oracle(values, True)
    for threads, wide in ((1, False), (3, False), (2, True)):
        how: dict[str, Any] = {"descending": True, "threads": threads, "wide": wide}
        order, in_order = _C.argsort(values, sorted=True, **how)
        np.testing.assert_array_equal(order, expected)
        np.testing.assert_array_equal(_C.argsort(values, **how), expected)
        assert in_order.tobytes() == values[expected].tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u8"])
@pytest.mark.parametrize("kind", ["bits", "ties", "equal", "falling", "few"])
def test_values_in_order_to_the_bit(dtype: str, kind: str) -> None:
    for n in (0, 1, 5, 100, 2**17 + 1, 3 * 2**16 + 1):
        values = random_values(n, dtype, kind) if kind != "few" else np.resize(FEW[:4], n).astype(dtype)
        if kind == "bits" and dtype[0] == "f":  # NaN with payloads, zeros of both signs
            values[::7] = np.nan
            values[1::7] = np.copysign(0, values[1::7])
        for descending in (False, True):
            for compact in (False, True):
                order, in_order = _C.argsort(
                    values, descending=descending, threads=2, compact=compact, sorted=True
                )
                np.testing.assert_array_equal(order, oracle(values, descending))
                assert in_order.tobytes() == values[order].tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "values", [[np.nan] * 3, [np.nan, 2.0, np.nan], [-np.inf, np.nan, np.inf, -1.5], FEW]
)
def test_nan_beside_numbers_of_few_bits(dtype: str, values: list[float]) -> None:
    array = np.array(values * 5, dtype)
    for descending in (False, True):
        np.testing.assert_array_equal(argsort(array, descending=descending), oracle(array, descending))


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 3 * 2**16 + 1])
@pytest.mark.parametrize("dtype", ["f4", "i4", "u8"])
def test_positions_of_32_bits_and_what_is_carried(n: int, dtype: str) -> None:
    for kind in ("bits", "ties", "equal"):
        values = random_values(n, dtype, kind)
        expected = oracle(values, False)
        carried = np.random.default_rng(1).permutation(n)
        for wide in (False, True):
            how: dict[str, Any] = {"descending": False, "threads": 2, "wide": wide}
            short = _C.argsort(values, compact=True, **how)
            assert short.dtype == np.uint32
            np.testing.assert_array_equal(short, expected)
            for items in (carried, carried.astype(np.uint32)):
                for compact in (False, True):
                    got = _C.argsort(values, carried=items, compact=compact, **how)
                    np.testing.assert_array_equal(got, carried[expected])


@pytest.mark.parametrize(
    "carried", [np.zeros(2, np.int64), np.zeros(3, np.int32), np.zeros(6, np.int64)[::2]]
)
def test_what_cannot_be_carried(carried: Any) -> None:
    with pytest.raises(ArgumentError, match="carried: must be 3 contiguous uint32 or int64 numbers"):
        _C.argsort(np.zeros(3), descending=False, threads=1, carried=carried)


def test_nan_is_last_and_zeros_are_equal_in_both_directions() -> None:
    values = np.array([np.nan, 0.0, -0.0, -np.nan, np.inf, -np.inf, 0.0], np.float32)
    assert argsort(values).tolist() == [4, 1, 2, 6, 5, 0, 3]
    assert argsort(values, descending=False).tolist() == [5, 1, 2, 6, 4, 0, 3]


def test_kinds_of_arrays() -> None:
    assert argsort([1, 3, 2]).tolist() == [1, 2, 0]
    assert argsort(torch.tensor([1.0, 3.0, 2.0], dtype=torch.bfloat16, requires_grad=True)).tolist() == [
        1,
        2,
        0,
    ]
    assert argsort(torch.arange(6).reshape(2, 3)[:, 1]).tolist() == [1, 0]
    read_only = np.arange(3.0)
    read_only.flags.writeable = False
    assert argsort(read_only).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((2, 2)), "values: 2 axes; must have one"),
        (torch.zeros(2, 2), "values: 2 axes; must have one"),
        (np.zeros(2, complex), "values: complex128; must be floats or integers of at most 64 bits"),
        (np.zeros(2, "M8[s]"), r"values: datetime64\[s\]; must be floats or integers"),
        ([[1], [1, 2]], "values: no array can be made of this list"),
        (np.ma.array([1, 2], mask=[0, 1]), r"values: .* \(1 of its 2 numbers are masked"),  # type: ignore[no-untyped-call]
        (torch.zeros(3).to(torch.float8_e4m3fn), "values: no array can be made of this Tensor"),
        (torch.zeros(3).to_sparse(), "values: no array can be made of this Tensor"),
        (["a"], "values: <U1; must be floats or integers"),
        (torch.zeros(2, dtype=torch.complex64), "values: complex64; must be floats or integers"),
    ],
)
def test_wrong_values(values: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        argsort(values)


def test_wrong_threads() -> None:
    with pytest.raises(ArgumentError, match="threads=0: must be at least 1"):
        argsort(np.zeros(2), threads=0)
    with pytest.raises(ArgumentError, match=r"threads=1\.5: must be an integer of at least 1"):
        argsort(np.zeros(2), threads=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [np.zeros(2), torch.zeros(2)])
def test_wrong_direction(values: Any) -> None:
    with pytest.raises(ArgumentError, match="descending='no': must be True or False"):
        argsort(values, descending="no")  # type: ignore[arg-type]


def test_native_refuses_other_dtypes_rather_than_copying() -> None:
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _C.argsort(np.zeros(3, np.float16), descending=True, threads=1)  # type: ignore[type-var]


def test_the_gil_is_released() -> None:
    values = random_values(4_000_000, "f8", "bits")

    def ticks() -> int:
        """How often this thread had its turn while another one sorted."""
        count, done = 0, threading.Event()

        def sort() -> None:
            argsort(values, threads=1)
            done.set()

        thread = threading.Thread(target=sort)
        thread.start()
        while not done.wait(0.001):
            count += 1
        thread.join()
        return count

    # With the lock held it never has, on a busy machine not every time.
    assert any(ticks() > 10 for _ in range(20))


def test_sorting_arrays_does_not_load_torch() -> None:
    code = "import sys, pyimportance; pyimportance.argsort([2, 1]); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
