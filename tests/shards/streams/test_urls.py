"""What is read in order, behind URLs."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyimportance import DataError, OutputError, index
from pyimportance.io.meter import Meter
from pyimportance.shards.spool import spool
from tests.server import Server

pytestmark = pytest.mark.usefixtures("impatient")


def test_compressed_tars(tmp_path: Path, write_tar: Any) -> None:
    (tmp_path / "web").mkdir()
    noise = np.random.default_rng(0).bytes(10 << 20)  # several requests, some of them ahead
    data = write_tar(tmp_path / "x.tar", [("0.bin", noise), ("1.txt", b"")]).read_bytes()
    (tmp_path / "web/a b.tar.gz").write_bytes(gzip.compress(data, 1))
    meter = Meter()
    with Server(tmp_path / "web") as server:
        url = f"{server.url}/a%20b.tar.gz?signature=secret"
        got = index(url, spool=tmp_path / "spool", meter=meter)
        assert got.keys.to_pylist() == ["0", "1"]
        assert Path(got.files[0]).name == "000000-a_b.tar"
        assert Path(got.files[0]).read_bytes() == data
        nbytes = (tmp_path / "web/a b.tar.gz").stat().st_size
        assert (meter.bytes("origin"), meter.requests("origin")) == (nbytes, -(-nbytes // (4 << 20)))
        assert "secret" not in (tmp_path / "spool/job.json").read_text()
        asked = len(server.requests)
        index(url, spool=tmp_path / "spool")
        assert sum(r.sent for r in server.requests[asked:]) == 0  # that it is still the same is asked alone
        (tmp_path / "web/a b.tar.gz").write_bytes(gzip.compress(data, 2))
        with pytest.raises(OutputError, match="in another state") as caught:
            index(url, spool=tmp_path / "spool")
        assert "secret" not in str(caught.value)


def test_an_answer_that_breaks_off(source: Path, tmp_path: Path) -> None:
    with Server(source) as server:
        server.fail("reset", times=50, path="data-003.tar")
        with pytest.raises(DataError, match=r"data-003\.tar, offset 0: "):
            spool(f"{server.url}/data-003.tar", tmp_path / "spool")
    with Server(source) as server:
        assert len(spool(f"{server.url}/data-003.tar", tmp_path / "spool")) == 40


def test_parquet(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "web/x.parquet")
    with Server(tmp_path / "web") as server:
        got = index(f"{server.url}/x.parquet", spool=tmp_path / "spool")
    assert got.keys.to_pylist() == ["x/00000000", "x/00000001"]
