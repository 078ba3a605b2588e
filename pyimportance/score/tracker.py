"""Tracker: watches training and keeps, for every sample, what the measures need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from os import PathLike
from typing import Any, Literal

import numpy as np

from pyimportance.checks import check_fraction, check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import checkpoint, state
from pyimportance.score.batch import kind_of
from pyimportance.score.dynamics import Dynamics
from pyimportance.score.engine import engine
from pyimportance.score.exchange import Header, exchange
from pyimportance.score.kept import Kept
from pyimportance.score.progress import Progress
from pyimportance.together import rank_and_size, together

NonFinite = Literal["raise", "skip"]
_KINDS = ("", *state.KINDS)  # by number, as ranks exchange it


class Tracker:
    """Training dynamics of N samples, as they happen.

        tracker = Tracker(num_samples)
        for epoch in range(epochs):
            for ids, images, targets in loader:
                logits = model(images)
                tracker.observe(ids, logits, targets)
                ...
            tracker.end_epoch()
        scores = score(tracker.dynamics(), "loss_mean")

    num_samples  N; sample ids are 0..N-1
    device       where the state lives: "cpu", "cuda" or "cuda:N". On a device, where batches are then best,
                 too, observing waits for nothing; what is wrong with an entry is raised by what next reads
                 the state (end_epoch, dynamics, state_dict, merge); it is left out, others are recorded.
                 All of it is enqueued on the stream that is current: before the state is read, its stream
                 must wait for those that observed (torch.cuda.current_stream().wait_stream(side)). Observing
                 can be captured in a CUDA graph, once a call like it outside of the graph had a row, masked
                 out or not: that loads the kernels, which a batch of no rows does not need
    history      "memory", or the path of a directory: keeps every epoch's rows as well, 32 bytes a sample and
                 epoch. The directory must be empty, unless load_state_dict continues the run that filled it
    first_epoch  the number of the first epoch that this tracker will commit. A tracker that continues another
                 one's run says so here, so that the two can be merged

    An epoch's observations wait in a buffer, in which the first one of a sample stands, until `end_epoch`
    folds them into running statistics. A tracker is given logits, logits with features,
    or losses: one of the three.

    Logits are summed in single precision with compensation, on any device: an observation's loss, 1 - p_y
    and EL2N are within 1e-6 relative of the exact ones, its entropy within 1e-6 of 1 + itself, and so a
    standard deviation of losses below 1e-6 of their mean is noise. All that follows is in double precision.

    One thread at a time: calls from several threads need a lock of the caller's.

    Memory: 32 bytes a sample for the epoch in progress (on a device 36, with who claims a sample), 105 for
    the statistics (losses only: 28, with features: 113), and 16 more once `dynamics(decay=...)` was called.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        device: str = "cpu",
        history: str | PathLike[str] | None = None,
        first_epoch: int = 0,
    ) -> None:
        self._num_samples = check_integer("num_samples", num_samples, 1)
        first = check_integer("first_epoch", first_epoch, 0)
        self._progress = Progress(first_epoch=first, epochs=0, start=first)
        self._engine = engine(device, self._num_samples)
        self._kept = Kept(history, self._num_samples)
        self._open = False  # whether observing was called in the epoch in progress

    @property
    def num_samples(self) -> int:
        """N."""
        return self._num_samples

    @property
    def epochs(self) -> int:
        """Epochs committed so far."""
        return self._progress.epochs

    @property
    def _in_progress(self) -> bool:
        """Whether anything was observed since the last epoch: a graph's replays only the engine knows of."""
        return self._open or self._engine.begun()

    @property
    def recordable(self) -> tuple[str, ...]:
        """What `dynamics` can come to hold, by the names of what measures need: the quantities of the kind of
        observation that this tracker was given (before the first, of any kind), "history" where it is kept,
        and "classes" where all logits are of one number of classes.
        """
        known = self._progress
        quantities = known.quantities if known.kind else tuple(state.QUANTITIES)
        kept = ("history",) if self._kept else ()
        return quantities + kept + (("classes",) if known.classes > 1 or not known.kind else ())

    @property
    def skipped(self) -> int:
        """Observations left out because they were not finite, up to now (after `end_epoch`: of all ranks)."""
        return self._progress.skipped + self._engine.skipped

    def observe(
        self,
        ids: Any,
        logits: Any,
        targets: Any,
        *,
        features: Any = None,
        mask: Any = None,
        ignore_index: int | None = None,
        nonfinite: NonFinite = "raise",
    ) -> None:
        """Record a batch: loss, margin, EL2N, entropy, correctness and, with features, GraNd of every sample;
        of sequences of tokens the mean loss.

        ids           [B] integers, sample ids
        logits        [B, C], or [B, T, V] of sequences; floating point, NumPy or torch. float32, float16 and
                      bfloat16 are read as they are, without a copy where the classes of a row are adjacent;
                      other types become float32 (float64 beyond its range is infinite, and so not finite).
                      Tensors elsewhere are copied to the tracker's device
        targets       [B], or [B, T], integers of any width, 0..C-1
        features      [B, D], the last layer's input, of the types of logits; with every batch of logits
                      [B, C], or with none
        mask          [B] booleans: where False, the entry is padding, and nothing of it is looked at
        ignore_index  the target of what is not observed: of a sample, or of a token of a sequence
        nonfinite     a NaN or +inf logit, an infinite loss (a target's logit of -inf; other classes may have
                      it), features that are not finite, a sequence of which no token is observed: "raise",
                      or "skip" and count in `skipped`

        A sequence is recorded as by `observe_loss`, with the mean of -log p over its tokens in nats. Of
        several observations of a sample in one epoch the first stands. Takes no part in autograd. Raises
        ArgumentError naming the entry or the sample; then nothing of the batch has been recorded.
        """
        kind, given = kind_of(logits, features)
        skip = self._begin(kind, nonfinite)
        classes = self._engine.observe(ids, given, targets, features, mask, ignore_index, skip)
        self._progress, self._open = self._progress.observed(kind, classes), True

    def observe_loss(self, ids: Any, loss: Any, mask: Any = None, *, nonfinite: NonFinite = "raise") -> None:
        """Record losses [B] alone (regression, language models); the rest as in `observe`."""
        skip = self._begin("loss", nonfinite)
        self._engine.observe_loss(ids, loss, mask, skip)
        self._progress, self._open = self._progress.observed("loss"), True

    def _begin(self, kind: str, nonfinite: str) -> bool:
        if nonfinite not in ("raise", "skip"):
            raise ArgumentError(f'nonfinite={nonfinite!r}: must be "raise" or "skip"')
        self._kept.claim()
        if (before := self._progress.kind) not in ("", kind):
            raise ArgumentError(f"this tracker has been given {before}, now {kind}; it takes one kind")
        return nonfinite == "skip"

    def end_epoch(self, group: Any = None) -> None:
        """Commit the epoch: fold its observations into the statistics.

        Where torch.distributed is initialised this is collective over ``group`` (default: all ranks): the
        ranks exchange the epoch's rows, 40 bytes a sample, so that all hold the same state, bit for bit. It
        is also that of one process that saw everything, bit for bit where all processors have the same
        instruction set, else but for rounding. Samples may change rank from epoch to epoch; of one seen by
        several ranks in an epoch, the lowest rank's observation stands.

        Raises ArgumentError, on every rank, where ranks differ in num_samples, epoch or kind of observation,
        and OutputError where the history cannot be written on any of them; then nothing has changed on any,
        and end_epoch can be called again.
        """
        epoch = self._progress.end
        together(self._check, "end_epoch: a check before it", group)
        if rank_and_size(group)[1] > 1:
            self._exchange(epoch, group)
        else:
            self._write(epoch)
        self._engine.fold(epoch, self._progress.quantities)
        self._progress = self._progress.ended(self._engine.skipped)
        self._engine.skipped, self._open = 0, False

    def _exchange(self, epoch: int, group: Any) -> None:
        """All ranks' rows here, and in the history; or everything as before, on all ranks."""
        before = self._progress, self._engine.skipped
        known = self._progress
        mine = Header(self._num_samples, epoch, _KINDS.index(known.kind), known.classes)
        done = exchange(self._engine, mine, group)
        self._progress = replace(known, kind=_KINDS[done.kind], classes=done.classes)
        self._engine.skipped = done.skipped
        try:
            together(lambda: self._write(epoch), "end_epoch: writing the history", group)
        except BaseException:
            self._engine.replace([done.own])
            self._progress, self._engine.skipped = before
            raise

    def _write(self, epoch: int) -> None:
        if self._kept:
            self._kept.write(epoch, self._engine.rows())

    def _check(self) -> None:
        self._engine.check()
        self._kept.claim()

    def dynamics(self, reset: bool = False, decay: float | None = None) -> Dynamics:
        """The statistics of the committed epochs (a copy; the epoch in progress is not in it).

        reset  begin a new interval after it: later dynamics cover the epochs from here on only
        decay  0 < decay <= 1: from here on, everything so far weighs ``decay`` times as much as it did. An
               observation of k such calls ago weighs decay^k in all means and variances (there E is Kish's
               effective number of observations). Counts of events (correct, forgotten, first learned) stay
               whole
        """
        if decay is not None:
            decay = check_fraction("decay", decay, positive=True)
            if reset:
                raise ArgumentError(f"decay={decay}: must not come with reset=True")
        self._engine.check()
        known = self._progress
        history = self._kept.history(range(known.start, known.end), known.quantities)
        live = self._engine.columns()
        columns = {name: column.copy() for name, column in live.items() if name != "ends"}
        if "correct" in columns:  # the fold numbers epochs from the run's first; an interval, from its own
            columns["first_learned"] -= np.where(columns["correct"] > 0, known.start, 0).astype(np.int32)
        classes = known.classes if known.classes > 0 else None
        epochs = known.end - known.start
        snapshot = Dynamics(epochs=epochs, history=history, keys=None, classes=classes, **columns)
        if reset:
            self._engine.set_columns(state.zeros(self._num_samples, known.quantities))
            self._progress = replace(known, start=known.end)
        elif decay is not None and decay < 1:
            state.decay(live, decay)
            self._engine.set_columns(live)
        return snapshot

    def merge(self, other: Tracker) -> None:
        """Take in what ``other`` has seen; it stays as it is.

        Either no sample was observed by both (two parts of the data: the result is that of one tracker that
        saw everything, bit for bit), or all epochs of ``other`` come after all of this one's (`first_epoch`):
        moments are combined by Chan et al. 1979, forgetting counts across the seam. Raises ArgumentError
        otherwise, where an epoch is in progress, and where the trackers do not fit together.
        """
        self._engine.check()
        other._engine.check()
        if self._in_progress or other._in_progress:
            raise ArgumentError("merge: an epoch is in progress; call end_epoch first")
        if self._num_samples != other._num_samples:
            raise ArgumentError(f"merge: {self._num_samples} samples here, {other._num_samples} in the other")
        if bool(self._kept) != bool(other._kept):
            raise ArgumentError("merge: one of the trackers keeps a history, the other does not")
        here, there = self._progress, other._progress
        mine, theirs = self._engine.columns(), other._engine.columns()
        here.check_merges(there, (mine["count"] > 0) & (theirs["count"] > 0))
        self._kept.take_in(other._kept, here.committed, there.committed)
        if there.kind:
            if not here.kind:
                mine = state.zeros(self._num_samples, there.quantities)
            self._engine.set_columns(state.merged(mine, theirs))
        self._progress = here.merged(there)

    def state_dict(self) -> dict[str, Any]:
        """Everything, the epoch in progress included, as a dict of plain values and bytes, which pickle, and
        torch.load with weights_only=True, read.

        A history in memory is part of it; one in a directory stays there.
        """
        self._engine.check()
        return checkpoint.pack(
            checkpoint.Checkpoint(
                **asdict(self._progress),
                skipping=self._engine.skipped,
                open=self._in_progress,
                rows=self._engine.rows(),
                columns=self._engine.columns(),
                history=self._kept.in_memory(self._progress.committed),
            )
        )

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken. ArgumentError, changing nothing, where it does not fit."""
        found = checkpoint.unpack(saved, self._num_samples)
        self._kept.check_fits(found.history)
        self._progress = Progress(**{each.name: getattr(found, each.name) for each in fields(Progress)})
        self._open = found.open
        self._engine.load(found.columns, found.rows, found.skipping)
        self._kept.go_on(found.history)

    def __repr__(self) -> str:
        known = self._progress
        return (
            f"Tracker({self._num_samples} samples, epochs={known.epochs}, observed={known.kind or 'nothing'})"
        )
