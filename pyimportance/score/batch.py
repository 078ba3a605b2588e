"""What one call of observe is about, checked and as the native code takes it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyimportance import _C
from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import inputs
from pyimportance.score.history import Rows

INT64_MIN = -(2**63)
_INT64 = np.dtype(np.int64)


def kind_of(logits: Any, features: Any) -> tuple[str, Any]:
    """Which kind of observation (state.KINDS) a batch is, before it is looked at; and its logits, of lists an
    array.
    """
    given = logits if hasattr(logits, "ndim") else inputs.as_array("logits", logits)
    if given.ndim == 3:
        return "loss", given
    return "logits" if features is None else "logits and features", given


class Batch(NamedTuple):
    """ids [B]; logits [B, C] with features [B, D] or None, or [B, T, V]; targets [B] or [B, T].

    live   what is observed of it, of the shape of the targets; None: everything
    mask   [B]: the samples that are; None: all
    """

    ids: npt.NDArray[np.int64]
    logits: npt.NDArray[Any]
    targets: npt.NDArray[np.int64]
    features: npt.NDArray[Any] | None
    live: npt.NDArray[np.bool_] | None
    mask: npt.NDArray[np.bool_] | None

    @property
    def classes(self) -> int:
        """C; 0 of no rows, or of tokens."""
        return int(self.logits.shape[1]) if self.ids.size and self.logits.ndim == 2 else 0

    @property
    def scratch_rows(self) -> int:
        """How many rows of working memory `record` needs."""
        return self.ids.size + (self.targets.size if self.logits.ndim == 3 else 0)

    def record(self, skip: bool, scratch: Rows, epoch: Rows, threads: int) -> int:
        """Into the epoch's rows; how many samples were skipped as not finite."""
        last = (skip, scratch, epoch, threads)
        if self.logits.ndim == 2:
            first = (self.ids, self.logits, self.features, self.targets)
            return _C.observe_logits(*first, self.live, *last)
        live = np.ones(self.targets.shape, dtype=np.bool_) if self.live is None else self.live
        return _C.observe_tokens(self.ids, self.logits, self.targets, live, self.mask, *last)


def ids_and_mask(ids: Any, mask: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None]:
    """int64 [B] and, where a mask is given, bool [B]."""
    array = inputs.as_array("ids", ids)
    live = _mask(mask, array)
    return inputs.integers("ids", array, live), live


def make_batch(  # noqa: PLR0917
    ids: Any, logits: Any, targets: Any, features: Any, mask: Any, ignore_index: int | None
) -> Batch:
    """The arguments of `Tracker.observe`, which says what they may be; ArgumentError where they are not."""
    sample, y = inputs.as_array("ids", ids), inputs.as_array("targets", targets)
    z = inputs.as_array("logits", logits, bfloat16=True)
    live = _mask(mask, sample)
    if not _are_plain(sample, z, y):
        sample, z, y = _checked(sample, z, y, live)
    if z.ndim == 3 and features is not None:
        raise ArgumentError("features: given with logits [B, T, V]; must come with logits [B, C]")
    h = None if features is None else inputs.matrix("features", features, (sample.size, "D"))
    return Batch(sample, z, y, h, _live(y, live, ignore_index), live)


def _mask(mask: Any, ids: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    return None if mask is None or ids.ndim != 1 else inputs.booleans("mask", mask, ids.size)


def _are_plain(ids: npt.NDArray[Any], logits: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
    """Whether nothing is to be said about them nor done: with a small batch the checks take longest."""
    return (
        ids.dtype is _INT64
        and targets.dtype is _INT64
        and logits.dtype in inputs.NARROW
        and logits.ndim == 2
        and ids.shape == targets.shape == logits.shape[:1]
        and logits.size > 0
        and ids.flags.c_contiguous
        and targets.flags.c_contiguous
        and logits.flags.c_contiguous
        and logits.flags.aligned
    )


def _checked(
    ids: npt.NDArray[Any],
    logits: npt.NDArray[Any],
    targets: npt.NDArray[Any],
    live: npt.NDArray[np.bool_] | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[np.int64]]:
    sample = inputs.integers("ids", ids, live)
    z = inputs.matrix("logits", logits, (sample.size, "C"), (sample.size, "T", "V"))
    if z.shape[-1] == 0:
        raise ArgumentError(f"logits: {z.dtype} of shape {list(z.shape)}; there must be at least one class")
    y = inputs.integers("targets", targets, live, ("B",) if z.ndim == 2 else z.shape[:2])
    if len(y) != sample.size:
        raise ArgumentError(f"targets: {len(y)} of them; must be {sample.size}")
    return sample, z, y


def _live(
    targets: npt.NDArray[np.int64], mask: npt.NDArray[np.bool_] | None, ignore_index: int | None
) -> npt.NDArray[np.bool_] | None:
    if ignore_index is None:
        known = None
    else:
        known = targets != check_integer("ignore_index", ignore_index, INT64_MIN)
    if mask is None:
        return known
    by_target = mask if targets.ndim == 1 else np.broadcast_to(mask[:, None], targets.shape)
    return np.ascontiguousarray(by_target if known is None else by_target & known)
