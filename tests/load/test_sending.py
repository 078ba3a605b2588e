"""What loader processes send: the same objects as were sent, through memory that is let go of."""

import contextlib
import copy
import gc
import os
import pickle
import resource
import signal
import time
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from pyimportance import _C, ImportanceDataset, WebDataset, write_shards
from pyimportance.load import sending
from tests.load.conftest import divide, write_tar

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
METHODS = ["fork", "forkserver"]  # which inherits nothing, as spawn
ONE = {"rank": 0, "world_size": 1, "batch_size": 16}
N, SIDE = 160, 50
WHOLE = _C.LoadRegion.nbytes - 3 * 2**12  # but for the table of blocks


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of a shard set of 2 MB, parts by sample id)"""
    folder, r = tmp_path_factory.mktemp("sending"), np.random.default_rng(5)
    parts = [
        {"x": r.bytes(SIDE * SIDE * 3), "y": r.bytes(i % 5000), **({"z": b"%d" % i} if i % 3 else {})}
        for i in range(N)
    ]
    write_tar(folder / "s.tar", [(f"größe {i:03d}", p) for i, p in enumerate(parts)])
    return write_shards(folder / "s.tar", divide([N], 2), folder / "set"), parts


KINDS = {
    "dicts": ({}, {"batch_size": 16, "collate_fn": list}),
    "views": ({"parts": "memoryview"}, {"batch_size": 16, "collate_fn": list}),
    "collated": ({"select_files": ["x"]}, {"batch_size": 16}),
    "columns": ({"batched": True}, {"batch_size": None, "collate_fn": dict}),
    "columns of views": ({"batched": True, "parts": "memoryview"}, {"batch_size": None, "collate_fn": dict}),
    "fields": ({"batched": True, "fields": {"x": ("uint8", (SIDE, SIDE, 3))}}, {"batch_size": None}),
}


def plain(value):
    """With its types, for a comparison."""
    if isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value)
        return type(value), array.dtype, array.shape, array.tobytes()
    if isinstance(value, memoryview):
        return type(value), value.readonly, value.format, bytes(value)
    if isinstance(value, dict):
        return dict, [(k, plain(v)) for k, v in value.items()]
    if isinstance(value, list):
        return list, [plain(v) for v in value]
    return type(value), value


def loader(made, kind, processes, method=None, **more):
    options, how = KINDS[kind]
    dataset = ImportanceDataset(made[0], **ONE, **options, window_bytes=2**18)
    return dataset, DataLoader(dataset, num_workers=processes, multiprocessing_context=method, **how, **more)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_arrives_is_what_there_is_without_loader_processes(made, kind, method):
    (alone, here), (many, there) = (
        loader(made, kind, 0),
        loader(made, kind, 2, method, persistent_workers=True),
    )
    for epoch in range(2):
        alone.set_epoch(epoch)
        many.set_epoch(epoch)
        assert [plain(batch) for batch in there] == [plain(batch) for batch in here]


def test_it_went_through_memory(made):
    """And all of that is free again."""
    for kind in KINDS:
        dataset, batches = loader(made, kind, 2, "fork")
        list(batches)
        taken = os.fstat(dataset._shared._fd).st_blocks * 512
        assert taken > 2 * 16 * SIDE * SIDE * 3
        assert [dataset._shared.region(row).room() for row in (1, 2)] == [WHOLE] * 2


@pytest.mark.parametrize("method", METHODS)
def test_views_and_tensors_outlive_processes_and_loaders(made, method):
    kept = []
    for kind, name in (("views", "x"), ("fields", "x")):
        dataset, batches = loader(made, kind, 2, method, persistent_workers=True)
        for epoch in range(4):  # what is not kept of them is read into again
            dataset.set_epoch(epoch)
            for batch in batches:
                some = batch[3] if kind == "views" else batch
                index = int(some["__index__"] if kind == "views" else some["__index__"][5])
                kept.append((index, some[name] if kind == "views" else some[name][5]))
        for process in batches._iterator._workers:
            process.kill()
            process.join()
        del dataset, batches, batch, some
    gc.collect()
    others = [list(loader(made, kind, 2, method)[1]) for kind in ("views", "fields")]
    assert len(others[0]) == len(others[1]) == N // 16
    assert len(kept) == 8 * N // 16
    assert all(
        bytes(part.flatten().tolist() if isinstance(part, torch.Tensor) else part) == made[1][i]["x"]
        for i, part in kept
    )


def ours():
    """Files in memory of this process, and mappings of them."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    with open("/proc/self/maps") as maps:
        names += [line.split(maxsplit=5)[5] for line in maps if "memfd" in line]
    return sorted(name for name in names if "memfd:pyimportance" in name)


