"""The demo on CIFAR-10: every policy for real, too briefly to learn much; what it reads is looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyimportance.cli.app import main
from pyimportance.demo.config import DEFAULT_POLICIES


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_policy_on_real_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], test_data: Path
) -> None:
    options = {"samples": 2048, "epochs": 4, "warmup": 2, "seeds": 1, "data": test_data / "cifar10"}
    arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--out", str(tmp_path), "--json", *arguments])
    printed = capsys.readouterr()
    assert ended.value.code == 0, printed.err
    report = json.loads(printed.out)
    assert (report["train_samples"], report["image_shape"], report["classes"]) == (2048, [3, 32, 32], 10)
    rows = {row["policy"]: row for row in report["policies"]}
    assert tuple(rows) == DEFAULT_POLICIES
    origin = {name: row["origin_bytes"] for name, row in rows.items()}
    fixed = origin["random-fixed"]
    assert fixed < 0.4 * origin["vanilla"]  # once, but with headers; the payload alone in each of four epochs
    assert fixed < origin["sticky(k=16)"] < origin["stripes"] < origin["vanilla"]
    assert fixed < origin["vanilla-full"] < origin["vanilla-lru"] < origin["vanilla"]
    for name in DEFAULT_POLICIES[3:]:
        row = rows[name]
        assert row["owned_bytes"] + row["repartition_bytes"] < row["stored_bytes"]
        assert row["origin_bytes"] - row["repartition_bytes"] == fixed
