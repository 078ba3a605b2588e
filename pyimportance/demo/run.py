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

from pyimportance.demo.config import DemoConfig
from pyimportance.demo.digits import digits_files, write_digits
from pyimportance.demo.launch import check_memory, run_ranks
from pyimportance.demo.plots import bytes_per_policy, check_matplotlib, data_map, save
from pyimportance.demo.results import report
from pyimportance.demo.source import ImageSource, open_source
from pyimportance.errors import ArgumentError, OutputError
from pyimportance.io.atomic import make_directory, write_bytes
from pyimportance.io.lock import locked
from pyimportance.score.dynamics import Dynamics

MARK = ".pyimportance-demo"
"""An (empty) file by which a folder is known as an earlier demo's, which the next may overwrite."""
DIGITS, WORK = "data", "work-"
PARTIAL = "report-partial.json"
"""What is finished of a demo that is not; removed when it is."""
PLOTS = ("bytes.png", "data_map.png")

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
        out: a new or empty folder, or an earlier demo's, whose results stay until these replace them. After
            every run ``out``/report-partial.json says what is finished; it is of use where the demo ends
            before its end, and starts again from nothing. ``out``/dynamics.npz holds the dynamics of the
            first tracked run. Working files are removed at the end, except for the digits in ``out``/data.
        data: a folder of WebDataset tars of images with ``.cls`` labels; None is scikit-learn's digits.
        test, samples: see :func:`pyimportance.demo.source.open_source`.
        plots: also write data_map.png (if a run tracked) and bytes.png.
        progress: called with what rank 0 says after each epoch and run.

    Raises:
        ArgumentError: more ranks than training samples, or than there is memory for.
        DataError: data that cannot be trained on.
        OutputError: ``out`` holds something else, cannot be written, or another demo is writing there.
        PyimportanceError: an optional package is missing; a rank failed.
    """
    check_memory(config.workers)
    if plots:
        check_matplotlib()
    out = out.absolute()
    claim(out)
    with locked(str(out / MARK)):
        for killed in out.glob(f"{WORK}*"):
            shutil.rmtree(killed)
        if data is None and not all((out / DIGITS / name).exists() for name in digits_files()):
            write_digits(out / DIGITS)
        source = open_source(out / DIGITS if data is None else data, test=test, samples=samples)
        if (there := len(source.train.ids)) < config.workers:
            raise ArgumentError(f"workers={config.workers}: more than the {there} training samples")
        about = {"data": "scikit-learn digits" if data is None else str(data)} | _about(source)
        with tempfile.TemporaryDirectory(prefix=WORK, dir=out) as work:
            values = _run(config, source, Path(work), about=about, out=out, progress=progress)
            _publish(values, Path(work), out, plots)
    return values


def _about(source: ImageSource) -> dict[str, Any]:
    train = source.train
    return {
        "train_samples": len(train.ids),
        "train_bytes": int(train.index.nbytes[train.index.rows_of(train.ids)].sum()),
        "test_samples": len(source.test.ids),
        "image_shape": list(source.shape),
        "classes": source.classes,
    }


def _run(
    config: DemoConfig,
    source: ImageSource,
    work: Path,
    *,
    about: Mapping[str, Any],
    out: Path,
    progress: Progress | None,
) -> dict[str, Any]:
    """Runs everything; returns the report, which after every run is also what PARTIAL holds so far."""
    started = time.perf_counter()
    write_bytes(work / "config.json", json.dumps(config.to_dict()).encode())
    source.save(work)
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    values: dict[str, Any] = {}
    with closing(run_ranks(work, config.workers)) as news:
        for said in news:
            if said["event"] == "run":
                runs[said["policy"], said["seed"]] = said["ranks"]
                values = report(config, runs, {**about, "seconds": time.perf_counter() - started})
                _write(out / PARTIAL, values)
            if progress is not None:
                progress(said)
    return values


def _publish(values: Mapping[str, Any], work: Path, out: Path, plots: bool) -> None:
    """The results of a finished demo in the place of an earlier one's, the report last."""
    tracked = (work / "dynamics.npz").exists()
    if plots:
        save(bytes_per_policy(values), work / "bytes.png")
    if plots and tracked:
        save(data_map(Dynamics.load(work / "dynamics.npz")), work / "data_map.png")
    for name in ("dynamics.npz", *PLOTS):
        if (work / name).exists():
            (work / name).replace(out / name)
        else:
            (out / name).unlink(missing_ok=True)  # an earlier demo's, which says nothing of this one
    _write(out / "report.json", values)
    (out / PARTIAL).unlink()


def _write(path: Path, values: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(values, indent=2) + "\n").encode())


def claim(out: Path) -> None:
    """Makes the folder; OutputError where it holds something else than an earlier demo."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; the demo needs a folder of its own")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise OutputError(f"{out}: holds something else than an earlier demo; choose a new folder")
    make_directory(out)