def in_shared_memory():
    """But for semaphores, which multiprocessing has there, also that of other tests' processes."""
    return sorted(name for name in os.listdir("/dev/shm") if not name.startswith("sem."))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["dicts", "views", "fields"])
def test_a_killed_process_leaves_nothing(made, kind):
    gc.collect()
    before, in_folder = ours(), in_shared_memory()

    def use():
        _, batches = loader(made, kind, 2, "fork", persistent_workers=True)
        running = iter(batches)
        kept = next(running)
        assert ours() != before
        os.kill(running._workers[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"exited unexpectedly|killed by signal"):
            list(running)
        return kept

    kept = use()
    gc.collect()
    assert plain(kept) == plain(next(iter(loader(made, kind, 0)[1])))
    del kept
    gc.collect()
    until = time.monotonic() + 30
    while ours() != before and time.monotonic() < until:
        time.sleep(0.05)  # threads of DataLoader's queues end by themselves
    assert ours() == before
    assert in_shared_memory() == in_folder


@pytest.mark.parametrize("kind", ["dicts", "views", "fields"])
def test_memory_is_that_of_what_is_on_its_way(made, kind):
    """However often it is broken off, and how long it goes on."""
    dataset, _ = loader(made, kind, 0)
    persistent, _ = loader(made, kind, 0)
    how = {**KINDS[kind][1], "num_workers": 2, "multiprocessing_context": "fork"}
    for _ in range(4):
        next(iter(DataLoader(dataset, **how)))
    batches = DataLoader(persistent, persistent_workers=True, **how)
    for epoch in range(12):
        persistent.set_epoch(epoch)
        assert len(list(batches)) == N // 16 if epoch % 2 else next(iter(batches)) is not None
    for each in (dataset, persistent):
        assert os.fstat(each._shared._fd).st_blocks * 512 < 2**20 + 2 * (2 * 2**20 + 3 * 2**18)


def test_processes_of_webdataset_send_so(made):
    dataset = WebDataset(made[0].root, **ONE).to_tuple("x", "__index__")
    samples = [pair for batch in DataLoader(dataset, 16, num_workers=1, collate_fn=tuple) for pair in batch]
    assert os.fstat(dataset._shared._fd).st_blocks * 512 > 16 * SIDE * SIDE * 3
    assert sorted(i for _, i in samples) == list(range(N))
    assert all(x == made[1][i]["x"] for x, i in samples)


class Within(IterableDataset):
    """Makes what it reads in the loader process, or copies it there."""

    def __init__(self, dataset, how):
        self.dataset, self.how = dataset, how

    def __iter__(self):
        if self.how == "made":
            return iter(WebDataset(self.dataset.shards.root, **ONE).to_tuple("x", "__index__"))
        if self.how == "kept":
            self.kept = getattr(self, "kept", None) or ImportanceDataset(self.dataset.shards.root, **ONE)
            return ((sample["x"], sample["__index__"]) for sample in self.kept)
        if self.how == "fluent":  # each of these makes a copy
            return iter(self.dataset.shuffle(10).to_tuple("x", "__index__"))
        return iter(copy.deepcopy(self.dataset).to_tuple("x", "__index__"))


@pytest.mark.parametrize(
    ("how", "method"),
    [("made", "fork"), ("kept", "fork"), ("fluent", "fork"), ("copied", "fork"), ("fluent", "forkserver")],
)
def test_a_data_set_that_is_made_in_a_loader_process(made, how, method):
    """The training process has not its memory, and gets the samples through the pipe."""
    dataset = Within(WebDataset(made[0].root, **ONE), how)
    how = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": method}
    batches = DataLoader(dataset, 16, collate_fn=list, **how)
    for _ in range(2):
        samples = [pair for batch in batches for pair in batch]
        assert sorted(i for _, i in samples) == list(range(N))
        assert all(x == made[1][i]["x"] for x, i in samples)
    assert os.fstat(dataset.dataset._shared._fd).st_blocks * 512 < SIDE * SIDE * 3 * N // 2


def test_where_address_space_is_limited(made):
    """A loader process may find room for its region where the training process has none for all of them."""
    alone = [plain(batch) for batch in loader(made, "dicts", 0)[1]]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as sizes:
        now = int(sizes.read().split()[0]) * resource.getpagesize()
    dataset, batches = loader(made, "dicts", 2, "fork")
    resource.setrlimit(resource.RLIMIT_AS, (now + _C.LoadRegion.nbytes * 7 // 4, hard))
    try:
        assert [plain(batch) for batch in batches] == alone
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert os.fstat(dataset._shared._fd).st_blocks * 512 < SIDE * SIDE * 3 * N // 2


def sent_in_vain(batch):
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        sending._senders[0].pickled([BIG, batch["x"], batch["x"][2:], lambda: None])
    return batch


def test_what_cannot_be_pickled_holds_no_memory(made):
    options, how = KINDS["fields"]
    dataset = ImportanceDataset(made[0], **ONE, **options, window_bytes=2**18)
    batches = list(DataLoader(dataset, **how, num_workers=1, collate_fn=sent_in_vain))
    assert dataset._shared.region(1).room() < WHOLE
    assert len(batches) == N // 16
    del batches
    assert dataset._shared.region(1).room() == WHOLE


@pytest.fixture(name="regions")
def _regions():
    """(one to send with, one to receive with, one that takes over from the first)"""
    fd = os.memfd_create("region")
    os.ftruncate(fd, _C.LoadRegion.nbytes)
    yield (*(_C.LoadRegion(fd, 0, own) for own in (True, False)), lambda: _C.LoadRegion(fd, 0, True))
    os.close(fd)


@pytest.fixture(scope="module", name="pair")
def _pair():
    fd = os.memfd_create("region")
    os.ftruncate(fd, _C.LoadRegion.nbytes)
    made = [_C.LoadRegion(fd, 0, own) for own in (True, False)]
    os.close(fd)
    return made


BIG = os.urandom(2**16)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(alphabet="\ud800a")
    | st.binary(max_size=5000)
    | st.sampled_from([1j, b"", "__key__", b"twice" * 1000])
)
objects = st.recursive(
    leaves,
    lambda some: (
        st.lists(some)
        | st.lists(some).map(tuple)
        | st.dictionaries(st.sampled_from("abcd"), some)
        | st.dictionaries(st.text(max_size=2) | st.integers(), some)
    ),
    max_leaves=40,
)


@settings(max_examples=150, deadline=None)
@given(written=objects)
def test_what_is_written_is_read(pair, written):
    own, other = pair
    handles, others = own.write([BIG, written])
    assert plain_all(other.read(handles, pickle.loads(pickle.dumps(others)))) == plain_all([BIG, written])


def plain_all(value):
    if isinstance(value, tuple | list):
        return type(value), [plain_all(v) for v in value]
    if isinstance(value, dict):
        return dict, [(k, plain_all(v)) for k, v in value.items()]
    return type(value), value


def test_what_is_better_left_to_pickle(regions):
    own, other, _ = regions
    assert own.write([1, "two", b"three"]) is None  # small
    view = memoryview(b"released")
    view.release()
    left = torch.ones(3), np.ones(3), {1: 2}, {"\ud800": 1}, 2**64, "\ud800", memoryview(b"abcd")[::2], view
    handles, others = own.write({"a": BIG, "b": list(left)})
    assert [id(each) for each in others] == [id(each) for each in left]
    assert other.read(handles, list("abcdefgh")) == {"a": BIG, "b": list("abcdefgh")}
    nested = leaf = []
    for _ in range(40):
        nested = [nested]
    handles, others = own.write([BIG, nested])
    assert len(others) == 1
    assert others[0] != leaf


def test_what_is_in_two_places_or_within_itself(regions):
    own, other, _ = regions
    shared, empty, entry = [1], (), {"k": ("größe",)}
    within = [BIG, shared, empty, entry, {"again": shared, "k": empty}, entry, BIG, (entry, (entry,))]
    within.append(within)
    made = other.read(*own.write(within))
    assert made[8] is made
    assert made[1] is made[4]["again"]
    assert made[3] is made[5] is made[7][0] is made[7][1][0]
    assert made[0] is made[6]
    assert plain_all(made[:8]) == plain_all(within[:8])


def test_a_block_is_somebodys_until_it_is_read(regions):
    own, other, _ = regions
    sent = [own.write([BIG, n]) for n in range(200)]
    assert own.room() < WHOLE - 200 * len(BIG)
    assert [other.read(*each)[1] for each in sent[::-1]] == list(range(200))[::-1]
    assert own.room() == WHOLE
    with pytest.raises(RuntimeError, match="a loader process that is gone"):
        other.read(*sent[0])
    own.take_back(own.write([BIG, 1])[0])
    assert own.room() == WHOLE


def test_where_there_is_no_room_it_is_pickled(regions):
    own, other, _ = regions
    sent = []
    while (found := own.write([BIG, len(sent)])) is not None:
        sent.append(found)
    assert len(sent) == 511
    assert other.read(*sent[7])[1] == 7
    assert own.write([BIG, 1]) is not None
    assert own.write([BIG, 1]) is None


def test_who_takes_over_from_a_process_that_is_gone(regions):
    """Takes what was sent and not received, and nothing that is held."""
    own, other, take_over = regions
    lost, held = own.write([BIG, 1]), own.write([BIG, 2])
    block = other.receive(*held[0][0])
    later = take_over()
    assert WHOLE - 2 * len(BIG) > later.room() > WHOLE - 4 * len(BIG)
    again = later.write([BIG[::-1], 4])
    with pytest.raises(RuntimeError, match="a loader process that is gone"):
        other.read(*lost)
    assert other.read(*again) == [BIG[::-1], 4]
    assert BIG in bytes(block)
    del block
    assert later.room() == WHOLE


def test_bytes_that_nobody_has_any_more_are_made_again(regions):
    """And others never are."""
    own, other, _ = regions
    kept, r = [], np.random.default_rng(3)
    for n in range(40):
        sent = [r.bytes(int(r.integers(2000, 9000))) for _ in range(20)]
        made = other.read(*own.write(sent))
        assert made == sent
        kept += [(part, bytes(bytearray(part))) for part in made[n % 7 :: 5]]
        del made
    assert all(part == right and hash(part) == hash(right) for part, right in kept)


def pickled_sizes(samples):
    return [len(ForkingPickler.dumps([BIG, sample["x"]])) for sample in samples]


@pytest.mark.parametrize("kind", ["dicts", "views"])
def test_other_queues_of_a_loader_process_send_as_ever(made, kind):
    """Their other ends may be where the memory is not, such as with a manager."""
    dataset = ImportanceDataset(made[0], **ONE, **KINDS[kind][0])
    sizes = [n for batch in DataLoader(dataset, 16, num_workers=1, collate_fn=pickled_sizes) for n in batch]
    assert len(sizes) == N
    assert min(sizes) > len(BIG) + SIDE * SIDE * 3
