"""The scripts of bench/, as modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.bench.mutants import Breaks

BENCH = Path(__file__).parents[2] / "bench"
LIGHTER: dict[str, dict[str, Any]] = {  # than --quick: what takes time there is no matter of the bench's own
    "tracking": {"BATCH": 16},
    "observe": {"last_level_cache": lambda: 1 << 20},
    "load": {
        "keep_freed_memory": lambda: None,  # other tests look at what is given back
        "CASES": ("samples", "tensors", "loaders", "cold"),  # memory is measured in processes of their own
    },
}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``bench("order")`` is bench_order; ``bench("_harness")`` is _harness, which the benches share."""
    monkeypatch.syspath_prepend(str(BENCH))

    def module(name: str) -> ModuleType:
        found = importlib.import_module(name if (BENCH / f"{name}.py").exists() else f"bench_{name}")
        for attribute, value in LIGHTER.get(name, {}).items():
            monkeypatch.setattr(found, attribute, value)
        return found

    return module


@pytest.fixture
def no_figures(
    bench: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[[str, str, Breaks], None]:
    """``no_figures(*mutants[name])``: the bench ends with status 1, says what is wrong, has no figure."""

    def run(name: str, says: str, breaks: Breaks) -> None:
        module, report = bench(name), tmp_path / "report.json"
        breaks(module, monkeypatch)
        assert module.main(["--quick", "--repeats", "1", "--json", str(report)]) == 1
        shown = capsys.readouterr()
        assert "an answer is wrong, so there are no figures" in shown.err
        assert says in shown.err
        assert shown.out == ""
        assert not report.exists()

    return run
