"""Windows that threads read ahead: what comes out, what goes wrong with which sample, what is left behind."""

import gc
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from pyimportance import _C, ArgumentError, DataError, index, write_shards
from pyimportance.io.meter import Meter
from pyimportance.load.ahead import Columns, ReadAhead
from pyimportance.load.holding import Part
from pyimportance.load.reader import Stream
from tests.load.samples import requests

SIZES = (0, 1, 511, 512, 3000, 2**14 - 1, 2**14, 70_001, 5 * 2**20)


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_tar, divide):
    """(index of shards with parts of all sizes, parts by id)"""
    folder = tmp_path_factory.mktemp("ahead")
    r = np.random.default_rng(5)
    parts = []
    for i in range(60):
        size = SIZES[i % len(SIZES)] if i % 10 else 40_000
        parts.append({"a": r.bytes(size), **({"b.c": r.bytes(i * 37)} if i % 3 else {}), "z": b"%d" % i})
    write_tar(
        folder / "source.tar", [(f"d/{i:03d}é" if i % 7 == 0 else f"{i:03d}", p) for i, p in enumerate(parts)]
    )
    shards = write_shards(index(folder / "source.tar"), divide([60], 2), folder / "set", shard_bytes=2**23)
    assert len(shards.shards) > 4
    return shards.index(0), parts


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the shards of `made` to damage: its index."""
    from dataclasses import replace

    files = []
    for name in made[0].files:
        files.append(str(tmp_path / os.path.basename(name)))
        shutil.copyfile(name, files[-1])
    return replace(made[0], files=tuple(files))


def read(ahead, found, rows, pad=None, columns=None):
    """What a stream yields of these rows, in windows of 17."""
    pad = np.zeros(len(rows), bool) if pad is None else pad
    runs = (Part(rows[i : i + 17], pad[i : i + 17], None) for i in range(0, len(rows), 17))
    return Stream(columns or Columns(found), runs, ahead, "disk")


def begun_since(before, most=20.0):
    """Threads that are not of ``before``; the system forgets one a moment after it was joined."""
    end = time.monotonic() + most
    while (begun := threads() - before) and time.monotonic() < end:
        time.sleep(0.01)
    return begun


def threads():
    return set(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_samples_are_what_was_written_whatever_the_threads(made, monkeypatch, threads):
    monkeypatch.setattr("pyimportance.load.ahead.default_threads", lambda: threads)
    monkeypatch.setattr("pyimportance.load.ahead._MOST_THREADS", threads)
    found, parts = made
    rows = np.random.default_rng(threads).permutation(np.tile(np.arange(len(found)), 3))
    pad = np.arange(len(rows)) % 5 == 0
    ahead = ReadAhead(meter := Meter())
    samples = [sample for some in read(ahead, found, rows, pad) for sample in some]
    for row, is_pad, sample in zip(rows.tolist(), pad.tolist(), samples, strict=True):
        i = int(found.ids[row])
        common = {"__key__": found.key(row), "__url__": found.files[found.file[row]], "__index__": i}
        assert sample == {**common, "__weight__": 1.0, "__pad__": is_pad, **parts[i]}
        assert list(sample)[:5] == ["__key__", "__url__", "__index__", "__weight__", "__pad__"]
    ahead.close()
    windows = [np.unique(rows[i : i + 17]) for i in range(0, len(rows), 17)]
    assert meter.bytes("disk") == sum(int(found.nbytes[window].sum()) for window in windows)


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("join", [0, 16 << 10])
def test_what_is_small_between_is_read_where_there_are_gaps(made, monkeypatch, views, join):
    """In requests that are fewer, and counted; nothing of it is held by views."""
    found, parts = made
    rows = np.random.default_rng(join).permutation(len(found))[:40]
    columns, ahead = Columns(found, views=views, has_gaps=True), ReadAhead(meter := Meter())
    monkeypatch.setattr(ahead, "_join", join)
    for some in read(ahead, found, rows, columns=columns):
        for sample in some:
            for name, payload in parts[sample["__index__"]].items():
                assert sample[name] == payload
    ahead.close()
    windows = [rows[i : i + 17] for i in range(0, len(rows), 17)]
    asked = [request for window in windows for request in requests(found, window, join)]
    assert meter.requests("disk") == len(asked) < sum(len(requests(found, w, -1)) for w in windows)
    assert meter.bytes("disk") == sum(end - begin for _, begin, end in asked) > found.nbytes[rows].sum()


def test_neighbours_are_read_in_one_request(made):
    found, _ = made
    small = np.flatnonzero((found.file == found.file[0]) & (np.cumsum(found.nbytes) < 2**22))
    assert len(small) > 2
    ahead = ReadAhead(meter := Meter())
    list(read(ahead, found, small[:17][::-1].copy()))
    assert meter.requests("disk") == 1
    ahead.close()


def test_windows_that_were_consumed_are_let_go(made):
    """Their memory is read into again, and no more than the two of an iteration are ever held."""
    found, _ = made
    ahead, held = ReadAhead(Meter()), weakref.WeakSet()
    begin = ahead.window

    def window(*args, **options):
        begun = begin(*args, **options)
        held.add(begun.native)
        return begun

    ahead.window = window
    most = [len(held) for _ in read(ahead, found, np.tile(np.arange(len(found)), 5))]
    assert max(most) == 2
    ahead.close()


def test_what_is_kept_stays_as_it_is(made):
    """Bytes objects are read into again only where nobody has them any more, and then they are new ones."""
    found, parts = made
    ahead, r = ReadAhead(Meter()), np.random.default_rng(0)
    columns, kept = Columns(found), []
    for _ in range(4):
        rows = np.tile(r.permutation(len(found)), 2)
        for some in read(ahead, found, rows, columns=columns):
            for sample in some:
                i, part = sample["__index__"], sample["a"]
                assert hash(part) == hash(bytes(bytearray(part)))
                assert part + b"." == parts[i]["a"] + b"."
                if r.random() < 0.2:
                    kept.append((i, memoryview(part) if r.random() < 0.5 else part))
        del some, sample, part
    assert all(bytes(part) == parts[i]["a"] for i, part in kept)
    ahead.close()


def test_an_error_comes_at_its_sample(copied):
    """A header is overwritten, a file is cut: what can be read is, in order, up to the first that cannot."""
    row = 7
    with open(copied.files[copied.file[row]], "r+b") as file:
        file.seek(int(copied.offset[row]))
        file.write(b"?")
    order = np.array([20, 3, 7, 4, 30])
    ahead, samples = ReadAhead(Meter()), []
    with pytest.raises(DataError, match="its checksum does not match") as caught:
        samples.extend(sample for some in read(ahead, copied, order) for sample in some)
    assert [sample["__index__"] for sample in samples] == copied.ids[order[:2]].tolist()
    header = int(copied.part_offset[copied.part_start[row]]) - 512
    assert (caught.value.path, caught.value.offset) == (copied.files[copied.file[row]], header)
    ahead.close()


def test_a_file_that_is_cut_while_it_is_open(copied, monkeypatch):
    """A range that cannot be read as a whole is read sample by sample: only those behind the cut are lost."""
    lying = np.flatnonzero(copied.file == copied.file[0])
    assert len(lying) > 3
    from pyimportance.load import ahead as module

    path, size = copied.files[0], int(copied.file_bytes[0])
    cut = int(copied.part_offset[copied.part_start[lying[-1]]]) - 512 + 100
    opened = module.open_file

    def cutting(name, *args):
        file = opened(name, *args)
        os.truncate(path, cut)
        return file

    monkeypatch.setattr(module, "open_file", cutting)
    ahead, samples = ReadAhead(Meter()), []
    with pytest.raises(DataError, match="the file ends here; it has become shorter") as caught:
        samples.extend(sample for some in read(ahead, copied, lying) for sample in some)
    assert len(samples) == len(lying) - 1
    assert (caught.value.path, caught.value.offset) == (path, cut)
    assert caught.value.member == f"{copied.key(lying[-1])}.a"
    assert cut < size
    ahead.close()


def test_an_index_whose_parts_are_out_of_order(made):
    from dataclasses import replace

    found, _ = made
    swapped = {name: getattr(found, name).copy() for name in ("part_ext", "part_offset", "part_size")}
    for column in swapped.values():
        column[[0, 1]] = column[[1, 0]]
    with pytest.raises(DataError, match="does not list the parts of this sample in the order") as caught:
        list(read(ReadAhead(Meter()), replace(found, **swapped), np.arange(3)))
    assert (caught.value.path, caught.value.member) == (found.files[0], found.key(0))


def test_what_is_asked_for_after_the_end_is_not_waited_for(made):
    found, _ = made
    ahead = ReadAhead(Meter())
    stream = iter(read(ahead, found, np.arange(len(found))))
    next(stream)
    for window, _ in ahead._asked:
        window.wait()  # both that were begun are whole, and a third one will be asked for
    ahead.close()
    with pytest.raises(ArgumentError, match=r"was not read|closed"):
        list(stream)


@pytest.mark.parametrize("end", ["close", "forget", "interrupt"])
def test_no_thread_is_left(made, end):
    found, _ = made
    before = threads()
    ahead = ReadAhead(Meter())
    assert threads() <= before  # they start with the first window
    stream = iter(read(ahead, found, np.arange(len(found))))
    next(stream)
    assert not threads() <= before
    if end == "close":
        ahead.close()
        with pytest.raises(ArgumentError, match=r"was not read|closed"):
            list(stream)
    elif end == "interrupt":
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job
        with pytest.raises(KeyboardInterrupt):
            [signal.raise_signal(signal.SIGINT) for _ in stream]
        signal.signal(signal.SIGINT, handler)
    del ahead, stream
    gc.collect()
    assert not begun_since(before)


@pytest.mark.parametrize("cold", [False, True])
def test_more_threads_read_what_comes_from_a_device(made, copied, monkeypatch, fsync, cold):
    """Once the first range did; what is in the page cache is not worth their wakening."""
    monkeypatch.setattr("pyimportance.load.ahead.default_threads", lambda: 1)
    for name in copied.files:
        with open(name, "rb") as file:
            fsync(file.fileno())
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, devices = threads(), resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    ahead = ReadAhead(Meter())
    stream = read(ahead, copied, np.random.default_rng(0).permutation(len(copied)))
    for sample in (sample for some in stream for sample in some):
        assert sample["a"] == made[1][sample["__index__"]]["a"]
    begun = threads() - before
    ahead.close()
    if cold and resource.getrusage(resource.RUSAGE_SELF).ru_inblock == devices:
        pytest.skip("the kernel counts no bytes for a cold read: these are not on a disk")
    assert len(begun) == (8 if cold else 1)
    assert not begun_since(before)


FORK = """
import gc, os, sys, time
from pyimportance import ArgumentError, ImportanceDataset

