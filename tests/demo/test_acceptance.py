"""What the demo promises of bytes, by the demo itself with its default settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyimportance.cli.app import main


@pytest.mark.parametrize(
    "options",
    [
        # Larger batches train in a tenth of the steps. What is read depends on them through the scores alone,
        # which are those of a network that has learned here too.
        pytest.param(("--batch-size", "120"), id="large batches"),
        pytest.param((), id="as it is", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_the_bytes_of_owned_samples_beside_a_plain_loader_with_a_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    policies = "vanilla-lru,random-fixed,sticky"
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--policy", policies, "--out", str(tmp_path), "--json", *options])
    assert ended.value.code == 0
    report = json.loads(capsys.readouterr().out)
    settings = {"world_size": 4, "epochs": 12, "warmup": 2, "interval": 2, "warmup_on": "local"}
    assert {key: report[key] for key in settings} == settings
    rows = {row["policy"]: row for row in report["policies"]}
    origin = {name: row["origin_bytes"] for name, row in rows.items()}
    assert 0 < origin["random-fixed"] <= 0.2 * origin["vanilla-lru"]
    assert origin["random-fixed"] < origin["sticky(k=16)"] <= 0.3 * origin["vanilla-lru"]
    assert all(row["accuracy"] > 0.9 for row in rows.values())  # so that it was training that read them
