"""https: a server is believed if its certificate is, and then read as any other."""

from __future__ import annotations

import ssl
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyimportance import DataError, ImportanceDataset, ShardSet, index, write_shards
from pyimportance.io.storage import open_file, read_whole
from tests.server import Server
from tests.shards.conftest import divide, make_members, tree, write_tar
from tests.tls import make_certificate

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    return make_certificate(tmp_path)


@pytest.fixture
def server(
    tmp_path: Path, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    (tmp_path / "served").mkdir()
    with Server(tmp_path / "served", tls=certificate[1]) as server:
        yield server


def test_from_the_source_to_the_samples(server: Server, tmp_path: Path) -> None:
    for shard in range(2):
        write_tar(server.root / f"data-{shard}.tar", make_members(shard, 20), dialect=tarfile.PAX_FORMAT)
    source, plan = f"{server.url}/data-{{0..1}}.tar?signature=secret", divide(40, 2, 2)
    assert server.url.startswith("https://")
    assert index(source).digest == index(server.root).digest
    for out, data in ((tmp_path / "out", source), (tmp_path / "local", server.root)):
        write_shards(data, plan, out, shard_bytes=20_000)
    remote, local = tree(tmp_path / "out"), tree(tmp_path / "local")
    assert remote.pop("job.json") != local.pop("job.json")  # which notes ETags of these, times of those
    assert remote == local
    (tmp_path / "out").rename(server.root / "out")
    shards = ShardSet.open(f"{server.url}/out")
    assert shards.verify().ok
    own, there = (ImportanceDataset(s, rank=0, world_size=1) for s in (tmp_path / "local", shards))
    assert [s["__key__"] for s in there] == [s["__key__"] for s in own]
    assert there.io_report().bytes("origin") > 0
    assert {r.status for r in server.ranges} <= {200, 206}
    for fault in ("reset", "truncate", 503):
        server.fail(fault, path="data-0.tar")
        assert read_whole(f"{server.url}/data-0.tar") == (server.root / "data-0.tar").read_bytes()


@pytest.mark.parametrize("known", [False, True])
def test_whom_nobody_vouches_for(
    certificate: tuple[Path, ssl.SSLContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """Unknown, or known but of another name: nothing is asked of it."""
    path, context = certificate
    if known:
        (tmp_path / "other").mkdir()
        path, context = make_certificate(tmp_path / "other", "127.0.0.2")
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with Server(tmp_path, tls=context) as server:
        with pytest.raises(DataError, match=rf"^{server.url}/key\.pem: .*certificate") as refused:
            open_file(f"{server.url}/key.pem?signature=secret")
        assert "secret" not in str(refused.value)
        assert server.requests == []
