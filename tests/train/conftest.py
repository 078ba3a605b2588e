"""Shards to train on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from pyimportance import ShardSet, index, write_shards
from tests.train.alone import N, start


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    path = tmp_path / "source.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(N):
            member = tarfile.TarInfo(f"{i:04d}.txt")
            member.size = 100 * i
            tar.addfile(member, io.BytesIO(bytes(100 * i)))
    return write_shards(index(path), start(), tmp_path / "shards")
