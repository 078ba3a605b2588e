"""RemoteFile: ranges of an object, each of the version that was opened, and every fault a clear error."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from pyimportance import DataError
from pyimportance.io import relay, remote
from pyimportance.io.meter import Meter
from pyimportance.io.storage import open_file, open_files, read_whole
from tests.server import Fault, Request, Server

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def short_waits(impatient: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a server that falls silent; others may be as slow as a loaded machine makes them."""
    if "[stall" in request.node.name:
        monkeypatch.setattr(remote, "_TIMEOUT", timedelta(seconds=1))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "data.bin").write_bytes(DATA)
    with Server(tmp_path) as server:
        yield server


def test_ranges_are_counted_as_the_server_counts_them(server: Server) -> None:
    meter = Meter()
    with open_file(f"{server.url}/data.bin", meter, "disk") as file:
        assert (file.size, file.path) == (len(DATA), f"{server.url}/data.bin")
        assert meter.counts.sum() == server.nbytes == 0
        assert file.pread(10, 3) == DATA[10:13]
        assert file.pread(len(DATA) - 5, 5) == DATA[-5:]
        assert file.pread(len(DATA), 0) == b""
        assert file.map() == DATA
    assert read_whole(f"{server.url}/data.bin", meter, "index") == DATA
    assert meter.bytes("disk") == 8 + len(DATA)
    assert meter.requests("disk") == 3
    assert meter.bytes("disk") + meter.bytes("index") == server.nbytes
    assert meter.requests("disk") + meter.requests("index") == len(server.ranges)
    assert {r.headers["if-match"] for r in server.ranges} == {file.version}


@pytest.mark.parametrize("etag", ["weak", None])
def test_servers_with_weak_tags_or_none(tmp_path: Path, etag: str | None) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with Server(tmp_path, etag=etag) as server, open_file(f"{server.url}/a") as file:  # type: ignore[arg-type]
        assert (file.version is None) == (etag is None)
        assert file.pread(1, 2) == DATA[1:3]
        (tmp_path / "a").write_bytes(DATA + b"!")
        with pytest.raises(DataError, match="offset 3: was changed while it was being read: it has 10241 by"):
            file.pread(3, 2)
        if etag:
            (tmp_path / "a").write_bytes(DATA[::-1])
            with pytest.raises(DataError, match=r"being read: its version is W/.* now and was W/"):
                file.pread(3, 2)


@pytest.mark.parametrize("new", [DATA[::-1], DATA + b"!", DATA[:50], b""])
def test_an_object_that_changes(server: Server, tmp_path: Path, new: bytes) -> None:
    with open_file(f"{server.url}/data.bin") as file:
        assert file.pread(0, 10) == DATA[:10]
        (tmp_path / "data.bin").write_bytes(new)
        with pytest.raises(
            DataError, match=r"bin, offset 20: was changed while .* is no longer \"[0-9a-f]+\"$"
        ):
            file.pread(20, 10)


def test_an_object_that_changes_while_a_body_is_resumed(server: Server, tmp_path: Path) -> None:
    """The first half of the old one is not continued by the second of the new."""
    with open_file(f"{server.url}/data.bin") as file:
        server.fail("reset")
        count = len(server.requests)

        def change(request: object) -> None:
            if len(server.requests) == count + 2:
                (tmp_path / "data.bin").write_bytes(DATA[::-1])

        server.on_request = change
        with pytest.raises(DataError, match=r"data\.bin, offset 0: "):
            file.pread(0, len(DATA))
        assert len(server.requests) == count + 2


@pytest.mark.parametrize("fault", ["reset", "truncate", "stall", 500, 503])
def test_what_passes_is_tried_again(server: Server, fault: Fault) -> None:
    with open_file(f"{server.url}/data.bin") as file:
        server.fail(fault)
        assert file.pread(100, 5000) == DATA[100:5100]


