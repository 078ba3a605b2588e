"""The demo, really run: its figures follow from the arithmetic, and its table from its JSON."""

from __future__ import annotations

import json
import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyimportance import Dynamics, VanillaDataset, index
from pyimportance.account.baselines import spans
from pyimportance.cli.app import main
from pyimportance.shards.sample_index import SampleIndex

EPOCHS, WORKERS, TRAIN = 4, 2, 480


def run(*arguments: object) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["demo", *map(str, arguments)])
    assert ended.value.code == 0, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    table, said = run(
        "--out", out, "--epochs", EPOCHS, "--workers", WORKERS, "--samples", TRAIN, "--warmup", 1,
        "--interval", 1, "--plots",
    )  # fmt: skip
    assert said.splitlines()[-1] == f"pyimportance: all figures are in {out / 'report.json'}"
    return out, table


@pytest.fixture(scope="module")
def report(outcome: tuple[Path, str]) -> Any:
    return json.loads((outcome[0] / "report.json").read_text())


@pytest.fixture(scope="module")
def rows(report: Any) -> dict[str, Any]:
    return {row["policy"]: row for row in report["policies"]}


@pytest.fixture(scope="module")
def source(outcome: tuple[Path, str]) -> SampleIndex:
    return index(sorted((outcome[0] / "data").glob("train-*.tar")))


def test_every_policy_was_run(report: Any, rows: dict[str, Any]) -> None:
    assert list(rows) == [
        "vanilla", "vanilla-lru", "vanilla-full", "random-fixed", "stripes", "blocks", "sticky(k=16)",
    ]  # fmt: skip
    settings = {"world_size": WORKERS, "epochs": EPOCHS, "warmup": 1, "interval": 1, "seeds": 1}
    assert {key: report[key] for key in settings} == settings
    assert (report["complete"], report["runs"]) == (True, len(rows))
    assert report["train_samples"] == TRAIN
    for row in rows.values():
        assert 0.5 < row["accuracy"] <= 1  # ten digits: guessing gives 0.1
        assert 0.3 < row["accuracy_rank0"] <= 1
        for accuracy in row["accuracies"] + row["accuracies_rank0"]:
            assert accuracy == round(accuracy * report["test_samples"]) / report["test_samples"]


def test_vanilla_reads_its_share_every_epoch(rows: dict[str, Any], source: SampleIndex) -> None:
    total = int(spans(source)[1][:TRAIN].sum())
    row = rows["vanilla"]
    assert row["origin_bytes"] * WORKERS == EPOCHS * total
    assert (row["disk_bytes"], row["owned_bytes"], row["stored_bytes"], row["repartition_bytes"]) == (0,) * 4


def test_caches_hold_what_they_are_allowed(rows: dict[str, Any], source: SampleIndex) -> None:
    sizes = spans(source)[1][:TRAIN]
    total = int(sizes.sum())
    seen = []
    for rank in range(WORKERS):
        dataset = VanillaDataset(source, rank=rank, world_size=WORKERS, ids=np.arange(TRAIN))
        every = []
        for epoch in range(EPOCHS):
            dataset.set_epoch(epoch)
            every.append(dataset.rows()[0])
        seen.append(int(sizes[np.unique(np.concatenate(every))].sum()))
    full, lru = rows["vanilla-full"], rows["vanilla-lru"]
    assert full["origin_bytes"] * WORKERS == full["owned_bytes"] * WORKERS == sum(seen)
    assert lru["owned_bytes"] <= 1.25 * total / WORKERS
    assert full["origin_bytes"] < lru["origin_bytes"] < rows["vanilla"]["origin_bytes"]
    for row in (full, lru):
        assert row["stored_bytes"] == row["owned_bytes"]
        assert (row["origin_bytes"] + row["disk_bytes"]) * WORKERS == EPOCHS * total


def test_importance_runs_fetch_their_samples_once(rows: dict[str, Any], source: SampleIndex) -> None:
    nbytes, payload = source.nbytes[:TRAIN].sum(), spans(source)[1][:TRAIN].sum()
    first = rows["random-fixed"]["origin_bytes"]
    assert payload <= first * WORKERS <= nbytes
    assert rows["random-fixed"]["repartition_bytes"] == 0
    for name in ("random-fixed", "stripes", "blocks", "sticky(k=16)"):
        row = rows[name]
        assert row["origin_bytes"] - row["repartition_bytes"] == first
        assert row["owned_bytes"] * WORKERS == nbytes
        # Nothing is removed: what was fetched, whatever was moved here, and the two zero blocks of each tar.
        written = (row["origin_bytes"] - first) * WORKERS + nbytes
        assert written < row["stored_bytes"] * WORKERS < 1.2 * written
        assert row["disk_bytes"] * WORKERS == EPOCHS * nbytes
    assert 0 < rows["sticky(k=16)"]["repartition_bytes"] < rows["stripes"]["repartition_bytes"]


