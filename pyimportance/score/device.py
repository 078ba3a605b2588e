"""A tracker's state in the memory of a CUDA device, as torch tensors that the kernels are lent by DLPack.

Observing enqueues two kernels on the caller's current stream and waits for nothing, so that it can be
captured in a CUDA graph: the tensors it works on are never replaced. What is wrong with an entry of a batch
is recorded on the device, and raised when the state is next read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pyimportance.checks import check_integer
from pyimportance.errors import ArgumentError
from pyimportance.score import state, tensors
from pyimportance.score.batch import INT64_MIN
from pyimportance.score.history import ROW, Rows
from pyimportance.score.ranges import EL2N_MAX

if TYPE_CHECKING:
    from pyimportance.score.engine import Packed

# The device's record of problems, int64 each (csrc/observe/rows_cuda.h), before there is one.
NO_PROBLEM = (-1, 0, 0, 0, 0, 0)
_SKIPPED = len(NO_PROBLEM)
_CODE = ROW.fields["code"][1] // 4 if ROW.fields is not None else 0  # which int32 of a row its code is


@contextmanager
def callers_stream(device: torch.device) -> Iterator[int]:
    """The handle of the caller's stream on the device, which is the current one meanwhile."""
    with torch.cuda.device(device):
        yield torch.cuda.current_stream().cuda_stream


def reduced(history: Mapping[str, torch.Tensor], native: ModuleType, stream: int) -> state.Columns | None:
    """What score.arrays.reduced makes of arrays [E, N], on their device, in one pass; None where they are of
    kinds that it would convert, or hold what they must not, or nothing.
    """
    plain = {n: x.view(torch.uint8) if x.dtype == torch.bool else x for n, x in history.items()}
    adjacent = all(x.ndim == 2 and (x.stride(1) == 1 or x.shape[1] < 2) for x in plain.values())
    same = len({(x.shape, x.device) for x in plain.values()}) == 1
    bools = {name for name, x in history.items() if x.dtype == torch.bool}
    kinds = {x.dtype for name, x in history.items() if name not in bools}
    if not (
        adjacent and same and bools <= {"correct"} and kinds in ({torch.float32}, {torch.float64}, set())
    ):
        return None
    first = next(iter(plain.values()))
    if first.shape[1] == 0:
        return None
    columns = _zeros(first.shape[1], tuple(q for q in state.QUANTITIES if q in plain), first.device)
    wrong = torch.zeros(1, dtype=torch.int32, device=first.device)
    native.reduce(columns, plain, EL2N_MAX, wrong, stream)
    if wrong.item():
        return None
    return {name: column.cpu().numpy() for name, column in columns.items() if name != "ends"}


def _zeros(num_samples: int, quantities: tuple[str, ...], device: torch.device) -> dict[str, torch.Tensor]:
    dtypes = {
        name: torch.from_numpy(np.zeros(0, state.DTYPES[name])).dtype for name in state.names(quantities)
    }
    return {name: torch.zeros(num_samples, dtype=dtype, device=device) for name, dtype in dtypes.items()}