@pytest.mark.parametrize(
    ("fault", "requests", "error"),
    [
        ("reset", 3, "cannot be asked for (Connection reset by peer)"),
        ("truncate", 3, "the server ended its answer early"),
        ("stall", 3, "the server does not answer in time"),
        ("short", 1, "the server sent bytes 100 to 2600 instead of those that it was asked for"),
        ("whole", 1, "the server sends whole files only, not the ranges that it is asked for"),
        (500, 3, "the server answered 500 Internal Server Error, also when asked 2 times more"),
        (503, 3, "the server answered 503 Service Unavailable, also when asked 2 times more"),
        (416, 1, "the server answered 416 Range Not Satisfiable"),
        (403, 1, "access is denied (the server answered 403 Forbidden)"),
        (401, 1, "access is denied (the server answered 401 Unauthorized)"),
        (404, 1, "does not exist (the server answered 404 Not Found)"),
    ],
)
def test_what_stays_is_an_error(server: Server, fault: Fault, requests: int, error: str) -> None:
    meter = Meter()
    with open_file(f"http://me:secret@{server.url[7:]}/data.bin?signature=secret", meter) as file:
        server.forget()
        server.fail(fault, times=9)
        with pytest.raises(DataError) as caught:
            file.pread(100, 5000)
    assert str(caught.value) == f"{server.url}/data.bin, offset 100: {error}"
    assert (caught.value.path, caught.value.offset) == (f"{server.url}/data.bin", 100)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert len(server.requests) == requests
    assert meter.counts.sum() == 0


def test_past_the_end_nobody_is_asked(server: Server) -> None:
    with open_file(f"{server.url}/data.bin") as file:
        server.forget()
        with pytest.raises(DataError, match=f"ends at {len(DATA)}; 2 bytes were to be read here"):
            file.pread(len(DATA) - 1, 2)
    with pytest.raises(ValueError, match="is closed"):
        file.pread(0, 1)
    assert not server.requests


def test_a_url_that_is_signed_for_get_alone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with Server(tmp_path, heads=False) as server, open_file(f"{server.url}/a?signature=x") as file:
        assert (file.size, file.pread(0, 2)) == (len(DATA), DATA[:2])
        assert [r.method for r in server.requests] == ["HEAD", "GET", "GET"]
        with pytest.raises(
            DataError, match=r"/none: access is denied \(the server answered 403 Forbidden\)$"
        ):
            open_file(f"{server.url}/none?signature=x")


def test_a_server_that_fails_is_not_asked_in_other_ways(server: Server) -> None:
    server.fail(500, method="HEAD", times=99)
    with pytest.raises(
        DataError, match="the server answered 500 Internal Server Error, also when asked 2 times"
    ):
        open_file(f"{server.url}/data.bin")
    assert [r.method for r in server.requests] == ["HEAD"] * 3


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("{}/none.bin?secret", "{}/none.bin: does not exist (the server answered 404 Not Found)"),
        ("{}//data.bin", "{}//data.bin: names no object"),
        ("{}/../data.bin", "{}/../data.bin: names no object"),
        ("{}", "{}: names no object"),
        ("http:///data.bin", "http:///data.bin: names no host"),
        ("s3://", "s3://: names no bucket"),
        ("s3://secret:secret@bucket/a", "s3://bucket/a: holds credentials; they belong into environment"),
        ("http://127.0.0.1:9/a", "http://127.0.0.1:9/a: cannot be asked for (Connection refused), also when"),
        (
            "http://no.such.host.invalid/a",
            "http://no.such.host.invalid/a: cannot be asked for (failed",
        ),
    ],
)
def test_what_cannot_be_opened(server: Server, url: str, error: str) -> None:
    with pytest.raises(DataError) as caught:
        open_file(url.format(server.url))
    assert str(caught.value).startswith(error.format(server.url))
    assert "secret" not in str(caught.value)


