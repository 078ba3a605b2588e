"""Shards in a bucket of Google Cloud Storage: its conditions name generations of objects, not tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyimportance import DataError, OutputError, ShardSet, compact, index, prune, repartition, write_shards
from pyimportance.io import remote, upload
from pyimportance.io.storage import open_file
from pyimportance.shards.generations import write_delta
from tests.gcs import Object, cloud_storage
from tests.shards.conftest import check_jobs_at_the_same_time, divide, tree
from tests.shards.stores import without_notes

pytestmark = pytest.mark.usefixtures("impatient")
URL = "gs://bucket/a folder/ä"
OPTIONS: Any = {"shard_bytes": 40_000}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Object]]:
    with cloud_storage() as (objects, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        remote._store.cache_clear()
        yield objects


def test_generations_are_those_of_a_folder(bucket: dict[str, Object], source: Path, tmp_path: Path) -> None:
    for path in source.glob("*.tar"):
        upload.put(f"gs://bucket/data/{path.name}", path.read_bytes())
    assert index("gs://bucket/data/*.tar").digest == index(source).digest
    plans = [divide(66, workers, 2, seed=workers) for workers in (3, 4)]
    made = []
    for out, data in ((URL, "gs://bucket/data/*.tar"), (tmp_path / "out", source)):
        first = write_shards(data, plans[0], out, **OPTIONS)
        second = repartition(first, plans[1])
        third = compact(second)
        write_delta(second, plans[0], 0)  # and is never finished
        if out == URL:
            with pytest.raises(OutputError, match="generation 3 is unfinished"):
                prune(third)
        made.append([second.digest, third.digest])
        assert prune(third, abandon=[3]).generations == (0, 1)
    assert made[0] == made[1]
    left = {name: size for name, size in upload.below(URL).items() if size}
    assert {*without_notes(dict.fromkeys(left, ""))} == {*without_notes(tree(tmp_path / "out"))}
    lost = ShardSet.open(URL).manifest.indexes[1].path
    upload.delete([f"{URL}/{lost}", f"{URL}/{lost}"])
    assert ShardSet.open(URL).repair(partition=plans[1]).repaired == (lost,)
    assert ShardSet.open(URL).verify().ok


def test_jobs_at_the_same_time(bucket: dict[str, Object], source: Path) -> None:
    check_jobs_at_the_same_time(source, URL)


def test_an_object_that_changes(bucket: dict[str, Object]) -> None:
    upload.put("gs://bucket/changes", b"old")
    with open_file("gs://bucket/changes") as file:
        upload.put("gs://bucket/changes", b"new")
        with pytest.raises(DataError, match=r"/changes, offset 0: was changed while it was being read"):
            file.pread(0, 1)
    with pytest.raises(DataError, match=r"^gs://bucket/none: does not exist"):
        open_file("gs://bucket/none")
