"""The README's training loop is run as it stands, on shards of a pruned data set."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pyimportance import Scores, ShardSet, index, partition, write_shards

README = Path(__file__).parent.parent / "README.md"
N = 400


def decode(samples: list[dict[str, Any]]) -> tuple[Any, ...]:
    """(ids, inputs, targets, pad) of a batch."""
    ids = np.array([s["__index__"] for s in samples])
    targets = torch.tensor([int(s["cls"]) for s in samples])
    pad = torch.tensor([s["__pad__"] for s in samples])
    return ids, torch.from_numpy(ids)[:, None].float(), targets, pad


def test_the_training_loop_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(tmp_path / "source.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(N):
            member = tarfile.TarInfo(f"{i:04d}.cls")
            member.size = 1
            tar.addfile(member, io.BytesIO(b"%d" % (i % 2)))
    odd = np.arange(1, N, 2)
    start = partition(Scores(np.zeros(len(odd), np.float32), odd), 2, policy="random")
    write_shards(index(tmp_path / "source.tar"), start, tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"DataLoader": DataLoader, "decode": decode, "epochs": 3}
    names["model"] = torch.nn.Linear(1, 2)
    exec(compile(code, str(README), "exec"), names)
    shards = ShardSet.open("shards")
    assert (shards.id_bound, shards.num_samples, shards.generation) == (N, N // 2, 1)
    report = names["controller"].io_report()
    assert report.bytes("origin") == names["controller"].meter.bytes("origin") > 0
    assert "origin" in str(report)
