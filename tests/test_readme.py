"""What the README tells people to write is run as it stands: the training loop, how to resume."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Scores, ShardSet, index, partition, write_shards
from tests import forked, readme_rank

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
N, EPOCHS = 400, 7


def recipe() -> str:
    """The loop, with the two statements that resume it where the README says that they belong."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (save,) = re.findall(r"save `(state = .*?)` after an epoch", README)
    (load,) = re.findall(r"call `(.*?)` before the loop", README)
    loop, end = r"(?m)^(for epoch in .*:)$", r"(?m)^(    controller\.end_epoch\(\).*)$"
    code, loops = re.subn(loop, rf"if state is not None:\n    {load}\n\1", code)
    code, ends = re.subn(end, rf"\1\n    {save}\n    keep(state)", code)
    assert (loops, ends) == (1, 1)
    return code


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A pruned data set for two workers: ids that are not 0..N-1."""
    with tarfile.open(tmp_path / "source.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for i in range(N):
            member = tarfile.TarInfo(f"{i:04d}.cls")
            member.size = 1
            tar.addfile(member, io.BytesIO(b"%d" % (i % 2)))
    odd = np.arange(1, N, 2)
    start = partition(Scores(np.zeros(len(odd), np.float32), odd), 2, policy="random")
    write_shards(index(tmp_path / "source.tar"), start, tmp_path / "start" / "shards")
    return tmp_path / "start"


def train(folder: Path, epochs: int, *, die_in: int | None = None) -> list[dict[str, Any]]:
    """Runs the recipe on two ranks, in ``folder``; what each saw, nothing where they were killed."""
    place = folder / f"until-{epochs}-{die_in}"
    ranks = [(rank, place, recipe(), epochs, die_in) for rank in range(2)]
    ends = forked.together(readme_rank.main, ranks, folder)
    killed = "exit code -9: "
    assert [end[: len(killed)] for end in ends] == ["" if die_in is None else killed] * 2, "\n".join(ends)
    if die_in is not None:
        return []
    return [json.loads(Path(f"{place}-{rank}.json").read_text()) for rank in range(2)]


def test_the_training_loop_and_how_to_resume_it(shards: Path, tmp_path: Path) -> None:
    """Killed after a repartition that came after the checkpoint; the new processes see what the old would."""
    shutil.copytree(shards, tmp_path / "other")
    whole = train(tmp_path / "other", EPOCHS)
    odd = list(range(1, N, 2))
    for epoch in map(str, range(EPOCHS)):
        assert sorted(i for rank in whole for batch in rank["seen"][epoch] for i in batch) == odd
    first, last = (ShardSet.open(tmp_path / "other" / "shards", generation=g) for g in (0, 3))
    assert (last.id_bound, last.num_samples) == (N, N // 2)
    assert (first.worker_of(np.array(odd)) != last.worker_of(np.array(odd))).any()

    train(shards, EPOCHS, die_in=4)
    assert ShardSet.open(shards / "shards").generation == 2  # epoch 3, the first after the state, made it
    resumed = train(shards, EPOCHS)
    for rank in range(2):
        assert list(resumed[rank]["seen"]) == ["3", "4", "5", "6"]
        assert whole[rank]["seen"].items() >= resumed[rank]["seen"].items()
        assert whole[rank]["generation"] == resumed[rank]["generation"] == [last.digest, "3"]
