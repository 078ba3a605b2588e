"""The command line in this process, and a small WebDataset to feed it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyimportance.cli.app import main

SAMPLES = 24


@dataclass
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refused(self, *words: object) -> None:
        """Asserts that bad input was refused: exit status 2 and one line on standard error with ``words``."""
        assert self.status == 2, self
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("pyimportance: error: ")
        for word in words:
            assert str(word) in lines[0]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``cli("index", source, "-o", path)``: exit status, standard output and standard error."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = ended.value.code
        return Outcome(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with two tars of twelve samples, .cls and .txt each."""
    folder = tmp_path / "source"
    folder.mkdir()
    for shard in range(2):
        with tarfile.open(folder / f"train-{shard}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(shard * 12, shard * 12 + 12):
                for extension, data in (("cls", str(i % 3).encode()), ("txt", b"x" * (40 * i))):
                    member = tarfile.TarInfo(f"{i:04d}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return folder
