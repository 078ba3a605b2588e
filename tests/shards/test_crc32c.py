"""CRC32C: known values, and the instruction against the tables."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 4097])
@pytest.mark.parametrize("shift", [0, 1, 5])
def test_instruction_and_tables_agree(size: int, shift: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size + shift, dtype=np.uint8)[shift:]
    assert crc32c(data) == crc32c(data, hardware=False)
    half = size // 2
    assert crc32c(data[half:], crc32c(data[:half])) == crc32c(data)


def test_of_a_file(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes((1 << 20) + 17)
    (tmp_path / "data").write_bytes(data)
    fd = os.open(tmp_path / "data", os.O_RDONLY)
    assert crc32c_of_file(fd, len(data)) == (crc32c(data), len(data), 2)
    os.close(fd)


def test_refuses_what_is_not_contiguous() -> None:
    with pytest.raises(BufferError, match="contiguous"):
        crc32c(np.zeros(10, np.uint8)[::2])
