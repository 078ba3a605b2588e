"""The ways to read the data that the runs compare: each gives a data set to train from, and its figures."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyimportance.account.baselines import VanillaDataset, spans
from pyimportance.account.report import IOReport
from pyimportance.demo.config import FIXED, LRU_SHARE, VANILLA, DemoConfig, parse_policy
from pyimportance.demo.source import Split
from pyimportance.io.cache import LRUCache
from pyimportance.io.meter import Meter
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.order.partition import partition
from pyimportance.score.tracker import Tracker
from pyimportance.score.values import Scores
from pyimportance.shards.writer import write_shards
from pyimportance.together import together
from pyimportance.train.controller import Controller


@dataclass(frozen=True)
class Place:
    """Where a rank of a run stands: the training samples, the ranks, and a folder that all ranks see."""

    config: DemoConfig
    train: Split
    folder: Path
    rank: int

    @property
    def num_samples(self) -> int:
        """Sample ids are below this."""
        return int(self.train.ids.max()) + 1


class Reader(Protocol):
    """A run's way to its data."""

    dataset: Any
    controller: Controller | None

    def figures(self) -> dict[str, float]:
        """This rank's bytes so far."""
        ...

    def close(self) -> None:
        """Removes what the run left on disk (collective)."""
        ...


def open_reader(policy: str, seed: int, place: Place) -> Reader:
    """The reader of a policy of ``DemoConfig.policies`` (collective)."""
    if policy in VANILLA:
        return VanillaReader(policy, seed, place)
    return ImportanceReader(policy, seed, place)


class VanillaReader:
    """A global reshuffle of the unordered source each epoch, with or without a cache per rank."""

    controller: Controller | None = None

    def __init__(self, policy: str, seed: int, place: Place) -> None:
        config, split = place.config, place.train
        self._cache: LRUCache | None = None
        if policy != "vanilla":
            sizes = spans(split.index)[1][split.index.rows_of(split.ids)]
            total = int(sizes.sum())
            capacity = total if policy == "vanilla-full" else int(LRU_SHARE * total / config.workers)
            path = place.folder / f"cache-{place.rank:03d}"
            self._cache = LRUCache(path, min(capacity, total), int(sizes.max()))
        self.dataset = VanillaDataset(
            split.index,
            rank=place.rank,
            world_size=config.workers,
            ids=split.ids,
            seed=seed,
            cache=self._cache,
        )

    def figures(self) -> dict[str, float]:
        report = self.dataset.io_report()
        return {
            "origin_bytes": report.bytes("origin"),
            "disk_bytes": report.bytes("cache"),
            "index_bytes": report.bytes("index"),
            "owned_bytes": 0 if self._cache is None else self._cache.nbytes,
            "repartition_bytes": 0,
        }

    def close(self) -> None:
        self.dataset.close()
        if self._cache is not None:
            self._cache.close()


class ImportanceReader:
    """A random partition written as shards, one worker per rank; except for random-fixed, a controller
    repartitions by what it observes."""

    def __init__(self, policy: str, seed: int, place: Place) -> None:
        config = place.config
        self._place, self._root = place, place.folder / "shards"
        self._fetched = self._write_shards(seed)
        self.dataset = ImportanceDataset(
            self._root,
            batch_size=config.batch_size,
            rank=place.rank,
            world_size=config.workers,
            seed=seed,
        )
        self.controller: Controller | None = None
        if policy != FIXED:
            name, options = parse_policy(policy)
            self.controller = Controller(
                Tracker(place.num_samples),
                self.dataset,
                config.schedule(),
                measure=config.measure,
                policy=name,
                seed=seed,
                **options,
            )

    def _write_shards(self, seed: int) -> Meter:
        """Rank 0 writes everybody's; each rank is charged for what was read for its worker."""
        config, train = self._place.config, self._place.train
        meters = [Meter() for _ in range(config.workers)]

        def write() -> list[Any]:
            if self._place.rank == 0:
                unscored = Scores(np.zeros(len(train.ids), np.float32), train.ids, measure="none")
                start = partition(unscored, config.workers, policy="random", bins=config.bins, seed=seed)
                write_shards(train.index, start, self._root, keys="prefix", meters=meters)
            return [meter.counts for meter in meters]

        return Meter(together(write, "writing the first shards")[0][self._place.rank])

    def figures(self) -> dict[str, float]:
        moved = Meter() if self.controller is None else self.controller.meter
        report = self.dataset.io_report().merge(IOReport.of(self._fetched, moved, rank=self._place.rank))
        owned = self.dataset.shards.index(self._place.rank)
        return {
            "origin_bytes": report.bytes("origin"),
            "disk_bytes": report.bytes("disk"),
            "index_bytes": report.bytes("index"),
            "owned_bytes": int(owned.nbytes.sum()),
            "repartition_bytes": moved.bytes("origin"),
        }

    def close(self) -> None:
        def remove() -> None:
            if self._place.rank == 0:
                shutil.rmtree(self._root)

        together(remove, "removing the run's shards")
