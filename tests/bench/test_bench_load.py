"""The bench of loaders runs the cases it is asked for, on a page cache that is cold where it says so."""

from __future__ import annotations

import json
import mmap
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def test_files_are_out_of_the_page_cache_also_where_they_are_mapped(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    cold = bench("_load_cold")
    path = tmp_path / "below" / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)) * 4096)
    assert cold.cached(tmp_path) == 1
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[:]) == 4096 * 255 * 128
        cold.forget(tmp_path)
        if cold.cached(tmp_path) == 1:
            pytest.skip("the file system is memory")
        assert cold.cached(tmp_path) == 0
        assert sum(mapped[:]) == 4096 * 255 * 128
        assert cold.cached(tmp_path) == 1


HOLDER = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    print(sum(mapped[:]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("ends", [False, True])
def test_what_other_processes_have_mapped_is_waited_for_and_told(
    bench: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ends: bool,
) -> None:
    cold = bench("_load_cold")
    path = tmp_path / "file"
    path.write_bytes(bytes(2**20))
    (tmp_path / "other").write_bytes(bytes(3 * 2**20))
    cold.forget(tmp_path)
    if cold.cached(tmp_path) == 1:
        pytest.skip("the file system is memory")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        assert cold.mapped_by(tmp_path) == [holder.pid]
        if ends:
            monkeypatch.setattr(time, "sleep", lambda _: holder.communicate())
            assert cold.forget(tmp_path) == 0
        else:
            monkeypatch.setattr(cold, "PATIENCE", 0.2)
            assert cold.forget(tmp_path) == pytest.approx(0.25, abs=0.01)
    told = f"25.0% of {tmp_path} stays in the page cache; processes that have it mapped: [{holder.pid}]"
    assert (told in capsys.readouterr().err) == (not ends)
    assert cold.forget(tmp_path) == 0


def test_memory_is_that_of_a_loader_process_and_of_all(
    bench: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    cases, module = bench("_load_cases"), bench("load")
    report, data = module.Report("load", item="sample", about=""), bench("_load_data").Data(tmp_path, 600, 32)
    contenders = cases.Contenders(report, "3KB", data, cases.Turns(1, None))
    contenders.find(["webdataset"], {})
    contenders.peers = {"pyimportance": contenders.peers["pyimportance"]}
    contenders.memory()
    with_processes, without = report.rows
    assert (with_processes.contender, without.contender) == (
        "pyimportance",
        "pyimportance, no loader process",
    )
    found = r"PSS (\d+) MB, (\d+) without files: a loader process; (\d+) MB in all"
    match = re.fullmatch(found, with_processes.notes)
    assert match, with_processes.notes
    one, own, every = map(int, match.groups())
    assert 20 < own <= one < every - one  # two of them, and the process that has them
    assert re.fullmatch(r"PSS \d+ MB, \d+ without files: this process", without.notes)


def test_load_runs_the_cases_and_peers_that_are_chosen_and_keeps_those_that_ended(
    bench: Callable[[str], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, path = bench("load"), tmp_path / "report.json"
    kept = []

    def interrupted(*_: object, **__: object) -> None:
        kept.append(json.loads(Path(f"{path}.part").read_text()))
        raise KeyboardInterrupt

    options = ["--quick", "--repeats", "1", "--json", str(path)]
    assert module.main([*options, "--cases", "samples", "--peers", "wids"]) == 0
    report = json.loads(path.read_text())
    assert {row["case"] for row in report["rows"]} == {"3KB samples, this process"}
    assert "webdataset" not in {row["contender"] for row in report["rows"]}
    beside_plain = [aim for aim in report["aims"] if aim["what"] == "times the speed of plain reading"]
    ours = ["pyimportance", "pyimportance, batched", "pyimportance, memoryview"]
    assert [aim["contender"] for aim in beside_plain] == ours
    for aim in beside_plain:
        assert aim["reached"] == (aim["got"]["median"] >= aim["bound"] == 0.5)
    assert not Path(f"{path}.part").exists()
    path.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "first_batch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            module.main([*options, "--cases", "tensors,first", "--peers", "wids"])
    assert {row["case"] for row in kept[0]["rows"]} == {"3KB samples, tensors of 256"}
    assert not path.exists()
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        module.main(["--peers", "webdatasets"])
    assert ended.value.code == 2
    assert "argument --peers: 'webdatasets' is unknown; there are webdataset, wids" in capsys.readouterr().err
