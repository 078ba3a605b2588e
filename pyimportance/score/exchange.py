"""The rows of an epoch, handed round between the ranks of torch.distributed.

Every rank ends with every rank's rows, committed from the lowest rank to the highest, so that of a sample
seen on several ranks the lowest rank's row stands. Two collectives: a header that all ranks compare, so
that a mismatch is the same error everywhere and nobody waits for somebody who left, and the rows.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyimportance.errors import ArgumentError
from pyimportance.score.history import ROW
from pyimportance.score.state import classes_of
from pyimportance.together import placed

if TYPE_CHECKING:
    import torch

    from pyimportance.score.engine import Engine, Packed

_ID = 8  # bytes; each row is sent with its id before it, 40 in all
_COMPARED = ("num_samples", "epoch", "kind")


@dataclass(frozen=True)
class Header:
    """What a rank says of itself. kind: 0 where it has observed nothing yet; classes: state.classes_of."""

    num_samples: int
    epoch: int
    kind: int
    classes: int


@dataclass(frozen=True)
class Exchanged:
    """What all ranks come to: kind, classes and number skipped; and the rows that this one had."""

    kind: int
    classes: int
    skipped: int
    own: Packed


def exchange(engine: Engine, mine: Header, group: Any) -> Exchanged:
    """Completes this rank's rows, in the engine.

    Ranks that have observed anything must agree on its kind. Raises ArgumentError, on all
    ranks, where the ranks differ in their number of samples, epoch or kind; then nothing has changed.
    """
    import torch

    ids, own = engine.packed()
    count = len(ids)
    header = torch.tensor([*astuple(mine), count, engine.skipped])
    headers = torch.stack(_all_gather(header, group)).cpu().numpy()
    _compare(headers)
    kinds, classes, counts, skipped = headers[:, 2:].T
    if counts.max() > 0:
        # Ranks send equally much, the shorter ones zeros.
        sent = own.new_zeros(int(counts.max()), _ID + ROW.itemsize)
        sent[:count, :_ID], sent[:count, _ID:] = ids.view(torch.uint8).reshape(count, _ID), own
        engine.replace(
            [
                (wire[:n, :_ID].contiguous().view(torch.int64).reshape(-1), wire[:n, _ID:].contiguous())
                for n, wire in zip(counts, _all_gather(sent, group), strict=True)
            ]
        )
    return Exchanged(int(kinds.max()), classes_of(classes.tolist()), int(skipped.sum()), (ids, own))


def _compare(headers: npt.NDArray[np.int64]) -> None:
    for column, name in enumerate(_COMPARED):
        values = headers[:, column]
        if name == "kind":
            values = values[values != 0]
        if values.size and (values != values[0]).any():
            what = {"kind": "what was observed (1: losses, 2: logits, 3: and features)"}.get(name, name)
            raise ArgumentError(f"end_epoch: the ranks differ in {what}: {headers[:, column].tolist()}")


def _all_gather(mine: torch.Tensor, group: Any) -> list[torch.Tensor]:
    """One tensor per rank, all of the same shape and dtype."""
    import torch
    import torch.distributed as dist

    mine = placed(mine, group)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(everyone, mine, group=group)
    return everyone
