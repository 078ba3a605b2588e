"""WebDataset beside webdataset's, argument by argument: the same samples."""

import io
import shutil
import tarfile
import warnings

import pytest
import webdataset as wds
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, WebDataset, index
from pyimportance.load.webdataset.arguments import cache_options
from tests.load.samples import ids, plain
from tests.server import Server

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # webdataset leaves files to the collector
    pytest.mark.filterwarnings("ignore:.*shardshuffle"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    pytest.mark.filterwarnings("ignore:DataError"),  # of handlers that warn
]


def same(tars, *arguments, **options):
    """The samples that both give, in order."""
    ours = [plain(sample) for sample in WebDataset(tars, *arguments, **options)]
    theirs = [plain(sample) for sample in wds.WebDataset(tars, *arguments, **options)]
    assert ours == theirs
    return ours


def upper(name):
    return name.upper()


ARGUMENTS = {
    "handler": {"handler": wds.warn_and_continue},
    "a handler that stops": {"handler": wds.ignore_and_stop},
    "mode": {"mode": None},
    "repeat": {"repeat": False},
    "resampled": {"resampled": False},
    "shardshuffle": {"shardshuffle": 0},
    "cache_size": {"cache_size": 1 << 20},
    "no cache": {"cache_size": 0, "cache_dir": "."},
    "url_to_name": {"url_to_name": upper},
    "detshuffle": {"detshuffle": True, "shardshuffle": False},
    "nodesplitter": {"nodesplitter": wds.split_by_node},
    "one node": {"nodesplitter": wds.shardlists.single_node_only},
    "workersplitter": {"workersplitter": wds.split_by_worker},
    "select_files": {"select_files": lambda name: name.endswith((".cls", ".json"))},
    "rename_files": {"rename_files": lambda name: name.replace(".text", ".txt")},
    "both": {
        "rename_files": lambda name: f"d/{name}".replace(".cls", ".y.cls"),
        "select_files": lambda name: name.startswith("d/") and name.endswith(".y.cls"),
    },
    "empty_check": {"empty_check": False},
    "verbose": {"verbose": True},
    "seed": {"seed": 3},
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_gives_the_same(tars, case):
    options = {"shardshuffle": False, **ARGUMENTS[case]}
    assert len(same(tars, **options)) == 24


@pytest.mark.parametrize(
    "case", [{"shardshuffle": 6}, {"shardshuffle": True}, {"shardshuffle": 6, "detshuffle": True}]
)
def test_gives_the_same_in_another_order(tars, case):
    ours, theirs = (sorted(s["__key__"] for s in make(tars, **case)) for make in (WebDataset, wds.WebDataset))
    assert ours == theirs == [f"{i:03d}" for i in range(24)]


@pytest.mark.parametrize("case", [{"repeat": True}, {"resampled": True}, {"mode": "resampled"}])
def test_has_no_end_either(tars, case):
    for make in (WebDataset, wds.WebDataset):
        samples = iter(make(tars, **{"shardshuffle": False, **case}).with_epoch(60))
        assert len(list(samples)) == 60


def test_arguments_by_position(tars):
    select = lambda name: name.endswith(".cls")  # noqa: E731
    arguments = (wds.reraise_exception, None, False, False, False, -1, None, upper, False)
    same(tars, *arguments, wds.shardlists.single_node_only, wds.split_by_worker, select, None, True, False, 3)


def test_samples_of_which_nothing_is_selected(tars):
    """They are left out; every fifth has a .text in the place of a .txt."""
    text = {"select_files": lambda name: name.endswith(".text"), "shardshuffle": False}
    assert [s["__key__"] for s in same(tars, **text)] == ["000", "005", "010", "015", "020"]
    assert ids(WebDataset(tars, **text)) == [0, 5, 10, 15, 20]
    assert len(WebDataset(tars, select_files=["text"])) == 5
    named = {
        "rename_files": lambda name: name.replace(".text", ".t"),
        "select_files": lambda n: n[-2:] == ".t",
    }
    assert len(same(tars, **named, shardshuffle=False)) == 5
    lengths = {len(ids(WebDataset(tars, **text, rank=r, world_size=2))) for r in range(2)}
    assert lengths == {3}


def test_tars_that_are_named_again(tars):
    """They are read again, under ids of their own."""
    files = list(index(tars).files)
    same([files[1], files[0], files[1]], shardshuffle=False)
    twice = WebDataset([tars, tars]).shuffle(48)
    keys = [(s["__index__"], s["__key__"]) for s in twice]
    assert sorted(keys) == [(i, f"{i % 24:03d}") for i in range(48)]
    folder = tars.rpartition("/")[0]
    longer = f"{folder}/../{folder.rpartition('/')[2]}/001.tar"
    for otherwise in (f"{files[1]}::{files[1]}", [files[1], longer], [files[1].replace("1.", "{1,1}.")]):
        assert [s["__key__"] for s in WebDataset(otherwise)] == [f"{i:03d}" for i in (4, 5, 6, 7)] * 2
    broken = [files[0], "none.tar", files[0], "none.tar"]
    same(broken, handler=wds.ignore_and_continue, shardshuffle=False)


@pytest.mark.parametrize("prefix", ["file:", "file://", "file://localhost"])
def test_paths_as_urls(tars, prefix):
    files = [prefix + path for path in index(tars).files[:2]]
    for make in (WebDataset, wds.WebDataset):
        keys = [s["__key__"] for s in make(files, shardshuffle=False)]
        assert keys == [f"{i:03d}" for i in range(8)]
    assert len(WebDataset("::".join(files))) == 8


def test_a_cache_that_the_environment_names(tars, tmp_path, monkeypatch):
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WDS_CACHE_SIZE", "1e9")
    assert cache_options(None, -1) == {"cache_dir": str(tmp_path / "cache"), "cache_bytes": 10**9}
    assert cache_options("other", 5) == {"cache_dir": "other", "cache_bytes": 5}
    assert cache_options(None, 0) == {}
    with Server(tmp_path) as server:
        dataset = WebDataset(f"{server.url}/{{000..005}}.tar")
        assert ids(dataset) == ids(dataset) == list(range(24))
    assert dataset.io_report().bytes("cache") > 0
    monkeypatch.setenv("WDS_CACHE_SIZE", "much")
    with pytest.raises(ArgumentError, match="WDS_CACHE_SIZE='much': must be a number of bytes"):
        WebDataset(tars)


def test_cached(tars, tmp_path):
    (tmp_path / "cache").mkdir()
    same(tars, shardshuffle=False, cache_dir=str(tmp_path / "cache"), cache_size=1 << 30)


# -- names ------------------------------------------------------------------------------------------------


def members(path, *names):
    """A tar of members that hold their own names."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            tar.addfile(member, io.BytesIO(name.encode()))
    return str(path)


NAMES = {
    "two become one": (
        ["0.png", "0_mask.png", "1.png", "1_mask.png"],
        lambda name: name.replace("_mask.png", ".mask.png"),
        [{"png", "mask.png"}] * 2,
    ),
    "one becomes two": (
        ["a.1.cls", "a.1.png", "a.2.cls", "a.2.png"],
        lambda name: name.replace("a.", "a_"),
        [{"cls", "png"}] * 2,
    ),
    "folders": (["x/0.png", "x/0.cls", "x/1.png"], lambda name: name[2:], [{"png", "cls"}, {"png"}]),
    "extensions": (["0.JPEG", "0.cls"], lambda name: name.lower().replace(".jpeg", ".JPG"), [{"jpg", "cls"}]),
    "some are left out": (
        ["0.png", "0.bak", "1.bak", "2.png"],
        lambda name: name.replace(".bak", ""),
        [{"png"}] * 2,
    ),
    "in the middle": (["0.a", "0.b", "0.c", "1.a"], lambda name: name.replace(".b", ""), [{"a", "c"}, {"a"}]),
    "others between": (
        ["0.a", "README", "0_b.b", "1.a"],
        lambda name: name.replace("_b", ""),
        [{"a", "b"}, {"a"}],
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_rename_files(tmp_path, case):
    names, rename, parts = NAMES[case]
    path = members(tmp_path / "s.tar", *names)
    samples = same(path, rename_files=rename, shardshuffle=False)
    assert [{name for name in sample if name[0] != "_"} for sample in samples] == parts
    assert all(value.decode() in names for s in samples for name, value in s.items() if name[0] != "_")


def test_renamed_samples_are_samples_like_others(tmp_path):
    """Planned, dealt to processes, resumed; of the tars as they are only the names differ."""
    names = [f"{i:02d}{suffix}.png" for i in range(30) for suffix in ("", "_mask")]
    path = members(tmp_path / "s.tar", *names)

    def made(**options):
        return WebDataset(path, rename_files=_masks, **options).shuffle(30)

    whole = ids(made())
    assert sorted(whole) == list(range(30))
    assert len(made()) == 30
    for method in ("fork", "spawn"):
        loader = DataLoader(made(), batch_size=None, num_workers=1, multiprocessing_context=method)
        assert [s["mask.png"] for s in loader] == [f"{i:02d}_mask.png".encode() for i in whole]
    one = made()
    iterator = iter(one)
    head = [next(iterator)["__index__"] for _ in range(7)]
    other = made()
    other.load_state_dict(one.state_dict())
    assert head + ids(other) == whole
    some = made(select_files=lambda name: name.endswith(".mask.png"))
    assert {frozenset(s) for s in some} == {
        frozenset({"__key__", "__url__", "__index__", "__weight__", "__pad__", "mask.png"})
    }
    # But for the first sample's image, all of the tar: images between masks are less than a page.
    assert some.io_report().bytes("origin") == 59 * 1024


def _masks(name):
    return name.replace("_mask.png", ".mask.png")


def test_renamed_members_are_checked_by_the_names_they_have(tmp_path):
    path = members(tmp_path / "s.tar", "0.png", "0_mask.png", "1.png")
    dataset = WebDataset(path, rename_files=_masks)
    with open(path, "r+b") as file:
        file.seek(1024)
        file.write(b"7")
    with pytest.raises(DataError, match=r"s\.tar, member '0_mask\.png', offset 1024: .* found at 1024: no"):
        list(dataset)


def test_an_index_that_is_renamed_keeps_its_ids_where_samples_stay(tars):
    found = index(tars)
    some = WebDataset(found, rename_files=lambda name: f"x/{name}")
    assert ids(some) == found.ids.tolist()
    assert next(iter(some))["__key__"] == "x/000"


# -- handlers ---------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tars, tmp_path):
    """(copies of the tars, damage(i): the i-th sample cannot be read from now on)"""
    copies = [shutil.copy(tar, tmp_path / f"{n}.tar") for n, tar in enumerate(index(tars).files)]
    places = index(copies)

    def damage(i):
        with open(places.files[places.file[i]], "r+b") as file:
            file.seek(int(places.offset[i]))
            file.write(b"?")

    return copies, damage


def test_what_goes_without_saying(tars):
    options = {"detshuffle": True, "verbose": True, "empty_check": False, "nodesplitter": wds.split_by_node}
    more = {"workersplitter": wds.split_by_worker, "cache_size": -1, "cache_dir": None}
    assert len(WebDataset(tars, **options, **more, handler=wds.reraise_exception)) == 24


@pytest.mark.parametrize("handler", [wds.warn_and_continue, wds.ignore_and_continue])
def test_samples_in_error_are_skipped_by_handlers_that_continue(tars, tmp_path, handler):
    """A neighbour takes the place, so that ranks stay equal; webdataset's readers lose what is behind it."""
    copies = [shutil.copy(tar, tmp_path / f"{n}.tar") for n, tar in enumerate(index(tars).files)]
    dataset, places = WebDataset(copies, handler=handler, max_skipped=1), index(copies)
    with open(places.files[0], "r+b") as file:
        file.seek(int(places.offset[1]))
        file.write(b"?")
    found = [(s["__index__"], s["__pad__"]) for s in dataset]
    assert found == [(0, False), (0, True), *((i, False) for i in range(2, 24))]
    assert (dataset.skipped, len(dataset)) == (1, 24)
    with pytest.raises(DataError, match=places.key(1)):
        list(WebDataset(places, handler=handler, max_skipped=0))


BROKEN = {
    "missing": lambda path: None,
    "no tar": lambda path: path.write_bytes(b"x" * 2000),
    "empty": lambda path: path.write_bytes(b""),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_tars_that_cannot_be_read_are_left_out_by_handlers_that_continue(tars, tmp_path, broken):
    """As webdataset does; ranks stay equal, as all of them index the same tars."""
    BROKEN[broken](tmp_path / "broken.tar")
    names = [*index(tars).files]
    names[2:2] = [str(tmp_path / "broken.tar")]
    assert len(same(names, handler=wds.ignore_and_continue, shardshuffle=False)) == 24
    with pytest.raises(DataError, match=r"broken\.tar"):
        WebDataset(names)
    assert len(same(names, handler=wds.ignore_and_stop, shardshuffle=False)) == 8
    asked = []
    found = [
        ids(WebDataset(names, handler=lambda e: asked.append(e) or True, rank=rank, world_size=2))
        for rank in range(2)
    ]
    assert [type(error) for error in asked] == [DataError] * 2
    assert sorted(found[0] + found[1]) == list(range(24))
    assert len(found[0]) == len(found[1])


def test_a_tar_that_is_cut_is_left_out_whole(tars, tmp_path):
    """webdataset gives what comes before the cut, with a sample that has lost a part."""
    files = index(tars).files
    cut = tmp_path / "cut.tar"
    with open(files[0], "rb") as file:
        cut.write_bytes(file.read()[: 6 * 1024 + 100])
    options = {"handler": wds.ignore_and_continue, "shardshuffle": False}
    parts = [len(sample) for sample in wds.WebDataset([str(cut), files[1]], **options)]
    assert len(parts) == 6
    assert parts[1] < parts[0]
    assert [s["__key__"] for s in WebDataset([cut, files[1]], **options)] == ["004", "005", "006", "007"]
    with pytest.raises(DataError, match=r"cut\.tar"):
        WebDataset([cut], **options)  # as nothing is left


def test_a_handler_may_raise_what_it_likes_of_a_tar(tars, tmp_path):
    def handler(error):
        raise RuntimeError(error.path)

    with pytest.raises(RuntimeError, match=r"none\.tar"):
        WebDataset([tmp_path / "none.tar", *index(tars).files], handler=handler)


def test_a_handler_of_ones_own(damaged):
    copies, damage = damaged
    told = []

    def handler(error):
        told.append(error)
        return len(told) < 3

    dataset = WebDataset(copies, handler=handler, window_bytes=1)
    for i in (2, 9, 17):
        damage(i)
    samples = list(dataset)
    # The first two have others in their places; at the third it says to stop.
    assert [s["__index__"] for s in samples if not s["__pad__"]] == [i for i in range(17) if i not in (2, 9)]
    assert (len(samples), dataset.skipped) == (17, 2)
    assert [(type(e), e.member[:3]) for e in told] == [
        (DataError, "002"),
        (DataError, "009"),
        (DataError, "017"),
    ]
    assert len(list(dataset)) == 2  # as it says so at once from now on


@pytest.mark.parametrize("handler", [wds.ignore_and_stop, wds.warn_and_stop])
def test_handlers_that_stop(damaged, handler):
    copies, damage = damaged
    dataset = WebDataset(copies, handler=handler)
    assert len(list(dataset)) == 24
    damage(11)
    assert ids(dataset) == list(range(11))
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    assert len(ids(loader)) < 24


def test_a_handler_that_raises(damaged):
    copies, damage = damaged

    def handler(error):
        raise RuntimeError("enough") from error

    dataset, seen = WebDataset(copies, handler=handler), []
    damage(5)
    with pytest.raises(RuntimeError, match="enough"):
        seen.extend(s["__index__"] for s in dataset)
    iterator = iter(dataset)
    assert [next(iterator)["__index__"] for _ in range(5)] == list(range(5))
    with pytest.raises(RuntimeError, match="enough") as caught:
        next(iterator)
    assert isinstance(caught.value.__cause__, DataError)


def test_no_rank_stops_alone(damaged):
    copies, damage = damaged
    dataset = WebDataset(copies, handler=lambda error: False, rank=0, world_size=2)
    damage(0)
    damage(1)
    with pytest.raises(ValueError, match="handler: said to stop, which one of 2 ranks cannot do alone"):
        list(dataset)


def test_a_handler_has_a_budget_too(damaged):
    copies, damage = damaged
    dataset = WebDataset(copies, handler=lambda error: True, max_skipped=1)
    damage(3)
    damage(4)
    with pytest.raises(DataError):
        list(dataset)


def test_in_webdatasets_own_loader(tars):
    def batches(make):
        dataset = make(tars, shardshuffle=False).decode().to_tuple("cls").batched(4)
        loader = wds.WebLoader(dataset, batch_size=None, num_workers=1)
        return [plain(b) for b in loader.unbatched().batched(6).with_epoch(4).with_length(4, silent=True)]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert batches(WebDataset) == batches(wds.WebDataset)