def forked(what):
    child = os.fork()
    if child == 0:
        os._exit(what())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def go_on():
    global begun
    try:
        list(begun)
    except ArgumentError as error:
        assert "before a fork" in str(error)
        del begun
        return len(list(dataset))
    return 1

def drop():
    global begun
    before = dataset.counts()
    del begun
    gc.collect()
    return int((dataset.counts() != before).sum())

dataset = ImportanceDataset(sys.argv[1], window_bytes=int(sys.argv[2]), rank=0, world_size=1)
begun = iter(dataset)
next(begun)
time.sleep(0.2)  # what is read ahead is read
print(forked(drop), forked(go_on), end=" ")
print(1 + len(list(begun)), dataset.counts()[2, 0] / dataset.shards.index(0).nbytes.sum())
"""


@pytest.mark.parametrize("window", [1, 4096])
def test_a_forked_child_reads_anew(shard_set, window):
    """What it inherits has no threads there: it says so, goes away without waiting or counting what the
    parent will count, and is no hindrance. That a window of it was read before changes nothing.
    """
    shards, _ = shard_set((31,))
    command = [sys.executable, "-W", "ignore", "-c", FORK, shards.root, str(window)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.stdout == "0 31 31 2.0\n", result.stderr  # what child and parent read, each once


def test_rows_far_apart_in_a_large_index(tmp_path):
    """More than 2**22 rows: sorting them took more memory than it was given."""
    samples = 5 << 20
    columns = _C.LoadColumns(  # of zeros that nobody has written: they take no memory
        np.zeros(samples + 1, np.int64),
        np.zeros(0, np.uint8),
        ("x",),
        np.arange(samples),
        np.zeros(samples, np.int32),
        np.zeros(samples, np.int64),
        np.zeros(samples, np.int64),
        np.zeros(samples + 1, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
        (str(tmp_path / "a.tar"),),
        [],
        False,
    )
    rows = np.random.default_rng(0).permutation(samples)[: 1 << 14]
    ahead = _C.ReadAhead(1)
    for _ in range(20):
        window = _C.LoadWindow(ahead, columns, rows, np.zeros(len(rows), bool), [], 1)
        assert len(window) == len(rows)
    ahead.close()
