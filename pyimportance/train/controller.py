"""Controller: observe -> score -> partition -> repartition, inside an ordinary training loop."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError, PyimportanceError
from pyimportance.io.meter import Meter
from pyimportance.order.checks import check_classes, check_groups
from pyimportance.order.partition import partition
from pyimportance.order.policies.registry import resolve
from pyimportance.order.values import Partition
from pyimportance.shards.generations import commit_generation
from pyimportance.shards.shard_set import ShardSet
from pyimportance.together import rank_and_size, together
from pyimportance.train.checks import check_capacity_of
from pyimportance.train.moves import Holdings, holdings, write_deltas
from pyimportance.train.observer import Observer
from pyimportance.train.recipe import check_same, recipe
from pyimportance.train.schedule import Schedule

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, NDArray

    from pyimportance.account.report import IOReport
    from pyimportance.load.dataset import ImportanceDataset
    from pyimportance.score.tracker import Tracker
    from pyimportance.score.values import Scores


class Controller(Observer):
    """Feeds what training shows about the samples back into where they lie.

    ::

        controller = Controller(tracker, dataset, Schedule(warmup=2, interval=2), policy="sticky", k=16)
        for epoch in range(epochs):
            dataset.set_epoch(epoch)
            for batch in loader:
                ...  # forward, backward, step
                controller.observe(batch["__index__"], logits, batch["cls"], mask=~batch["__pad__"])
            controller.end_epoch()

    Under ``torch.distributed`` every rank has one, and ``end_epoch`` is collective. Where the schedule says
    so it scores the samples of the data set, divides them anew (every rank computes the same partition), has
    each rank write the delta shards of its own workers, commits the new generation on rank 0, and switches
    the data set to it. The shards' folder must be one that all ranks see. A failure on any rank is raised on
    all of them. Until the commit it leaves the generation before it in place, and :meth:`repartition` can be
    called again. After it, the new generation is on disk while the data sets may still read the old one;
    ``dataset.set_shards(dataset.shards.root)`` on every rank takes it up.

    With ``Schedule(warmup_on="vanilla")`` the warm-up reads the unordered source, dealt anew over the ranks
    each epoch (:class:`pyimportance.VanillaDataset` does; the tracker does not care which rank observes a
    sample), and there need be no shards before it has shown how to divide the samples::

        for epoch in range(schedule.warmup):
            ...  # tracker.observe(...) of every batch, tracker.end_epoch()
        if rank == 0:
            write_shards(source, partition(score(tracker.dynamics()), workers), "shards")
        dist.barrier()
        dataset = ImportanceDataset("shards")
        controller = Controller(tracker, dataset, schedule, epoch=schedule.warmup)

    Where there are shards, the loop may as well read the warm-up from a loader of its own
    (``schedule.reshuffles(epoch)`` says when), and the controller repartitions after it.

    Training resumes from :meth:`state_dict`, which a new process loads into objects made alike.

    Args:
        tracker: counts ids as the shards do: ``num_samples`` is above the highest.
        dataset: holds the current generation in ``shards`` and takes the next by ``set_shards``.
        schedule: which epochs are observed and which end with a repartition.
        measure, measure_options: what to score by, see :func:`pyimportance.score`.
        policy, options: see :func:`pyimportance.partition`. Samples stay where they are as far as the policy
            allows.
        bins: per worker; None keeps the number the shards have.
        capacity: of each worker, numbers >= 0, where machines are unequal: samples are divided in proportion
            to it. Where ranks differ by it the data set needs ``equalize="batch"``, which makes their batches
            as unequal and their number the same.
        classes: of each sample, integers [tracker.num_samples] by sample id: the policy runs inside each
            class.
        seed: of the partition.
        decay: None scores by all epochs observed so far; a factor below 1 fades them at each repartition that
            succeeds, 0 scores by the last interval alone, as published.
        group: the process group; None is the default one.
        epoch: the epoch to begin with, where the ones before were observed without a controller.

    Attributes:
        epoch: the running epoch, from 0; after ``end_epoch``, the next one.
        samples: sample observations passed to ``observe``, padding included.
        observe_seconds, commit_seconds: spent in ``observe`` (on CUDA: launching it), in committing epochs.
        repartition_seconds: spent in scoring, partitioning and moving samples.
        repartitions: how many there were.
        scores: what the last partition went by; None before the first. Their metadata says where the measure
            had to fall back to another.
        meter: what repartitions read for this rank: tier "origin" for samples that moved here, "index" for
            manifests, for indexes of its workers that the data set has not read, and for what other ranks
            told it of theirs.

    Raises:
        ArgumentError: a policy, measure or option that does not exist or has a value that is not allowed, a
            measure that needs what the tracker does not record or more observations than the schedule makes
            before it asks for scores, a decay outside 0..1, too few bins, a capacity or classes that do not
            fit the shards or the tracker, a capacity that the data set's ranks cannot follow, a negative seed
            or epoch, a tracker for fewer samples than the shards' ids ask for.
    """

    def __init__(
        self,
        tracker: Tracker,
        dataset: ImportanceDataset,
        schedule: Schedule,
        *,
        measure: str = "loss_mean",
        measure_options: Mapping[str, Any] | None = None,
        policy: str = "sticky",
        bins: int | None = None,
        capacity: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        seed: int = 0,
        decay: float | None = None,
        group: torch.distributed.ProcessGroup | None = None,
        epoch: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            tracker,
            schedule,
            measure=measure,
            measure_options=measure_options,
            decay=decay,
            group=group,
            epoch=epoch,
        )
        _, _, policy_text = resolve(policy, options)  # now, not after the warm-up
        if bins is not None:
            check_groups(dataset.shards.workers, bins)
        self.dataset, self.policy, self.options = dataset, policy, options
        self.bins, self.seed = bins, check_integer("seed", seed, 0)
        self.capacity = check_capacity_of(dataset, capacity)
        self.classes = None if classes is None else check_classes(classes, tracker.num_samples)
        self.repartition_seconds = 0.0
        self.repartitions = 0
        self.meter = Meter()
        self._held: Holdings | None = None
        self.scores: Scores | None = None
        given = {name: self._resolved[name] for name in self.measure_options}
        self._recipe = recipe(
            measure,
            given,
            schedule,
            policy=policy_text,
            bins=bins,
            capacity=self.capacity,
            classes=self.classes,
            seed=self.seed,
            decay=decay,
        )
        self._read = dataset.io_report().bytes("disk")  # before the epoch
        self._check_bound()

    def io_report(self) -> IOReport:
        """What this rank read: the data set's counts and ``meter``, that is, with what moved here."""
        from pyimportance.account.report import IOReport

        mine = IOReport.of(self.meter, rank=self.dataset.rank)
        return self.dataset.io_report().merge(mine)

    def end_epoch(self) -> ShardSet | None:
        """Commits the epoch; where it is time, repartitions and returns the new generation (collective).

        Warns where the schedule wants the epoch reshuffled and the data set was read instead.
        """
        epoch = self.epoch
        self._check_warmup()
        self.commit()
        return self.repartition() if self.schedule.repartitions_after(epoch) else None

    def state_dict(self, *, batches: int | None = None) -> dict[str, Any]:
        """What training goes on from, beside the model's state: a dict that torch.load reads by default.

        After ``end_epoch`` it is the same on every rank, and a job of another number of ranks can load it.
        Within an epoch every rank saves its own, as each knows what it observed; ``batches``: how many of the
        epoch the loop has consumed, see :meth:`ImportanceDataset.state_dict`. ``meter`` and the other counts
        are not part of it.
        """
        if self.dataset.epoch == self.epoch:
            position = self.dataset.state_dict(batches=batches)
        elif batches is None:
            position = self.dataset.state_dict(epoch=self.epoch)
        else:
            raise ArgumentError(
                f"batches={batches}: of epoch {self.epoch}, but the data set reads {self.dataset.epoch}"
            )
        return {
            "version": 1,
            "recipe": self._recipe,
            "dataset": position,
            "tracker": self.tracker.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where :meth:`state_dict` was taken, with the epochs from ``epoch`` on (collective).

        The data set reads the generation of that time, whatever was committed since. A repartition that comes
        out as it did then finds its generation written; any other gets a number of its own. Raises
        ArgumentError for a state of other data or settings (only the schedule's total may differ), DataError
        where its generation is gone; then all ranks raise, and what was loaded before stays loaded.
        """

        def load() -> object:
            try:
                version, position, tracker = state["version"], state["dataset"], state["tracker"]
                saved = state["recipe"]
            except (KeyError, TypeError) as error:
                raise ArgumentError(f"state: not a state of Controller ({error!r})") from None
            if version != 1:
                raise ArgumentError(f"state: version {version!r}; this release reads 1")
            check_same(saved, self._recipe)
            self.dataset.load_state_dict(position)
            self._check_bound()
            self.tracker.load_state_dict(tracker)
            self.epoch = self.dataset.epoch
            return position

        positions = together(load, "loading the state", self.group)
        if any(position != positions[0] for position in positions):
            raise PyimportanceError("the ranks loaded states of different positions; give them those of one")

    def repartition(self) -> ShardSet:
        """Scores, partitions and moves samples now, whatever the schedule says (collective)."""
        start = time.perf_counter()
        old = self.dataset.shards
        rank, _ = rank_and_size(self.group)
        rank_of = self._look(old)
        plan = self._agreed_plan(old)
        records = write_deltas(old, plan, rank_of, self.meter, self.group)

        def commit() -> None:
            if rank == 0:
                commit_generation(old, plan, records, meter=self.meter)

        together(commit, "committing the generation", self.group)
        opened: list[ShardSet] = []

        # Opened everywhere before anyone switches: what one rank cannot open, none reads.
        def open_new() -> None:
            opened.append(ShardSet.open(old.root, generation=records[0].generation, meter=self.meter))

        together(open_new, "opening the generation", self.group)
        (new,) = opened
        together(lambda: self.dataset.set_shards(new), "switching to the generation", self.group)
        assert self._held is not None
        # The plan says who holds what now: nobody needs to be told again.
        self._held = replace(self._held, digest=new.digest, workers=plan.worker_of(self._held.ids))
        if self.decay is not None:  # only now: a repartition that failed can be tried again, with all it knew
            self.tracker.dynamics(reset=self.decay == 0, decay=self.decay or None)
        self.repartitions += 1
        self.repartition_seconds += time.perf_counter() - start
        return new

    def _check_warmup(self) -> None:
        before, self._read = self._read, self.dataset.io_report().bytes("disk")
        if self.schedule.reshuffles(self.epoch) and self._read > before:
            warnings.warn(
                f"epoch {self.epoch} is one of a warm-up on global reshuffles (warmup_on='vanilla'), but "
                "read this rank's own shards: read such epochs from a VanillaDataset, or warm up on 'local'",
                stacklevel=3,
            )

    def _check_bound(self) -> None:
        bound, have = self.dataset.shards.id_bound, self.tracker.num_samples
        if bound > have:
            raise ArgumentError(
                f"tracker: has num_samples={have}, but the shards hold sample {bound - 1}; "
                f"make it {bound} or more"
            )

    def _look(self, old: ShardSet) -> NDArray[np.int64]:
        """int64 [workers]: the rank each worker is a matter of. After it, all ranks know who holds what."""
        known = self._held is not None and self._held.digest == old.digest
        home = self.dataset.home
        told = together(
            lambda: (old.digest, (home.start, home.stop), known), "looking at the shards", self.group
        )
        if len({digest for digest, _, _ in told}) > 1:
            raise PyimportanceError("the ranks read different generations; give their data sets the same one")
        rank_of = np.arange(old.workers, dtype=np.int64) % len(told)  # but for those that somebody reads
        for rank, (_, (first, end), _) in reversed(list(enumerate(told))):
            rank_of[first:end] = rank
        if not all(known for _, _, known in told):
            self._held = holdings(old, rank_of, self.meter, self.group)
        return rank_of

    def _agreed_plan(self, old: ShardSet) -> Partition:
        plans: list[Partition] = []

        def digest() -> str:
            plans.append(self._plan(old))
            state = hashlib.sha256(plans[0].order.tobytes())
            state.update(plans[0].offsets.tobytes())
            return state.hexdigest()

        digests = together(digest, "scoring and partitioning", self.group)
        if len(set(digests)) > 1:
            raise PyimportanceError(
                "the ranks computed different partitions: their trackers do not hold the same state"
            )
        return plans[0]

    def _plan(self, old: ShardSet) -> Partition:
        """The next partition of the samples that the shards hold, and of no others."""
        held = self._held
        assert held is not None
        self.scores = self.score(held.ids)
        return partition(
            self.scores,
            old.workers,
            policy=self.policy,
            bins=old.bins if self.bins is None else self.bins,
            seed=self.seed,
            current=held.workers,
            sizes=held.sizes,
            classes=None if self.classes is None else self.classes[held.ids],
            capacity=self.capacity,
            **self.options,
        )
