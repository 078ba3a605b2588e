"""From dynamics to verified shards by the command line alone, and what --json says of it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pyimportance import _C, Dynamics, Partition, Scores, ShardSet, Tracker, partition, score
from pyimportance.cli.bench import bench
from pyimportance.order.quality import quality
from pyimportance.shards.sample_index import SampleIndex

N = 24
COMMANDS = ("demo", "index", "score", "partition", "shard", "repartition", "compact", "prune", "verify")
COMMANDS += ("inspect", "export", "bench")


@pytest.fixture
def dynamics(tmp_path: Path) -> Path:
    tracker = Tracker(N)
    for epoch in range(3):
        logits = np.stack([np.zeros(N), np.arange(N) * 5 % N + epoch], 1).astype(np.float32)
        tracker.observe(np.arange(N), logits, np.zeros(N, np.int64))
        tracker.end_epoch()
    tracker.dynamics().save(tmp_path / "dynamics.npz")
    return tmp_path / "dynamics.npz"


def test_the_whole_path(cli: Callable, source: Path, dynamics: Path, tmp_path: Path) -> None:
    made = cli("index", source, "-o", tmp_path / "index.arrow", "--json")
    assert (made.status, made.json["samples"], made.json["files"]) == (0, N, 2)
    assert made.json["extensions"] == ["cls", "txt"]
    index = SampleIndex.load(tmp_path / "index.arrow")

    scored = cli(
        "score", dynamics, "-o", tmp_path / "scores.parquet", "--index", tmp_path / "index.arrow", "--json"
    )
    assert (scored.status, scored.json["measure"], scored.json["important"]) == (0, "loss_mean", "high")
    scores = Scores.load(tmp_path / "scores.parquet")
    assert scores.keys is not None
    assert scores.keys.to_pylist() == index.keys.to_pylist()
    assert np.argmax(scores.values) == np.argmax(np.arange(N) * 5 % N)

    split = cli(
        "partition", tmp_path / "scores.parquet", "-o", tmp_path / "partition.parquet",
        "--workers", 3, "--bins", 2, "--json",
    )  # fmt: skip
    assert (split.status, split.json["samples_per_worker"]) == (0, [8, 8, 8])

    shards = cli("shard", source, tmp_path / "a", "--partition", tmp_path / "partition.parquet", "--json")
    assert (shards.status, shards.json["generation"], shards.json["samples"]) == (0, 0, N)
    at_once = cli(
        "shard", tmp_path / "index.arrow", tmp_path / "b", "--scores", tmp_path / "scores.parquet",
        "--workers", 3, "--bins", 2, "--json",
    )  # fmt: skip
    assert at_once.json["digest"] == shards.json["digest"]

    moved = cli(
        "partition", tmp_path / "scores.parquet", "-o", tmp_path / "next.parquet",
        "--policy", "sticky", "--k", 2, "--current", tmp_path / "a", "--json",
    )  # fmt: skip
    assert (moved.status, moved.json["workers"], moved.json["policy"]) == (0, 3, "sticky(k=2)")
    near = cli(
        "partition", tmp_path / "scores.parquet", "-o", tmp_path / "near.parquet",
        "--policy", "sticky", "--tolerance", 0.5, "--current", tmp_path / "a", "--json",
    )  # fmt: skip
    assert (near.status, near.json["policy"]) == (0, "sticky(tolerance=0.5)")
    again = cli("repartition", tmp_path / "a", "--partition", tmp_path / "next.parquet", "--json")
    before, after = (ShardSet.open(tmp_path / "a", generation=g) for g in (0, 1))
    changed = before.worker_of(np.arange(N)) != after.worker_of(np.arange(N))
    assert (again.status, again.json["generation"], again.json["moved"]) == (0, 1, int(changed.sum()))
    plan = Partition.load(tmp_path / "next.parquet")
    np.testing.assert_array_equal(after.worker_of(np.arange(N)), plan.worker_of(np.arange(N)))

    for folder in ("a", "b"):
        verified = cli("verify", tmp_path / folder, "--json")
        assert (verified.status, verified.json["verified"]) == (0, True)


def test_sizes_classes_and_capacity(cli: Callable, source: Path, tmp_path: Path) -> None:
    cli("index", source, "-o", tmp_path / "index.arrow")
    sizes = SampleIndex.load(tmp_path / "index.arrow").nbytes
    scores, classes = Scores(np.arange(N, dtype=np.float32)), np.arange(N) % 5
    scores.save(tmp_path / "s")
    np.save(tmp_path / "classes.npy", classes)
    np.save(tmp_path / "sizes.npy", sizes)
    options = {"policy": "balanced", "sizes": sizes, "classes": classes, "capacity": [1, 1, 2]}
    expected = partition(scores, 3, **options)
    for given in ("index.arrow", "sizes.npy"):
        split = cli(
            "partition", tmp_path / "s", "-o", tmp_path / "p", "--workers", 3, "--policy", "balanced",
            "--sizes", tmp_path / given, "--classes", tmp_path / "classes.npy", "--capacity", "1,1,2",
            "--json",
        )  # fmt: skip
        assert (split.status, split.json["policy"]) == (0, "stratified(balanced)")
        assert split.json["samples_per_worker"] == [6, 6, 12]
        np.testing.assert_array_equal(Partition.load(tmp_path / "p").order, expected.order)
        told = quality(expected, sizes=sizes, classes=classes)
        assert split.json["bytes_per_worker"] == told.bytes.tolist()
        np.testing.assert_allclose(split.json["class_distance_per_worker"], told.class_distance, 1e-3, 1e-4)
        np.testing.assert_allclose(split.json["ks_per_worker"], told.ks, 1e-3)
        np.testing.assert_allclose(split.json["mean_score_per_worker"], told.mean, 1e-3)
        again = cli(
            "inspect",
            tmp_path / "p",
            "--sizes",
            tmp_path / given,
            "--classes",
            tmp_path / "classes.npy",
            "--json",
        ).json
        assert again == {name: value for name, value in split.json.items() if name != "written"}
    shards = cli(
        "shard", source, tmp_path / "out", "--scores", tmp_path / "s", "--workers", 3, "--policy", "balanced",
        "--classes", tmp_path / "classes.npy", "--capacity", "1,1,2", "--json",
    )  # fmt: skip
    assert (shards.status, shards.json["samples_per_worker"]) == (0, [6, 6, 12])
    np.testing.assert_array_equal(
        ShardSet.open(tmp_path / "out").worker_of(np.arange(N)), expected.worker_of(np.arange(N))
    )


def test_inspect_tells_what_each_file_is(cli: Callable, source: Path, dynamics: Path, tmp_path: Path) -> None:
    told = cli("inspect", dynamics, "--json").json
    assert (told["kind"], told["samples"], told["epochs"], told["never_observed"]) == ("dynamics", N, 3, 0)
    assert "loss" in told["quantities"]
    cli("index", source, "-o", tmp_path / "renamed.bin")
    assert cli("inspect", tmp_path / "renamed.bin", "--json").json["kind"] == "index"
    cli("score", dynamics, "-o", tmp_path / "s", "--measure", "aum")
    told = cli("inspect", tmp_path / "s", "--json").json
    assert (told["kind"], told["samples"], told["measure"], told["important"]) == ("scores", N, "aum", "low")
    cli("partition", tmp_path / "s", "-o", tmp_path / "p", "--workers", 2)
    assert cli("inspect", tmp_path / "p", "--json").json["kind"] == "partition"
    cli("shard", source, tmp_path / "out", "--partition", tmp_path / "p")
    told = cli("inspect", tmp_path / "out", "--json").json
    assert (told["kind"], told["samples"], told["samples_per_worker"]) == ("shards", N, [12, 12])
    alike = quality(Partition.load(tmp_path / "p"))
    np.testing.assert_allclose(told["ks_per_worker"], alike.ks, 1e-3)
    np.testing.assert_allclose(told["mean_score_per_worker"], alike.mean, 1e-3)
    tars = [sum(t.stat().st_size for t in (tmp_path / "out" / f"worker-00{w}").glob("*.tar")) for w in (0, 1)]
    assert told["bytes_per_worker"] == tars
    classes = np.arange(N) % 3
    np.save(tmp_path / "classes.npy", classes)
    told = cli("inspect", tmp_path / "out", "--classes", tmp_path / "classes.npy", "--json").json
    alike = quality(Partition.load(tmp_path / "p"), classes=classes)
    np.testing.assert_allclose(told["class_distance_per_worker"], alike.class_distance, 1e-3)
    shards = ShardSet.open(tmp_path / "out")
    live = [int(shards.index(w).nbytes.sum()) for w in (0, 1)]
    assert told["live_bytes_per_worker"] == live
    assert all(0 < some < whole for some, whole in zip(live, tars, strict=True))  # each tar ends in zeros
    plain = cli("inspect", tmp_path / "out")
    assert f"{N}" in next(line for line in plain.out.splitlines() if line.startswith("samples "))


def test_bytes_and_classes_are_told_without_scores(cli: Callable, tmp_path: Path) -> None:
    Partition(2, 1, np.array([3, 0, 1, 2]), np.array([0, 1, 4])).save(tmp_path / "p")
    np.save(tmp_path / "sizes.npy", np.array([1, 2, 4, 8]))
    np.save(tmp_path / "classes.npy", np.array([0, 0, 1, 1]))
    told = cli(
        "inspect", tmp_path / "p", "--sizes", tmp_path / "sizes.npy", "--classes", tmp_path / "classes.npy",
        "--json",
    ).json  # fmt: skip
    assert (told["bytes_per_worker"], told["class_distance_per_worker"]) == ([8, 7], [0.5, 0.1667])
    assert "ks_per_worker" not in told


def test_scores_without_an_index_have_no_keys(cli: Callable, dynamics: Path, tmp_path: Path) -> None:
    cli("score", dynamics, "-o", tmp_path / "s.parquet")
    assert Scores.load(tmp_path / "s.parquet").keys is None
    assert Dynamics.load(dynamics).num_samples == N


def test_several_runs_are_scored_as_one(cli: Callable, dynamics: Path, tmp_path: Path) -> None:
    other, fewer = tmp_path / "other.npz", tmp_path / "fewer.npz"
    Dynamics.from_history(loss=np.arange(2.0 * N).reshape(2, N)).save(other)
    Dynamics.from_history(loss=np.ones((2, N - 1))).save(fewer)
    scored = cli("score", dynamics, other, "-o", tmp_path / "s.parquet", "--json")
    assert (scored.status, scored.json["metadata"]) == (0, {"epochs": "3, 2", "runs": "2"})
    want = score([Dynamics.load(dynamics), Dynamics.load(other)], "loss_mean").values
    np.testing.assert_array_equal(Scores.load(tmp_path / "s.parquet").values, want)
    refused = cli("score", dynamics, fewer, "-o", tmp_path / "t.parquet")
    assert (refused.status, (tmp_path / "t.parquet").exists()) == (2, False)
    assert f"dynamics[1]: {N - 1} samples; dynamics[0] is of {N}" in refused.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(cli: Callable, command: str) -> None:
    helped = cli(command, "--help")
    assert helped.status == 0
    assert f"pyimportance {command}" in helped.out
    assert "Example" in helped.out


def test_without_a_command_the_help_and_status_2(cli: Callable) -> None:
    outcome = cli()
    assert outcome.status == 2
    assert all(command in outcome.out for command in COMMANDS)


def test_version(cli: Callable) -> None:
    outcome = cli("--version")
    version, extension = outcome.out.splitlines()
    assert (outcome.status, version) == (0, "pyimportance 0.1.0")
    built = list(Path(_C.__file__).parent.glob("_cuda.*.so"))
    assert extension.startswith("pyimportance._cuda is built" if built else "pyimportance._cuda is not built")


def test_help_is_quick_because_it_loads_no_torch() -> None:
    code = (
        "import sys\nfrom pyimportance.cli.app import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "print(*[m for m in ('torch', 'pyarrow', 'scipy') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == ""


def test_bench_lists_and_runs_scripts(cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bench" / "bench_echo.py").write_text(
        "import sys\nif __name__ == '__main__':\n    print(*sys.argv[1:])\n"
    )
    monkeypatch.chdir(tmp_path / "bench")
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert cli("bench").out == "echo\n"
    assert cli("bench", "echo", "--size", 3).out == "--size 3\n"
    assert "bench 'nonsense' is unknown; there are echo" in cli("bench", "nonsense").err


def test_every_bench_that_the_help_names_is_there(cli: Callable) -> None:
    there = cli("bench").out.split()
    parameters = inspect.signature(bench, eval_str=True).parameters
    about = parameters["name"].annotation.__metadata__[0].help
    named = re.findall(r"\w+", about.partition(";")[0].replace(" or ", ", "))
    assert sorted(named) == there  # all of them, and no others
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for text in (cli("bench", "--help").out, readme):
        examples = re.findall(r"pyimportance bench (\w+)", text)
        assert examples
        assert set(examples) <= set(there)