def test_runs_of_a_seed_are_paired(rows: dict[str, Any]) -> None:
    # The caches change where vanilla's bytes come from, and nothing else.
    assert len({tuple(rows[name]["accuracies"]) for name in ("vanilla", "vanilla-lru", "vanilla-full")}) == 1


def test_tracking_is_measured_where_there_is_some(rows: dict[str, Any]) -> None:
    for name in ("stripes", "blocks", "sticky(k=16)"):
        row = rows[name]
        assert 0 < row["tracking_share"] < 1  # a rank that waits for a late one tracks
        assert 0 < row["observe_ns_per_sample"] < row["tracking_ns_per_sample"]
        tracked = row["tracking_share"] * row["training_seconds"]
        assert tracked * 1e9 / row["tracking_ns_per_sample"] == pytest.approx(EPOCHS * TRAIN / WORKERS)
    for name in ("vanilla", "vanilla-lru", "vanilla-full", "random-fixed"):
        assert (rows[name]["tracking_share"], rows[name]["tracking_ns_per_sample"]) == (0, None)


def test_the_table_is_what_the_json_says(outcome: tuple[Path, str], rows: dict[str, Any]) -> None:
    lines = [re.split(r"\s*[│┃]\s*", line.strip("│┃ \n")) for line in outcome[1].splitlines() if "│" in line]
    assert [line[0] for line in lines] == list(rows)
    for cells in lines:
        row = rows[cells[0]]
        expected = [f"{100 * row['accuracy']:.2f}", f"{100 * row['accuracy_rank0']:.2f}"]
        expected.append(f"{row['origin_bytes'] / 1e6:.2f}")
        expected.append(f"{row['origin_bytes'] / rows['vanilla-lru']['origin_bytes']:.3f}")
        lru = rows["vanilla-lru"]
        indexed = [r["origin_bytes"] + r["index_bytes"] for r in (row, lru)]
        expected.append(f"{indexed[0] / indexed[1]:.3f}")
        others = ("repartition_bytes", "disk_bytes", "owned_bytes", "stored_bytes", "index_bytes")
        expected += [f"{row[k] / 1e6:.2f}" for k in others]
        ns = row["tracking_ns_per_sample"]
        expected += ["-", "-"] if ns is None else [f"{100 * row['tracking_share']:.2f}", f"{ns:,.0f}"]
        assert cells[1:] == expected


def test_what_is_left_in_the_folder(outcome: tuple[Path, str]) -> None:
    out = outcome[0]
    left = {path.name for path in out.iterdir()}
    assert left == {".pyimportance-demo", "bytes.png", "data", "data_map.png", "dynamics.npz", "report.json"}
    for name in ("bytes.png", "data_map.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    dynamics = Dynamics.load(out / "dynamics.npz")
    assert (dynamics.epochs, dynamics.num_samples) == (EPOCHS, TRAIN)
    assert (dynamics.count == EPOCHS).all()


def test_again_in_the_same_folder_on_data_of_ones_own(outcome: tuple[Path, str], source: SampleIndex) -> None:
    out = outcome[0]
    printed, err = run(
        "--out", out, "--data", out / "data", "--test", out / "data" / "test-000.tar", "--epochs", 2,
        "--warmup", 1, "--policy", "vanilla, random-fixed", "--policy", "snake", "--workers", 3, "--seeds", 2,
        "--samples", 200, "--warmup-on", "vanilla", "--measure", "grand_last", "--json",
    )  # fmt: skip
    values = json.loads(printed)
    assert values == json.loads((out / "report.json").read_text())
    assert [row["policy"] for row in values["policies"]] == ["vanilla", "random-fixed", "snake"]
    assert (values["test_samples"], values["world_size"], values["train_samples"]) == (240, 3, 200)
    assert [len(row["accuracies"]) for row in values["policies"]] == [2, 2, 2]
    difference = values["policies"][2]["difference_to_vanilla"]
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert len(re.findall(r"accuracy \d", err)) == 6
    # One of vanilla's two epochs, but for the sample that pads it, and then each sample once.
    vanilla, _, snake = (row["origin_bytes"] for row in values["policies"])
    payload = spans(source)[1][:200]
    share = (snake - vanilla / 2) * 3
    assert payload.sum() - payload.max() <= share <= source.nbytes[:200].sum() + payload.max()
    dynamics = Dynamics.load(out / "dynamics.npz")
    assert "grand" in dynamics.quantities
    assert (dynamics.count[:200] == 2).all()
    # The plots were the earlier demo's, which this one has replaced.
    left = {path.name for path in out.iterdir()}
    assert left == {".pyimportance-demo", "data", "dynamics.npz", "report.json"}
