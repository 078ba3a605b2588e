"""What can be refused before a long pass over the data is refused before it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from pyimportance import Dynamics, Scores, __version__
from pyimportance.cli import data

N = 24
BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    Scores(np.arange(N, dtype=np.float32)).save(tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


@pytest.fixture
def not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and dynamics cannot be read."""

    def read(*_: object) -> NoReturn:
        raise AssertionError("was read")

    monkeypatch.setattr(data, "read_source", read)
    monkeypatch.setattr(Dynamics, "load", read)


SHARD_OPTIONS = [
    (("--workers", 0), "--workers 0: must be at least 1"),
    (("--policy", "bogus"), "--policy 'bogus' is unknown"),
    (("--bins", 0), "--bins 0: must be at least 1"),
    (("--seed", -1), "--seed -1: must be at least 0"),
    (("--k", 3), "--policy 'stripes' has no option 'k'"),
    (("--policy", "sticky", "--k", 0), "--k 0: must be at least 1"),
    (("--policy", "sticky", "--tolerance", 2), "--tolerance 2.0: must be within 0..1"),
    (("--capacity", "1,2,3"), "--capacity: float64 of shape [3]"),
    (("--capacity", "0,0"), "--capacity: all 2 are 0"),
    (("--classes", "few.npy"), "--classes: int64 of shape [3]"),
    (("--classes", "none.npy"), "none.npy"),
    (("--shard-bytes", 0), "--shard-bytes 0: must be at least 1"),
    (("--keys", "bogus"), "--keys 'bogus': allowed are 'error' and 'prefix'"),
]


@pytest.mark.usefixtures("not_read")
@pytest.mark.parametrize(("options", "words"), SHARD_OPTIONS)
def test_options_of_shard(
    *,
    cli: Callable,
    scores: Path,
    tmp_path: Path,
    options: tuple[object, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "few.npy", np.arange(3))
    workers = () if options[0] == "--workers" else ("--workers", 2)
    cli("shard", "no.tar", "out", "--scores", scores, *workers, *options).refused(words)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("not_read")
def test_an_output_folder_that_holds_something_else(cli: Callable, scores: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    shard = ("shard", "no.tar", tmp_path / "out", "--scores", scores, "--workers", 2)
    cli(*shard).refused(tmp_path / "out", "holds something else ('thesis.tex')")
    cli("shard", "no.tar", scores, "--scores", scores, "--workers", 2).refused(scores, "is a file")
    below = scores / "a" / "b"
    cli("shard", "no.tar", below, "--scores", scores, "--workers", 2).refused(below, "is no directory")


@pytest.mark.usefixtures("not_read")
@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("no/dir/x", "x: cannot be written (No such file or directory)"),
        ("file/x", "x: cannot be written (Not a directory)"),
        ("folder", "folder: exists and is no regular file"),
    ],
)
def test_outputs_that_cannot_be_written(
    cli: Callable, tmp_path: Path, output: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scores, "load", Dynamics.load)  # cannot be read either
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    cli("index", "no.tar", "-o", tmp_path / output).refused(words)
    cli("score", "no.npz", "-o", tmp_path / output).refused(words)
    cli("partition", "no.parquet", "-o", tmp_path / output, "--workers", 2).refused(words)


def test_an_output_that_is_there_stays_where_the_input_is_refused(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    cli("index", tmp_path / "no.tar", "-o", tmp_path / "x").refused("no.tar")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "mine")]


@pytest.mark.parametrize("options", [("--workers", 0), ("--workers", 2, "--bins", 0)])
def test_options_of_partition(cli: Callable, tmp_path: Path, options: tuple[object, ...]) -> None:
    cli("partition", "no.parquet", "-o", tmp_path / "p", *options).refused(
        f"{options[-2]} 0: must be at least 1"
    )


def test_a_bench_that_could_not_write_its_report(tmp_path: Path) -> None:
    table = tmp_path / "no" / "x.json"
    for command in ([str(BENCH / "bench_order.py")], ["-m", "pyimportance", "bench", "order"]):
        result = subprocess.run(
            [sys.executable, *command, "--quick", "--json", str(table)],
            capture_output=True, text=True, check=False, cwd=BENCH.parent,
        )  # fmt: skip
        assert (result.returncode, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.endswith(f"error: {table}: cannot be written (No such file or directory)")


def test_the_package_is_a_command_too() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pyimportance", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith(f"pyimportance {__version__}\n")
