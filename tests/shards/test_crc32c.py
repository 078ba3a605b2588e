"""CRC32C: known values, and the instruction against the tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import _C
from pyimportance._C import crc32c, crc32c_of_file

# RFC 3720, B.4, and the check value of the catalogue of CRCs.
KNOWN = [
    (b"", 0x00000000),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
]


@pytest.mark.parametrize("hardware", [True, False])
@pytest.mark.parametrize(("data", "expected"), KNOWN)
def test_known_values(data: bytes, expected: int, hardware: bool) -> None:
    assert crc32c(data, hardware=hardware) == expected


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 4097, 12_287, 12_288, 12_289, 99_999])
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_instruction_and_tables_agree(size: int, shift: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size + shift, dtype=np.uint8)[shift:]
    assert crc32c(data) == crc32c(data, hardware=False)
    half = size // 2
    assert crc32c(data[half:], crc32c(data[:half])) == crc32c(data)


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 12_287, 24_577, 1 << 20])
def test_google_sums_the_same(size: int) -> None:
    """What its stores keep of every object; `pip install google-crc32c`."""
    google = pytest.importorskip("google_crc32c", reason="google-crc32c is not installed")
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data) == google.value(data)


def test_of_a_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes((1 << 20) + 17)
    (tmp_path / "data").write_bytes(data)
    fd = os.open(tmp_path / "data", os.O_RDONLY)
    assert crc32c_of_file(fd, len(data)) == (crc32c(data), len(data), 2)
    os.close(fd)


def test_refuses_what_is_not_contiguous() -> None:
    with pytest.raises(BufferError, match="contiguous"):
        crc32c(np.zeros(10, np.uint8)[::2])


@pytest.mark.parametrize(
    "sizes", [[], [0], [3] * 2000, [700_000] * 3, [1 << 20, 0, 5, 300_000, 262_144 - 512, 9]]
)
def test_a_tar_is_summed_while_it_is_scanned(sizes: list[int], tmp_path: Path, write_tar: Any) -> None:
    """Read once, whatever is skipped of it; the samples are those that scanning finds."""
    rng = np.random.default_rng(0)
    path = write_tar(tmp_path / "a.tar", [(f"{i:05d}.x", rng.bytes(n)) for i, n in enumerate(sizes)])
    data = path.read_bytes()
    with open(path, "rb") as file:
        opened = (file.fileno(), len(data), "a.tar")
        ((summed, read, requests, found, problem),) = _C.tar_sum_and_scan([opened])
        plain, samples = _C.tar_scan([opened], False, -1)
    assert (summed, read, problem) == (crc32c(data), len(data), None)
    assert requests <= 3 * len(sizes) + len(data) // (200 << 10) + 1
    assert samples.tolist() == [len(sizes)]
    assert found is not None
    for name in ("key_offsets", "key_text", "offset", "nbytes", "part_start", "part_offset", "part_size"):
        assert np.array_equal(found[name], plain[name]), name  # type: ignore[literal-required]
    at = 10 if sizes else len(data) - 1
    path.write_bytes(data[:at] + b"!" + data[at + 1 :])
    with open(path, "rb") as file:
        ((summed, read, _, found, problem),) = _C.tar_sum_and_scan([(file.fileno(), len(data), "a.tar")])
    assert (summed, read, found) == (crc32c(path.read_bytes()), len(data), None)
    assert problem is not None
    assert problem[2] == (0 if sizes else at)
