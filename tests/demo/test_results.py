"""The ranks' figures become the report, and the table shows what the report says."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_rel

from pyimportance import ArgumentError
from pyimportance.demo.config import DemoConfig, parse_policy
from pyimportance.demo.results import paired_difference, report, table

CONFIG = DemoConfig(workers=2, seeds=3, policies=("vanilla", "vanilla-lru", "sticky"))


def rank(accuracy: float, origin: int, tracked: float = 0.0) -> dict[str, float]:
    figures = {"accuracy": accuracy, "accuracy_rank0": accuracy - 0.01, "training_seconds": 10.0}
    figures |= {"origin_bytes": origin, "disk_bytes": 7, "owned_bytes": 3, "index_bytes": 1_230_000}
    figures |= {"repartition_bytes": origin // 10, "stored_bytes": 40_000_000}
    if tracked:
        figures |= {"tracking_seconds": tracked, "observe_seconds": tracked / 2, "observed_samples": 1000}
    return figures


ACCURACIES = {
    "vanilla": [0.90, 0.92, 0.91],
    "vanilla-lru": [0.90, 0.92, 0.91],
    "sticky(k=16)": [0.91, 0.915, 0.9],
}
ORIGIN = {"vanilla": 100_000_000, "vanilla-lru": 80_000_000, "sticky(k=16)": 20_000_000}
RUNS = {
    (policy, seed): [
        rank(ACCURACIES[policy][seed], ORIGIN[policy] + seed + r, 0.5 * (policy == "sticky(k=16)"))
        for r in (0, 1)
    ]
    for policy in ORIGIN
    for seed in range(3)
}
VALUES = report(CONFIG, RUNS, {"data": "none"})


def test_the_report_has_the_promised_keys_and_is_json() -> None:
    again = json.loads(json.dumps(VALUES))
    assert {"policies", "world_size", "epochs", "warmup", "interval", "seeds"} <= set(again)
    for row in again["policies"]:
        assert list(row)[:2] == ["policy", "accuracy"]
        assert {"origin_bytes", "disk_bytes", "owned_bytes", "repartition_bytes"} <= set(row)
        assert {"tracking_share", "tracking_ns_per_sample", "accuracy_rank0"} <= set(row)
    assert [row["policy"] for row in again["policies"]] == list(CONFIG.policies)
    assert (again["world_size"], again["seeds"]) == (2, 3)


def test_means_are_over_ranks_and_seeds() -> None:
    vanilla, lru, sticky = VALUES["policies"]
    assert vanilla["origin_bytes"] == 100_000_001.5
    assert lru["disk_bytes"] == 7
    assert sticky["accuracy"] == pytest.approx(np.mean(ACCURACIES["sticky(k=16)"]))
    assert sticky["accuracy_rank0"] == pytest.approx(sticky["accuracy"] - 0.01)
    assert sticky["accuracies"] == ACCURACIES["sticky(k=16)"]


def test_only_runs_that_track_have_a_tracking_cost() -> None:
    vanilla, _, sticky = VALUES["policies"]
    assert sticky["tracking_share"] == pytest.approx(0.05)
    assert sticky["tracking_ns_per_sample"] == pytest.approx(0.5e9 / 1000)
    assert vanilla["tracking_share"] == 0
    assert vanilla["tracking_ns_per_sample"] is None


def test_the_paired_interval_is_the_t_tests() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5))
    ours = paired_difference(a.tolist(), b.tolist())
    theirs = ttest_rel(a, b).confidence_interval(0.95)
    assert ours["mean"] == pytest.approx((a - b).mean())
    assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high))
    assert VALUES["policies"][1]["difference_to_vanilla"] == {"mean": 0, "low": 0, "high": 0}
    assert "difference_to_vanilla" not in VALUES["policies"][0]


def test_the_table_is_what_the_json_says() -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table(json.loads(json.dumps(VALUES))))
    cells = {}
    for line in capture.get().splitlines():
        if line.startswith("│"):
            name, *rest = [cell.strip() for cell in line.strip("│").split("│")]
            cells[name] = rest
    sticky = VALUES["policies"][2]
    difference = sticky["difference_to_vanilla"]
    assert cells["sticky(k=16)"] == [
        f"{100 * sticky['accuracy']:.2f}",
        f"{100 * sticky['accuracy_rank0']:.2f}",
        "{mean:+.2f} ({low:+.2f} to {high:+.2f})".format(**{k: 100 * v for k, v in difference.items()}),
        "20.00", "0.250", "0.261", "2.00", "0.00", "0.00", "40.00", "1.23", "5.00", "500,000",
    ]  # fmt: skip
    assert cells["vanilla"][2:5] == ["-", "100.00", "1.250"]
    assert cells["vanilla"][-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "12 epochs on 2 ranks, 3 seeds: 2 to warm up, then a repartition every 2 by loss_mean"),
        ({"world_size": 1, "seeds": 1}, "12 epochs on 1 rank: 2 to warm up, then"),
        ({"warmup_on": "vanilla"}, "2 to warm up on global reshuffles, then a repartition"),
        ({"data": "digits"}, "digits, 12 epochs on 2 ranks"),
        ({"epochs": 2}, "2 epochs on 2 ranks, 3 seeds: all to warm up, so nothing was repartitioned"),
    ],
)
def test_the_title_says_what_was_run(settings: dict[str, object], title: str) -> None:
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        console.print(table(VALUES | settings))
    assert title in capture.get().splitlines()[0]
    assert ("One seed cannot tell" in capture.get()) == (settings.get("seeds") == 1)


@pytest.mark.parametrize("width", [50, 80, 100])
def test_a_narrow_console_gets_more_tables_and_whole_cells(width: int) -> None:
    def tokens(width: int) -> list[str]:
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(table(VALUES))
        lines = capture.get().splitlines()
        assert max(map(len, lines)) <= width
        assert "\N{HORIZONTAL ELLIPSIS}" not in capture.get()
        return [cell.strip() for line in lines if line[0] in "│┃" for cell in re.split("[│┃]", line) if cell]

    narrow, wide = tokens(width), tokens(200)
    assert len(narrow) > len(wide)  # the policies are named again
    assert set(narrow) == set(wide)


def test_config_goes_to_the_ranks_and_back() -> None:
    assert DemoConfig.from_json(json.dumps(CONFIG.to_dict())) == CONFIG


def test_policies_have_options() -> None:
    assert parse_policy("sticky(4)") == parse_policy("sticky(k=4)") == ("sticky", {"k": 4})
    assert parse_policy("sticky( tolerance = 0.01 )") == ("sticky", {"tolerance": 0.01})
    assert DemoConfig(policies=("sticky(4)", "sticky")).policies == ("sticky(k=4)", "sticky(k=16)")


@pytest.mark.parametrize(
    ("measure", "in_full"),
    [
        ("dual(2)", "dual(window=2)"),
        ("correctness( fraction = True )", "correctness(fraction=True)"),
        ("confidence_weighted_entropy", "confidence_weighted_entropy"),
        ("grand_last", "grand_last"),
    ],
)
def test_measures_have_options_and_get_what_they_need(measure: str, in_full: str) -> None:
    config = DemoConfig(measure=measure)
    assert config.measure == in_full
    assert ("history" in config.tracker(3).recordable) == measure.startswith("dual")
    assert config.features == (measure == "grand_last")
    assert config.scoring["measure"] == in_full.partition("(")[0]


def test_a_report_of_some_of_the_runs_says_so() -> None:
    assert (VALUES["complete"], VALUES["runs"]) == (True, 9)
    some = {key: RUNS[key] for key in [*[*RUNS][:2], ("vanilla-lru", 0), ("sticky(k=16)", 0)]}
    values = report(CONFIG, some, {})
    assert (values["complete"], values["runs"], values["seeds"]) == (False, 4, 3)
    assert [len(row["accuracies"]) for row in values["policies"]] == [2, 1, 1]
    assert not any("difference_to_vanilla" in row for row in values["policies"])
    del some["sticky(k=16)", 0]
    assert [row["policy"] for row in report(CONFIG, some, {})["policies"]] == ["vanilla", "vanilla-lru"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": 0}, "workers=0: must be at least 1"),
        ({"seeds": 0}, "seeds=0"),
        ({"lr": 0.0}, "lr=0.0: must be a finite number > 0"),
        ({"lr": 1e308}, r"lr=1e\+308: must be at most 3\.403e\+38, float32's largest number"),
        ({"bins": 0}, "bins=0: must be at least 1"),
        ({"warmup_on": "cloud"}, "warmup_on='cloud': allowed are 'local' and 'vanilla'"),
        ({"measure": "luck"}, "measure 'luck' is unknown; possible here are loss_mean, "),
        (
            {"measure": "rho"},
            "measure 'rho' takes irreducible, from Python alone; possible here are loss_mean",
        ),
        ({"measure": "tdds"}, "measure 'tdds' needs the probabilities of all classes"),
        (
            {"measure": "dual"},
            r"needs 10 observations of a sample, .* after 2 \(warmup=2\); possible here",
        ),
        ({"measure": "dual(window=1)"}, r"measure 'dual\(window=1\)': window=1: must be at least 2$"),
        ({"measure": "rho(irreducible=[0.5])"}, "irreducible: "),
        ({"measure": "loss_mean(3)"}, "measure 'loss_mean' has no option '3'; it has none$"),
        ({"measure": "correctness(fraction=yes)"}, "fraction='yes': must be True or False"),
        ({"measure": "prediction_variance", "warmup": 1}, "needs 2 observations of a sample"),
        ({"policies": ()}, "name at least one"),
        ({"policies": ("sticky", "sticky(16)")}, "named twice"),
        ({"policies": ("alphabetical",)}, "policy 'alphabetical' is unknown; allowed are vanilla, "),
        ({"policies": ("stripes(3)",)}, "policy 'stripes' has no option '3'"),
        ({"policies": ("stripes(k=3)",)}, "policy 'stripes' has no option 'k'"),
        ({"policies": ("sticky(k=0)",)}, r"policy 'sticky\(k=0\)': k=0: must be at least 1"),
        ({"policies": ("sticky(k=4, tolerance=0.1)",)}, "k=4, tolerance=0.1: one of the two"),
        ({"policies": ("sticky(k=x)",)}, "k='x': must be an integer of at least 1"),
        ({"policies": ("sticky[3]",)}, "is not a name"),
        ({"epochs": 1, "warmup": 2}, "epochs=1: must be at least warmup=2"),
        ({"interval": 0}, "interval=0"),
    ],
)
def test_bad_settings_are_named(fields: dict, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        DemoConfig(**fields)
