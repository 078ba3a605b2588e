"""The ways to read the data that the runs compare: each gives a data set to train from, and its figures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pyimportance.account.baselines import VanillaDataset, spans
from pyimportance.account.lru_cache import LRUCache
from pyimportance.account.report import IOReport
from pyimportance.demo.config import FIXED, LRU_SHARE, VANILLA, DemoConfig, parse_policy
from pyimportance.demo.source import Split
from pyimportance.io.meter import Meter
from pyimportance.load.dataset import ImportanceDataset
from pyimportance.order.partition import partition
from pyimportance.order.values import Partition
from pyimportance.score.tracker import Tracker
from pyimportance.score.values import Scores
from pyimportance.shards.manifest import worker_directory
from pyimportance.shards.writer import write_shards
from pyimportance.together import together
from pyimportance.train.controller import Controller
from pyimportance.train.observer import Observer


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

    @property
    def dataset(self) -> Any:
        """What the coming epoch is read from."""
        ...

    @property
    def observers(self) -> Sequence[Observer]:
        """Those that watched the run so far; the last is to be told of the coming epoch."""
        ...

    def end_epoch(self) -> None:
        """Ends the epoch (collective)."""
        ...

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
    if policy != FIXED and place.config.schedule().reshuffles(0):
        return WarmedUpReader(policy, seed, place)
    return ImportanceReader(policy, seed, place)


class VanillaReader:
    """A global reshuffle of the unordered source each epoch, with or without a cache per rank."""

    observers: Sequence[Observer] = ()

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

    def end_epoch(self) -> None:
        pass

    def figures(self) -> dict[str, float]:
        report = self.dataset.io_report()
        held = 0 if self._cache is None else self._cache.nbytes
        return {
            "origin_bytes": report.bytes("origin"),
            "disk_bytes": report.bytes("cache"),
            "index_bytes": report.bytes("index"),
            "owned_bytes": held,
            "stored_bytes": held,
            "repartition_bytes": 0,
        }

    def close(self) -> None:
        self.dataset.close()
        if self._cache is not None:
            self._cache.close()


class ImportanceReader:
    """Shards, one worker per rank; except for random-fixed, a controller repartitions by what it observes.

    They begin as a random partition or, where a warm-up was ``tracked`` and gave ``scores``, as the first
    one by the policy.
    """

    def __init__(
        self,
        policy: str,
        seed: int,
        place: Place,
        *,
        tracked: Tracker | None = None,
        scores: Scores | None = None,
    ) -> None:
        config, ids = place.config, place.train.ids
        self._place, self._root = place, place.folder / "shards"
        name, options = ("random", {}) if policy == FIXED else parse_policy(policy)
        index = place.train.index
        shared: dict[str, Any] = {
            "bins": config.bins,
            "seed": seed,
            "sizes": index.nbytes[index.rows_of(ids)],
        }
        if scores is None:
            unscored = Scores(np.zeros(len(ids), np.float32), ids, measure="none")
            first = partition(unscored, config.workers, policy="random", **shared)
        else:
            first = partition(scores, config.workers, policy=name, **shared, **options)
        self._fetched = self._write_shards(first)
        self.dataset = ImportanceDataset(
            self._root,
            batch_size=config.batch_size,
            rank=place.rank,
            world_size=config.workers,
            seed=seed,
        )
        self.controller: Controller | None = None
        if policy != FIXED:
            self.controller = Controller(
                config.tracker(place.num_samples) if tracked is None else tracked,
                self.dataset,
                config.schedule(),
                **config.scoring,
                policy=name,
                seed=seed,
                epoch=0 if tracked is None else config.warmup,
                **options,
            )

    @property
    def observers(self) -> Sequence[Observer]:
        return () if self.controller is None else (self.controller,)

    def _write_shards(self, first: Partition) -> Meter:
        """Rank 0 writes everybody's; each rank is charged for what was read for its worker."""
        meters = [Meter() for _ in range(first.workers)]

        def write() -> list[Any]:
            if self._place.rank == 0:
                write_shards(self._place.train.index, first, self._root, keys="prefix", meters=meters)
            return [meter.counts for meter in meters]

        return Meter(together(write, "writing the first shards")[0][self._place.rank])

    def end_epoch(self) -> None:
        if self.controller is not None:
            self.controller.end_epoch()

    def figures(self) -> dict[str, float]:
        moved = Meter() if self.controller is None else self.controller.meter
        report = self.dataset.io_report().merge(IOReport.of(self._fetched, moved, rank=self._place.rank))
        owned = self.dataset.shards.index(self._place.rank)
        tars = (self._root / worker_directory(self._place.rank)).glob("*.tar")
        return {
            "origin_bytes": report.bytes("origin"),
            "disk_bytes": report.bytes("disk"),
            "index_bytes": report.bytes("index"),
            "owned_bytes": int(owned.nbytes.sum()),
            "stored_bytes": sum(tar.stat().st_size for tar in tars),
            "repartition_bytes": moved.bytes("origin"),
        }

    def close(self) -> None:
        def remove() -> None:
            if self._place.rank == 0:
                shutil.rmtree(self._root)

        together(remove, "removing the run's shards")


class WarmedUpReader:
    """The warm-up as published: global reshuffles of the source, and shards once its scores say whose."""

    def __init__(self, policy: str, seed: int, place: Place) -> None:
        config = place.config
        self._policy, self._seed, self._place = policy, seed, place
        self._warmup = VanillaReader("vanilla", seed, place)
        tracker = config.tracker(place.num_samples)
        self._observer = Observer(tracker, config.schedule(), **config.scoring)
        self._after: ImportanceReader | None = None

    @property
    def dataset(self) -> Any:
        return (self._after or self._warmup).dataset

    @property
    def observers(self) -> Sequence[Observer]:
        return (self._observer, *(() if self._after is None else self._after.observers))

    def end_epoch(self) -> None:
        if self._after is not None:
            self._after.end_epoch()
            return
        ended = self._observer.epoch
        self._observer.commit()
        if self._observer.schedule.repartitions_after(ended):
            self._warmup.close()
            scores = self._observer.score(self._place.train.ids)
            self._after = ImportanceReader(
                self._policy, self._seed, self._place, tracked=self._observer.tracker, scores=scores
            )

    def figures(self) -> dict[str, float]:
        warmup = self._warmup.figures()
        after = {} if self._after is None else self._after.figures()
        return {name: count + after.get(name, 0) for name, count in warmup.items()}

    def close(self) -> None:
        self._warmup.close()
        if self._after is not None:
            self._after.close()
