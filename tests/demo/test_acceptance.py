"""What the demo promises of bytes, on the digits with its default settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyimportance.demo.config import DemoConfig
from pyimportance.demo.run import run_demo


@pytest.mark.slow
def test_the_bytes_of_owned_samples_beside_a_plain_loader_with_a_cache(tmp_path: Path) -> None:
    config = DemoConfig(
        epochs=12, workers=4, policies=("vanilla-lru", "random-fixed", "sticky(k=16)"),
        batch_size=16, lr=0.1, flip=False, shift=1,
    )  # fmt: skip
    rows = {row["policy"]: row for row in run_demo(config, tmp_path / "out")["policies"]}
    origin = {name: row["origin_bytes"] for name, row in rows.items()}
    assert 0 < origin["random-fixed"] <= 0.2 * origin["vanilla-lru"]
    assert origin["random-fixed"] < origin["sticky(k=16)"] <= 0.3 * origin["vanilla-lru"]
    assert all(row["accuracy"] > 0.9 for row in rows.values())  # so that it was training that read them
