"""run_demo: data -> rank processes -> report.json, dynamics.npz and plots in a folder."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pyimportance.demo.config import VANILLA, DemoConfig
from pyimportance.demo.digits import digits_files, write_digits
from pyimportance.demo.launch import run_ranks
from pyimportance.demo.plots import bytes_per_policy, check_matplotlib, data_map, save
from pyimportance.demo.results import report
from pyimportance.demo.source import open_source
from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io.atomic import make_directory, write_bytes
from pyimportance.score.dynamics import Dynamics

MARK = ".pyimportance-demo"
"""An (empty) file by which a folder is known as an earlier demo's, which the next may overwrite."""
WORK = "work-"
RESULTS = ("report.json", "dynamics.npz", "bytes.png", "data_map.png")

Progress = Callable[[Mapping[str, Any]], None]


def run_demo(
    config: DemoConfig,
    out: Path,
    *,
    data: Path | None = None,
    test: str | None = None,
    samples: int | None = None,
    plots: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs every policy on every seed and writes ``out``/report.json; returns what it holds.

    Args:
        config: what to run.
        out: a new or empty folder, or an earlier demo's. Working files in it are removed at the end, except
            for the digits in ``out``/data; ``out``/dynamics.npz holds the dynamics of the first tracked run.
        data: a folder of WebDataset tars of images with ``.cls`` labels; None is scikit-learn's digits.
        test, samples: see :func:`pyimportance.demo.source.open_source`.
        plots: also write data_map.png (if a run tracked) and bytes.png.
        progress: called with what rank 0 says after each epoch and run.

    Raises:
        ArgumentError: more ranks than training samples.
        DataError: data that cannot be trained on.
        OutputError: ``out`` holds something else or cannot be written.
        PyimportanceError: an optional package is missing; a rank failed.
    """
    if plots:
        check_matplotlib()
    out = out.absolute()
    claim(out)
    if data is None:
        data = out / "data"
        if not all((data / name).exists() for name in digits_files()):
            write_digits(data)
    source = open_source(data, test=test, samples=samples)
    if len(source.train.ids) < config.workers:
        raise ArgumentError(
            f"workers={config.workers}: more than the {len(source.train.ids)} training samples"
        )
    clear(out)
    sizes = source.train.index.nbytes[source.train.index.rows_of(source.train.ids)]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix=WORK, dir=out) as name:
        work = Path(name)
        write_bytes(work / "config.json", json.dumps(config.to_dict()).encode())
        source.save(work)
        runs: dict[tuple[str, int], list[dict[str, float]]] = {}
        with closing(run_ranks(work, config.workers)) as news:
            for said in news:
                if said["event"] == "run":
                    runs[said["policy"], said["seed"]] = said["ranks"]
                if progress is not None:
                    progress(said)
        if (work / "dynamics.npz").exists():
            shutil.move(work / "dynamics.npz", out / "dynamics.npz")
    about = {
        "data": "scikit-learn digits" if data == out / "data" else str(data),
        "train_samples": len(source.train.ids),
        "train_bytes": int(sizes.sum()),
        "test_samples": len(source.test.ids),
        "image_shape": list(source.shape),
        "classes": source.classes,
        "seconds": time.perf_counter() - started,
    }
    values = report(config, runs, about)
    write_bytes(out / "report.json", (json.dumps(values, indent=2) + "\n").encode())
    if plots:
        save(bytes_per_policy(values), out / "bytes.png")
        if any(policy not in VANILLA and policy != "random-fixed" for policy in config.policies):
            save(data_map(Dynamics.load(out / "dynamics.npz")), out / "data_map.png")
    return values


def claim(out: Path) -> None:
    """Makes ``out`` this demo's folder; OutputError where it holds something else."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; the demo needs a folder of its own")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise OutputError(f"{out}: holds something else than an earlier demo; choose a new folder")
    make_directory(out)
    write_bytes(out / MARK, b"")


def clear(out: Path) -> None:
    """Removes what an earlier demo left: its results, and working files if it was killed."""
    for name in RESULTS:
        (out / name).unlink(missing_ok=True)
    for work in out.glob(f"{WORK}*"):
        shutil.rmtree(work)
