"""Shards to train on."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pyimportance import Scores, ShardSet, index, partition, write_shards
from tests.train.alone import N


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    path = tmp_path / "source.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(N):
            member = tarfile.TarInfo(f"{i:04d}.txt")
            member.size = 100 * i
            tar.addfile(member, io.BytesIO(bytes(100 * i)))
    start = partition(Scores(np.zeros(N, np.float32)), 2, policy="random", bins=2)
    return write_shards(index(path), start, tmp_path / "shards")
