"""What was observed, through a tracker and through the oracle; and how near to each other a measure's scores
must then be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pyimportance import Dynamics, Tracker, measures
from pyimportance.score.inputs import matrix
from pyimportance.score.reference import ROW_NAMES, measure, row_statistics
from tests.score.rows_of import legal, stored_as
from tests.score.running import threads

Logits = Callable[[str, int, int, np.random.Generator], npt.NDArray[np.float32]]
History = dict[str, npt.NDArray[np.float64]]
LAYOUTS = ("NumPy", "tensor", "rows apart", "backwards", "classes first")
VARIANCES = {"loss_variance": "loss", "variability": "p_true", "prediction_variance": "p_true"}


def laid_out(values: torch.Tensor, layout: str) -> Any:
    """The same matrix, elsewhere in memory."""
    rows, width = values.shape
    if layout == "NumPy":
        return matrix("values", values, ("B", "C"))
    if layout == "backwards":
        return matrix("values", values.flip(0), ("B", "C"))[::-1]
    if layout == "rows apart":
        wide = torch.full((2 * rows, width + 5), torch.nan, dtype=values.dtype)
        wide[::2, 3 : 3 + width] = values
        return wide[::2, 3 : 3 + width]
    return values.T.contiguous().T if layout == "classes first" else values


def recorded(  # noqa: PLR0917
    make_logits: Logits,
    kinds: list[str],
    samples: int,
    classes: int,
    seed: int,
    missing: float,
    dtype: str = "float32",
    layout: str = "NumPy",
    counts: Sequence[int] = (1,),
) -> tuple[list[Dynamics], History]:
    """Epochs of logits, one kind each, in shuffled batches through a tracker with a history for each of
    ``counts``, on so many threads; and through the oracle. With features where the seed is odd.
    """
    rng = np.random.default_rng(seed)
    trackers = []
    for count in counts:
        with threads(count):  # which a tracker asks for as its epochs begin
            trackers.append(Tracker(samples, history="memory"))
    history = {name: np.full((len(kinds), samples), np.nan) for name in ROW_NAMES}
    for epoch, kind in enumerate(kinds):
        _, rounded = stored_as(dtype, make_logits(kind, samples, classes, rng))
        logits = torch.from_numpy(legal(rounded)).to(getattr(torch, dtype))
        z = logits.double().numpy()
        y = np.where(rng.random(samples) < 0.5, z.argmax(1), rng.integers(0, classes, samples))
        y[~np.isfinite(z[np.arange(samples), y])] = 0
        features = None
        if seed % 2:
            features = torch.from_numpy(rng.normal(size=(samples, seed % 97))).to(logits.dtype)
        ids = np.flatnonzero(rng.random(samples) >= missing)
        rng.shuffle(ids)
        for batch in np.array_split(ids, 3):
            given = laid_out(logits[batch], layout)
            h = None if features is None else laid_out(features[batch], layout)
            for tracker, count in zip(trackers, counts, strict=True):
                with threads(count):
                    tracker.observe(batch, given, y[batch], features=h)
        for tracker, count in zip(trackers, counts, strict=True):
            with threads(count):
                tracker.end_epoch()
        hidden = None if features is None else features[ids].double().numpy()
        for name, values in row_statistics(z[ids], y[ids], hidden).items():
            history[name][epoch, ids] = values
    return [tracker.dynamics() for tracker in trackers], history


def variants(dynamics: Dynamics, classes: int) -> list[tuple[str, dict[str, Any]]]:
    """The measures of an observed Dynamics, by name and with options to try."""
    weighted = "confidence_weighted_entropy"  # of which the oracle must be told
    plain: list[tuple[str, dict[str, Any]]] = [(n, {}) for n in measures(dynamics) if n != weighted]
    plain.append(("grad_norm_bound", {"latest": True}))
    if dynamics.history is not None:
        plain.append(("el2n", {"epochs": range(0, dynamics.epochs, 2)}))
        plain += [("dual", {"window": window}) for window in (2, 3)]
    elsewhere = np.random.default_rng(classes).exponential(size=dynamics.num_samples) + 1e-3
    elsewhere[::7] = np.nan
    plain += [("rho", {"irreducible": elsewhere, "latest": latest}) for latest in (False, True)]
    plain.append(("ifd", {"alone": elsewhere}))
    return plain + [(weighted, {"classes": classes})] * (classes > 1)


def agree(name: str, got: npt.NDArray[np.float32], history: History, **options: Any) -> None:
    with np.errstate(over="ignore"):
        want = measure(name, history, **options).astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), name)
    is_variance = name in VARIANCES and not (
        name == "loss_variance" and (~np.isnan(history["loss"])).sum(0).max() < 2
    )
    if not is_variance:
        infinite = np.isinf(want)
        np.testing.assert_array_equal(got[infinite], want[infinite], name)
        finite = np.isfinite(want)
        bound = 1e-5 * np.abs(want[finite]) + 1e-37
        if name == "aum":  # margins of both signs cancel: the digits left are those of the largest
            margins = np.nan_to_num(np.abs(history["margin"]), posinf=0)
            bound = bound + 1e-13 * margins.max(0)[finite]
        if name in ("normalized_margin", "entropy"):  # where the others are sure, next to 0 but not exactly
            bound = bound + 1e-6
        if name == "confidence_weighted_entropy":  # entropies are good to 1e-6 of 1 + their value
            off = 1e-6 * (1 + history["entropy"])
            ends = [
                measure(name, history | {"entropy": np.maximum(history["entropy"] + d, 0)}, **options)
                for d in (-off, off)
            ]
            may_be_none = (history["entropy"] <= off).any(0)  # of which it falls from 1 to 0
            spread = np.abs(ends[0] - ends[1]) + may_be_none
            bound = bound + np.maximum(spread, 1e-30)[finite]
        if name == "dual":  # deviations of numbers of about 1
            bound = bound + 1e-6
        if name == "rho":  # a difference
            largest = np.nan_to_num(history["loss"]).max(0) + options["irreducible"]
            bound = bound + 1e-6 * largest[finite]
        np.testing.assert_array_less(np.abs(got[finite] - want[finite]), bound, name)
        return
    seen = ~np.isnan(want)
    size = np.array([np.sqrt(np.nanmean(column**2)) for column in history[VARIANCES[name]].T[seen]])
    got_v, want_v = got[seen].astype(np.float64), want[seen]
    if name == "loss_variance":  # the other two are square roots of one
        got_v, want_v = np.sqrt(got_v), np.sqrt(want_v)
    # What is 1e-6 of the numbers is noise.
    np.testing.assert_array_less(np.abs(got_v - want_v), 1e-5 * want_v + 2e-6 * size + 1e-18, name)