class DeviceEngine:
    """See Engine. native: pyimportance._cuda."""

    def __init__(self, num_samples: int, device: torch.device, native: ModuleType) -> None:
        self._device = device
        self._rows = torch.zeros(num_samples, ROW.itemsize, dtype=torch.uint8, device=device)
        self._claims = torch.full((num_samples,), -1, dtype=torch.int32, device=device)
        self._problems = torch.tensor([*NO_PROBLEM, 0], dtype=torch.int64, device=device)
        self._columns = {"count": torch.zeros(num_samples, dtype=torch.int32, device=device)}
        with self._stream() as stream:
            self._epoch = native.Epoch(self._rows, self._claims, self._problems, stream)

    def _stream(self) -> AbstractContextManager[int]:
        return callers_stream(self._device)

    def observe(  # noqa: PLR0917
        self, ids: Any, logits: Any, targets: Any, features: Any, mask: Any, ignore_index: Any, skip: bool
    ) -> int:
        with self._stream() as stream:
            sample = tensors.integers("ids", ids, self._device)
            rows = len(sample)
            z = tensors.matrix("logits", logits, self._device, (rows, "C"), (rows, "T", "V"))
            if z.shape[-1] == 0:
                raise ArgumentError(f"logits: {tensors.described(z)}; there must be at least one class")
            y = tensors.integers("targets", targets, self._device, ("B",) if z.ndim == 2 else z.shape[:2])
            if len(y) != rows:
                raise ArgumentError(f"targets: {len(y)} of them; must be {rows}")
            if z.ndim == 3 and features is not None:
                raise ArgumentError("features: given with logits [B, T, V]; must come with logits [B, C]")
            live, known = self._mask(mask, rows), None
            if ignore_index is not None:
                known = (y != check_integer("ignore_index", ignore_index, INT64_MIN)).view(torch.uint8)
            scratch = self._scratch(rows)
            if z.ndim == 3:
                tokens = (z, y.view(-1), _of_tokens(live, known, y.shape))
                self._epoch.observe_tokens(
                    sample, *tokens, live, skip, self._scratch(y.numel()), scratch, stream
                )
                return 0
            if known is not None:
                live = known if live is None else live & known
            norms = None if features is None else self._norms(features, rows)
            self._epoch.observe_logits(sample, z, y, live, norms, skip, scratch, stream)
            return z.shape[1] if rows else 0

    def _norms(self, features: Any, rows: int) -> torch.Tensor:
        h = tensors.matrix("features", features, self._device, (rows, "D"))
        norms: torch.Tensor = torch.linalg.vector_norm(h, dim=1, dtype=torch.float64)
        return norms.to(torch.float32)

    def observe_loss(self, ids: Any, loss: Any, mask: Any, skip: bool) -> None:
        with self._stream() as stream:
            sample = tensors.integers("ids", ids, self._device)
            rows = len(sample)
            losses = tensors.tensor("loss", loss, self._device)
            if losses.shape != (rows,) or (rows and not losses.is_floating_point()):
                raise ArgumentError(f"loss: {tensors.described(losses)}; must be floating point [{rows}]")
            wide, live = losses.to(torch.float64).contiguous(), self._mask(mask, rows)
            self._epoch.observe_losses(sample, wide, live, skip, self._scratch(rows), stream)

    def _mask(self, value: Any, rows: int) -> torch.Tensor | None:
        if value is None:
            return None
        return tensors.booleans("mask", value, self._device, rows).view(torch.uint8)

    def _scratch(self, rows: int) -> torch.Tensor:
        # Of each call anew: torch's allocator keeps it for the stream, or for the graph that captures this.
        return torch.empty(rows, ROW.itemsize, dtype=torch.uint8, device=self._device)

    @property
    def skipped(self) -> int:
        return int(self._problems[_SKIPPED])

    @skipped.setter
    def skipped(self, value: int) -> None:
        self._problems[_SKIPPED] = value

    def check(self) -> None:
        _, kind, position, sample, value, count = self._problems[:_SKIPPED].tolist()
        if kind == 0:
            return
        self._forget_problems()
        where = f"at position {position} of its batch"
        skipping = 'nonfinite="skip" leaves such samples out and counts them'
        problem = {
            1: f"ids: {sample} {where}; must be at least 0 and below {self._claims.numel()}",
            2: f"targets: {value} {where}, sample {sample}; must be at least 0 and below C",
            3: "logits: NaN or +inf (what float32 cannot hold is infinite), or a loss or gradient that is "
            f"infinite, or a loss that is NaN, of sample {sample} {where}; {skipping}",
            4: f"targets of sample {sample} {where}: no token that counts; {skipping}",
            6: f"rows: code: {value} {where}, sample {sample}; must be 1 to 3",
        }[kind]
        raise ArgumentError(f"{problem} (left out, the first of {count}; the others are recorded)")

    def _forget_problems(self) -> None:
        self._problems[:_SKIPPED] = torch.tensor(NO_PROBLEM, dtype=torch.int64)

    def begun(self) -> bool:
        return bool(self.skipped or self._rows.view(torch.int32)[:, _CODE].any())

    def columns(self) -> state.Columns:
        return {name: column.to("cpu", copy=True).numpy() for name, column in self._columns.items()}

    def set_columns(self, columns: state.Columns) -> None:
        self._columns = {name: torch.tensor(column, device=self._device) for name, column in columns.items()}

    def rows(self) -> Rows:
        rows: Rows = self._rows.to("cpu", copy=True).numpy().view(ROW).reshape(-1)
        return rows

    def load(self, columns: state.Columns, rows: Rows, skipped: int) -> None:
        self.set_columns(columns)
        self._rows.copy_(torch.from_numpy(rows.view(np.uint8).reshape(-1, ROW.itemsize)))
        self._forget_problems()
        self.skipped = skipped

    def fold(self, epoch: int, quantities: tuple[str, ...]) -> None:
        if missing := set(state.names(quantities)) - self._columns.keys():
            fresh = _zeros(len(self._rows), quantities, self._device)
            self._columns |= {name: fresh[name] for name in missing}
        with self._stream() as stream:
            self._epoch.fold(self._columns, epoch, stream)

    def packed(self) -> Packed:
        ids = self._rows.view(torch.int32)[:, _CODE].nonzero().reshape(-1)
        return ids, self._rows[ids]

    def replace(self, parts: list[Packed]) -> None:
        self._rows.zero_()
        with self._stream() as stream:
            for ids, rows in parts:
                self._epoch.commit_rows(ids.to(self._device), rows.to(self._device), stream)


def _of_tokens(
    live: torch.Tensor | None, known: torch.Tensor | None, shape: torch.Size
) -> torch.Tensor | None:
    """Which tokens are observed, [B T] bytes: those known of the sequences that are live."""
    if live is None:
        return None if known is None else known.view(-1)
    tokens = live[:, None].expand(shape)
    return (tokens if known is None else tokens & known).reshape(-1)
