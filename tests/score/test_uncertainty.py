"""Uncertainties of other models against plain loops in float64, by hand, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyimportance import (
    ArgumentError,
    Scores,
    depth_uncertainty,
    duq_uncertainty,
    evidential_uncertainty,
    pass_disagreement,
    pass_variance,
)
from pyimportance.score.reference import entropy, softmax

SEEDS = st.integers(0, 2**32 - 1)


def agree(scores: Scores, want: Any, measure: str) -> None:
    np.testing.assert_allclose(scores.values, want, rtol=1e-6, atol=1e-12)
    assert (scores.measure, scores.descending, scores.ids) == (measure, True, None)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(0, 50), seed=SEEDS)
def test_evidential(rows: int, seed: int) -> None:
    nu, alpha, beta = np.random.default_rng(seed).lognormal(size=(3, rows))
    want = [b / (v * (a - 1)) for v, a, b in zip(nu, alpha + 1, beta, strict=True)]
    agree(evidential_uncertainty(nu, torch.from_numpy(alpha + 1), beta), want, "evidential_uncertainty")


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 30),
    sizes=st.tuples(*[st.integers(1, 5)] * 3),
    sigma=st.sampled_from([0.1, 1.0, 20.0]),
    block=st.sampled_from([1, 40, 1 << 19]),
    seed=SEEDS,
)
def test_duq(rows: int, sizes: tuple[int, int, int], sigma: float, block: int, seed: int) -> None:
    C, D, F = sizes
    rng = np.random.default_rng(seed)
    f, w, e = rng.normal(size=(rows, F)), rng.normal(size=(C, D, F)), rng.normal(size=(C, D))
    want = []
    for sample in f:
        kernels = [np.exp(-np.mean((w[c] @ sample - e[c]) ** 2) / (2 * sigma**2)) for c in range(C)]
        want.append(1 - max(kernels))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyimportance.score.uncertainty.BLOCK", block)
        agree(duq_uncertainty(f, w, e, sigma), want, "duq_uncertainty")


def test_duq_keeps_the_digits_of_the_near() -> None:
    got = duq_uncertainty([[1e-6], [0.0]], [[[1.0]]], [[0.0]], 1.0).values
    np.testing.assert_allclose(got, [5e-13, 0], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    passes=st.integers(2, 6),
    rows=st.integers(1, 30),
    classes=st.integers(1, 7),
    form=st.sampled_from(["logits", "probs"]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    block=st.sampled_from([1, 40, 1 << 19]),
    seed=SEEDS,
)
def test_passes_and_depths(  # noqa: PLR0917 (hypothesis passes them by name)
    passes: int, rows: int, classes: int, form: str, dtype: Any, block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(passes, rows, classes)) * 3
    tensor = torch.from_numpy(softmax(z) if form == "probs" else z).to(dtype)
    exact = tensor.double().numpy()
    p = exact / exact.sum(-1, keepdims=True) if form == "probs" else softmax(exact)
    y, q = rng.integers(0, classes, rows), rng.dirichlet(np.ones(passes))
    variance = [np.var([p[t, i, y[i]] for t in range(passes)]) for i in range(rows)]
    mean = p.mean(0)
    overlap = [[np.sqrt(p[t, i] * mean[i]).sum() for t in range(passes)] for i in range(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyimportance.score.predictions.BLOCK", block)
        agree(pass_variance(y, **{form: tensor}), variance, "pass_variance")
        agree(pass_disagreement(**{form: tensor}), 1 - np.mean(overlap, 1), "pass_disagreement")
        mixed = sum(q[d] * p[d] for d in range(passes))
        agree(depth_uncertainty(q, **{form: tensor}), entropy(mixed), "depth_uncertainty")


def test_by_hand() -> None:
    probs = [[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]
    np.testing.assert_allclose(pass_variance([0, 1], probs=probs).values, [0.25, 0])
    np.testing.assert_allclose(pass_disagreement(probs=probs).values, [1 - np.sqrt(0.5), 0], atol=1e-9)
    assert pass_variance([0, 1], probs=probs).metadata == {"passes": "2"}
    np.testing.assert_allclose(depth_uncertainty([0.5, 0.5], probs=probs).values, np.log([2, 2]))
    np.testing.assert_allclose(depth_uncertainty([1.0, 0.0], probs=probs).values, [0, np.log(2)])
    np.testing.assert_allclose(evidential_uncertainty([2.0], [3.0], [8.0]).values, [2])
    np.testing.assert_allclose(duq_uncertainty([[1.0]], [[[2.0]]], [[1.0]], 1.0).values, 1 - np.exp(-0.5))


def test_passes_may_lie_in_a_file(tmp_path: Path, rng: np.random.Generator) -> None:
    z = rng.normal(size=(3, 50, 4)).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    there = np.load(tmp_path / "z.npy", mmap_mode="r")
    np.testing.assert_array_equal(pass_disagreement(logits=there).values, pass_disagreement(logits=z).values)


P = np.full((2, 3, 2), 0.5)


def with_(value: float) -> Any:
    bad = P.copy()
    bad[1, 2, 0] = value
    return bad


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: evidential_uncertainty([0.0], [2.0], [1.0]), "nu: 0 at row 0; must be finite and above 0"),
        (lambda: evidential_uncertainty([1.0, 1], [2.0, 1], [1.0, 1]), "alpha: 1 at row 1; .* above 1"),
        (lambda: evidential_uncertainty([1.0], [2.0], [np.nan]), "beta: nan at row 0; must be finite and"),
        (lambda: evidential_uncertainty([1.0], [np.inf], [1.0]), "alpha: inf at row 0"),
        (
            lambda: evidential_uncertainty([1.0], [2.0, 2], [1.0]),
            r"alpha: .* \[2\]; must be floating point \[1\]",
        ),
        (lambda: duq_uncertainty([[np.nan]], [[[1.0]]], [[1.0]], 1), r"features: nan at \[0, 0\]; must be"),
        (lambda: duq_uncertainty([[1.0]], [[[np.inf]]], [[1.0]], 1), r"weights: inf at \[0, 0, 0\]"),
        (lambda: duq_uncertainty([[1.0]], [[[1.0]]], [[np.nan]], 1), r"centroids: nan at \[0, 0\]"),
        (
            lambda: duq_uncertainty([[1.0]], [[[1.0]]], [[1.0, 2]], 1),
            r"centroids: .* floating point \[1, 1\]",
        ),
        (lambda: duq_uncertainty([[1.0, 2]], [[[1.0]]], [[1.0]], 1), r"features: .* floating point \[N, 1\]"),
        (lambda: duq_uncertainty([[1.0]], [[[1.0]]], [[1.0]], 0), "sigma=0: must be a finite number > 0"),
        (lambda: duq_uncertainty(np.zeros((1, 0)), np.zeros((1, 1, 0)), [[1.0]], 1), "no axis may be empty"),
        (lambda: depth_uncertainty([0.5, 0.6], probs=P), r"depth_probs: \[0.5 0.6\]; must be at least 0 and"),
        (lambda: depth_uncertainty([1.5, -0.5], probs=P), "depth_probs: .* must be at least 0 and of sum 1"),
        (lambda: depth_uncertainty([np.nan, 1], probs=P), "depth_probs: .* must be at least 0"),
        (lambda: depth_uncertainty([1.0], probs=P), r"probs: .* must be floating point \[1, N, C\]"),
        (
            lambda: depth_uncertainty([0.5, 0.5], probs=with_(0.8)),
            "probs: depth 1, row 2 sums to 1.3; must be",
        ),
        (
            lambda: pass_variance([0, 0, 0], logits=with_(np.nan)),
            "logits: nan at pass 1, row 2, class 0; must",
        ),
        (lambda: pass_variance([0, 0], probs=P), "targets: 2 of them for 3 rows"),
        (lambda: pass_variance([0, 0, 2], probs=P), "targets: 2 at row 2; must be at least 0 and below 2"),
        (lambda: pass_disagreement(probs=P[:1]), "probs: 1 passes; there must be at least 2"),
        (pass_disagreement, "logits, probs: exactly one of the two"),
    ],
)
def test_refused(call: Callable[[], Scores], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        call()
