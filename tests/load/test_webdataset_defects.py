"""What webdataset 1.0 does that nobody wants to be loaded so, each beside what ours does with the same call.

Every test first shows webdataset fail: where a later release no longer does, the test says so. Those that
concern what is in tars, as they are written or indexed, are in ``tests/shards/test_defects.py``.
"""

import os
import pickle
import tarfile

import pytest
import webdataset as wds

from pyimportance import ArgumentError, DataError, WebDataset

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves files to the collector


@pytest.fixture
def tars(tmp_path, write_tar):
    """12 tars of two samples."""
    for n in range(12):
        samples = [(f"{n:02d}-{i}", {"cls": b"%d" % i, "txt": b"text"}) for i in range(2)]
        write_tar(tmp_path / f"{n:03d}.tar", samples)
    return f"{tmp_path}/{{000..011}}.tar"


def keys(dataset):
    return [sample["__key__"] for sample in dataset]


def test_1_the_same_shards_first_in_every_epoch(tars):
    theirs = wds.WebDataset(tars, shardshuffle=100)
    assert keys(theirs) == keys(theirs)
    ours = WebDataset(tars, shardshuffle=100)
    one, two = keys(ours), keys(ours)
    assert one != two
    assert sorted(one) == sorted(two)


def test_2_short_epochs_see_the_same_samples_for_ever(tars):
    theirs = wds.WebDataset(tars, shardshuffle=False).with_epoch(4)
    assert {tuple(keys(theirs)) for _ in range(6)} == {tuple(keys(theirs))}
    ours = WebDataset(tars, shardshuffle=False).with_epoch(4)
    seen = [key for _ in range(6) for key in keys(ours)]
    assert len(seen) == len(set(seen)) == 24


def test_3_a_tar_that_was_cut_short(tmp_path, write_tar):
    whole, cut = tmp_path / "whole.tar", tmp_path / "cut.tar"
    write_tar(whole, [(f"{i}", {"a": b"a" * 400, "b": b"b" * 400}) for i in range(10)])
    member = 1024  # a header and a block of payload, in this format
    for members, found in ((10, 5), (11, 6)):
        cut.write_bytes(whole.read_bytes()[: members * member])
        theirs = list(wds.WebDataset(str(cut), shardshuffle=False))
        assert len(theirs) == found  # of ten; the sixth has lost a part
        with pytest.raises(DataError, match=rf"cut\.tar.*offset {members * member}"):
            WebDataset(cut)


def test_4_keys_that_are_interleaved(tmp_path, write_tar):
    path = tmp_path / "interleaved.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("0.a", "1.a", "0.b", "1.b"):
            tar.addfile(tarfile.TarInfo(name))
    assert keys(wds.WebDataset(str(path), shardshuffle=False)) == ["0", "1", "0", "1"]
    with pytest.raises(DataError, match=r"interleaved\.tar"):
        WebDataset(path)


def bytes_read():
    """By this process, as the system counts them."""
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_6_selected_files_alone_are_read(tmp_path, write_tar):
    path = tmp_path / "large.tar"
    write_tar(path, [(f"{i}", {"cls": b"7", "bin": bytes(2**18)}) for i in range(16)])

    def epoch(dataset):
        before = bytes_read()
        samples = list(dataset)
        assert [sample["cls"] for sample in samples] == [b"7"] * 16
        assert "bin" not in samples[0]
        return bytes_read() - before

    options = {"shardshuffle": False, "select_files": lambda name: name.endswith(".cls")}
    theirs, ours = (make(str(path), **options) for make in (wds.WebDataset, WebDataset))
    list(ours)  # what Python imports by then is read as well
    assert epoch(theirs) > 0.95 * os.path.getsize(path)
    assert epoch(ours) < 0.01 * os.path.getsize(path)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_8_reading_data_runs_nothing(tmp_path, write_tar):
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for place in (theirs, ours):
        write_tar(f"{place}.tar", [("0", {"pkl": pickle.dumps(Hostile(str(place)))})])
    next(iter(wds.WebDataset(f"{theirs}.tar", shardshuffle=False).decode()))
    assert theirs.is_dir()
    with pytest.raises(ArgumentError, match=r"'pkl' is a pickle, .* decode\(unsafe_pickle=True\)"):
        next(iter(WebDataset(f"{ours}.tar").decode()))
    assert not ours.exists()
    next(iter(WebDataset(f"{ours}.tar").decode(unsafe_pickle=True)))
    assert ours.is_dir()

    shell = "pipe:mkdir {0}.shell; cat {0}.tar"
    next(iter(wds.WebDataset(shell.format(theirs), shardshuffle=False)))
    assert os.path.isdir(f"{theirs}.shell")
    with pytest.raises(ArgumentError, match="would run a shell; fetch the tars to files"):
        WebDataset(shell.format(ours))
    assert not os.path.exists(f"{ours}.shell")


def ranks(monkeypatch, size, make):
    found = []
    for rank in range(size):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(size))
        found.append(list(make()))
    return found


@pytest.mark.parametrize(("size", "theirs"), [(5, [6, 6, 4, 4, 4]), (16, [2] * 12 + [0] * 4)])
def test_9_ranks_yield_equally_much(monkeypatch, tars, size, theirs):
    options = {"nodesplitter": wds.split_by_node, "shardshuffle": False, "empty_check": False}
    found = ranks(monkeypatch, size, lambda: wds.WebDataset(tars, **options))
    assert [len(samples) for samples in found] == theirs
    found = ranks(monkeypatch, size, lambda: WebDataset(tars, **options))
    assert {len(samples) for samples in found} == {-(-24 // size)}
    once = [sample["__key__"] for samples in found for sample in samples if not sample["__pad__"]]
    assert len(once) == len(set(once)) == 24


def test_10_length_position_and_ranks_by_default(monkeypatch, tars):
    theirs = wds.WebDataset(tars, shardshuffle=False)
    assert not hasattr(theirs, "state_dict")
    with pytest.raises(TypeError):
        len(theirs)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="explicit nodesplitter"):
        list(theirs)
    ours = WebDataset(tars).shuffle(100)
    whole = keys(ours)
    assert len(ours) == len(whole) == 12
    ours.set_epoch(0)
    iterator = iter(ours)
    head = [next(iterator)["__key__"] for _ in range(5)]
    again = WebDataset(tars).shuffle(100)
    again.load_state_dict(ours.state_dict())
    assert head + keys(again) == whole


def test_samples_are_the_same(tars):
    def samples(dataset):
        more = {"__index__", "__weight__", "__pad__", "__local_path__"}  # ours, and the last one theirs
        return [{k: v for k, v in sample.items() if k not in more} for sample in dataset]

    ours = samples(WebDataset(tars, shardshuffle=False))
    assert ours == samples(wds.WebDataset(tars, shardshuffle=False))
