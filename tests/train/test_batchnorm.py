"""pool_batchnorm against the law of total variance in NumPy, on two real ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import pool_batchnorm


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_two_ranks_pool_to_the_law_of_total_variance(
    run_ranks: Callable[..., list[Any]], offset: float
) -> None:
    ranks = run_ranks("ranks_batchnorm.py", 2, offset)
    for layer in range(2):
        means, variances = (
            np.array([rank["before"][layer][part] for rank in ranks], np.float64) for part in (0, 1)
        )
        assert not np.allclose(means[0], means[1])  # else the test would pass without pooling
        mean = means.mean(0)
        variance = (variances + means**2).mean(0) - mean**2
        for rank in ranks:
            np.testing.assert_allclose(rank["after"][layer][0], mean, rtol=1e-6)
            np.testing.assert_allclose(rank["after"][layer][1], variance, rtol=1e-5)
            assert rank["batches"] == [3, 3]
    assert ranks[0]["after"] == ranks[1]["after"]


def test_alone_nothing_changes() -> None:
    model = torch.nn.BatchNorm2d(4)
    model(torch.randn(2, 4, 3, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pool_batchnorm(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
