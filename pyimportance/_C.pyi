"""Stub of the compiled module; sections mirror csrc/."""

from typing import Any

# tar
def crc32c(data: Any, crc: int = 0, *, hardware: bool = True) -> int: ...