def test_odd_names(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ä b").mkdir()
    (tmp_path / "ä b" / "50%?#.bin").write_bytes(b"odd")
    assert read_whole(f"{server.url}/%C3%A4%20b/50%25%3F%23.bin") == b"odd"
    assert read_whole(f"{server.url}/ä b/50%25%3F%23.bin") == b"odd"


def hold(server: Server, count: int) -> None:
    """From now on every request is answered once ``count`` of them wait."""
    together = threading.Barrier(count)
    server.on_request = lambda request: together.wait(30)


def test_ranges_ahead(server: Server) -> None:
    with open_file(f"{server.url}/data.bin") as file:
        hold(server, 8)
        begun = [file.begin(i * 100, 100) for i in range(16)]  # type: ignore[attr-defined]
        assert b"".join(bytes(b.result()) for b in begun) == DATA[:1600]
    assert len(server.ranges) == 16


def test_many_are_opened_at_once(server: Server, tmp_path: Path) -> None:
    hold(server, 5)
    for size in range(16):
        (tmp_path / f"{size}").write_bytes(bytes(size))
    paths = [f"{server.url if size % 3 else tmp_path}/{size}" for size in range(16)]
    with open_files(paths) as files:
        assert [f.size for f in files] == list(range(16))
    assert len(server.requests) == 10
    server.on_request = lambda request: None
    with pytest.raises(DataError, match="/none: does not exist"), open_files([*paths, f"{server.url}/none"]):
        pass


def forked(check: Callable[[], None]) -> str:
    """What `check` raises in a fork of this process."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            check()
            os.write(writable, b"nothing")
        except BaseException as e:
            os.write(writable, str(e).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with open(readable) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_reads_through_another_process(server: Server) -> None:
    with open_file(f"{server.url}/data.bin") as file:

        def check() -> None:
            assert file.pread(3, 5000) == DATA[3:5003]
            with open_file(f"{server.url}/data.bin") as again:
                begun = [again.begin(i * 100, 100) for i in range(100)]  # type: ignore[attr-defined]
                assert b"".join(bytes(b.result()) for b in begun) == DATA[:10_000]
            with pytest.raises(DataError, match=r"/none: does not exist \(the server answered 404"):
                open_file(f"{server.url}/none")
            with pytest.raises(DataError, match="cannot be asked for here: this process was forked from one"):
                remote.is_there(f"{server.url}/none")
            raise RuntimeError(f"all is well, {relay._here[0]._process.pid}")

        said = forked(check)
    assert said.startswith("all is well"), said
    helper = int(said.split()[-1])
    for _ in range(500):  # it ends with the process that it read for
        if not Path(f"/proc/{helper}").exists() or "Z" in Path(f"/proc/{helper}/stat").read_text():
            return
        time.sleep(0.02)
    raise AssertionError(f"process {helper} is still there")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_whose_helper_is_killed_says_so(server: Server) -> None:
    def check() -> None:
        file = open_file(f"{server.url}/data.bin")
        relay._here[0]._process.kill()
        relay._here[0]._process.wait()
        file.pread(0, 1)

    with open_file(f"{server.url}/data.bin"):
        said = forked(check)
    assert said == f"{server.url}/data.bin: the process that reads URLs for this one, a forked one, has ended"


def test_obstore_is_loaded_when_a_url_is_opened() -> None:
    code = (
        "import sys, pyimportance.io.storage as s, pyimportance.shards.writer\n"
        "print('obstore' in sys.modules)\n"
        "try: s.open_file('s3://')\n"
        "except ValueError: print('obstore' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("times", [1, 9, 10])
def test_what_is_replaced_while_it_is_read_is_one_or_the_other(
    server: Server, tmp_path: Path, times: int
) -> None:
    """As a set's pointer is, between the questions for its size and for its bytes."""
    left = times

    def replace(request: Request) -> None:
        nonlocal left
        if request.method == "GET" and left:
            left -= 1
            (tmp_path / "data.bin").write_bytes(b"%d" % left)

    server.on_request = replace
    if times < 10:
        assert read_whole(f"{server.url}/data.bin") == b"0"
    else:
        with pytest.raises(DataError, match="was changed while it was being read"):
            read_whole(f"{server.url}/data.bin")
