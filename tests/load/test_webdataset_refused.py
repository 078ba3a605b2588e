"""What WebDataset refuses: each says what to do instead."""

import io
import random
import re

import pytest
import webdataset as wds

from pyimportance import ArgumentError, DataError, WebDataset, index

REFUSED = {
    "url_to_name": ({"url_to_name": "a"}, "url_to_name='a': must be a function of a name"),
    "rename_files": ({"rename_files": 3}, "rename_files=3: must be a function of a name"),
    "names": ({"rename_files": len}, r"rename_files: gave 7 for '000\.cls'; a name is text"),
    "no names": ({"rename_files": lambda name: "x"}, "rename_files: leaves no sample"),
    "a name twice": ({"rename_files": lambda name: "x.y"}, r"'000\.cls' and '000\.json' both become 'x\.y'"),
    "names apart": (
        {"rename_files": lambda name: f"{int(name[:3]) % 2}.{name}"},
        r"'002\.cls' becomes '0\.002\.cls', and others of that key do not lie beside it in .*000\.tar",
    ),
    "handler": ({"handler": None}, "handler=None: must be a function of an exception"),
    "handler of ranks": (
        {"handler": wds.warn_and_stop, "rank": 0, "world_size": 2},
        "handler=warn_and_stop: one of 2 ranks would stop alone, .* warn_and_continue and ignore",
    ),
    "cache_size": ({"cache_size": -2}, "cache_size=-2: must be at least -1"),
    "max_skipped": ({"max_skipped": -1}, "max_skipped=-1: must be at least 0"),
    "verbose": ({"verbose": 3}, "verbose=3"),
    "nodesplitter": ({"nodesplitter": iter}, "all equally many; to have every rank read everything: rank=0"),
    "mode": ({"mode": "keep"}, "mode='keep': must be None or 'resampled'"),
    "shardshuffle": ({"shardshuffle": -1}, "shardshuffle=-1: must be at least 0"),
    "equalize": ({"equalize": "batch"}, "equalize='batch'"),
    "keep": ({"keep": 0.5}, "carry no scores to choose by"),
    "select_files": ({"select_files": lambda name: False}, "select_files: leaves nothing of any sample"),
    "batch_size": ({"batch_size": 0}, "batch_size=0: must be at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_are_refused(tars, case):
    options, text = REFUSED[case]
    with pytest.raises(ArgumentError, match=text):
        WebDataset(tars, **options)


SOURCES = {
    "yaml": ("a.yaml", "'a.yaml' is not read; give the tars"),
    "dict": ({"datasets": []}, "several data sets is not read; give the tars of all as one list"),
    "number": (3, "urls=3: must be paths or URLs of tars, a shard set, or its path"),
    "open file": (io.BytesIO(), "must be paths or URLs of tars"),
    "empty list": ([], "source is an empty list"),
    "number in a list": ([1, 2], "urls: 1 in the list is not the path or URL of a tar"),
    "host": ("file://host/a.tar", "read are local files, and URLs of"),
    "pipe in a list": (["a.tar::pipe:cat b.tar"], "'pipe:cat b.tar' would run a shell"),
}


@pytest.mark.parametrize("case", SOURCES)
def test_sources_that_are_refused(case):
    with pytest.raises(ArgumentError, match=re.escape(SOURCES[case][1])):
        WebDataset(SOURCES[case][0])


METHODS = {
    "mcached": (lambda d: d.mcached(), "page cache"),
    "lmdb_cached": (lambda d: d.lmdb_cached("x"), "write_shards"),
    "rng": (lambda d: d.shuffle(3, rng=0), "rng=0: must be a random.Random"),
    "rng and seed": (lambda d: d.shuffle(3, rng=random.Random(), seed=1), "must be a random.Random, without"),
    "compose": (lambda d: d.compose(3), "must be a function of an iterator"),
    "slice": (lambda d: d.slice(3).with_epoch(2), "with_epoch: after .slice"),
    "map_dict": (lambda d: d.map_dict(), "name a part"),
    "to_tuple": (lambda d: d.to_tuple(), "name a part"),
    "image": (lambda d: d.decode("jpg"), "must be one of l, l8, pil"),
    "decoder": (lambda d: d.decode(3), "neither a function nor the name"),
}


@pytest.mark.parametrize("case", METHODS)
def test_methods_that_are_refused(tars, case):
    make, text = METHODS[case]
    with pytest.raises(ArgumentError, match=re.escape(text)):
        make(WebDataset(tars))


SAMPLES = {
    "xdecode": (lambda d: d.xdecode(), ArgumentError, "nothing decodes 'cls' of sample '000'"),
    "xdecode, a pickle": (
        lambda d: d.rename(pyd="cls").xdecode(must_decode=False),
        ArgumentError,
        "xdecode(unsafe_pickle=True)",
    ),
    "to_tuple": (lambda d: d.to_tuple("jpg"), ArgumentError, "sample '000' has no jpg; it has __key__"),
    "map_dict": (lambda d: d.map_dict(jpg=len), ArgumentError, "has no jpg"),
    "decode": (
        lambda d: d.rename(npy="cls").decode(),
        DataError,
        "000.tar, member '000.npy': cannot be decoded",
    ),
    "decode twice": (lambda d: d.decode().decode(), ArgumentError, "partial=True lets it be"),
    "decode tuples": (lambda d: d.to_tuple("cls").decode(), ArgumentError, "decode before to_tuple"),
    "batched": (lambda d: d.batched(5), ArgumentError, "text, txt is not in all samples of a batch"),
    "batched bytes": (lambda d: d.map(lambda s: s["cls"]).batched(5), ArgumentError, "give collation_fn="),
    "rename_keys": (lambda d: d.rename_keys(image="*.jpg"), ArgumentError, "matches '*.jpg'"),
    "extract_keys": (lambda d: d.extract_keys("*.jpg"), ArgumentError, "matches *.jpg"),
    "unbatched": (lambda d: d.map(lambda s: 3).unbatched(), ArgumentError, "a tuple or dict of columns"),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_samples_that_do_not_fit(tars, case):
    make, error, text = SAMPLES[case]
    with pytest.raises(error, match=re.escape(text)):
        list(make(WebDataset(tars)))


def test_arguments_that_there_are_not(tars):
    with pytest.raises(TypeError, match="shards"):
        WebDataset(tars, shards=3)


def test_ranks_of_which_each_would_draw_an_order(tars):
    dataset = WebDataset(tars, rank=0, world_size=2)
    with pytest.raises(ArgumentError, match="2 ranks share one order, which each would draw by its own"):
        dataset.shuffle(3, rng=random.Random(0))
    dataset.batched(2).shuffle(3, rng=random.Random(0))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar.zst"])
def test_compressed_tars_name_what_reads_them(tars, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    for urls in (path, [path, *index(tars).files]):
        with pytest.raises(ArgumentError, match=r"WebDataset\(index\(urls, spool=DIR\)\)"):
            WebDataset(urls)


def test_parts_of_a_shard_set(shard_set):
    with pytest.raises(ArgumentError, match=r"leaves nothing of sample"):
        WebDataset(shard_set((31, 33))[0], select_files=lambda name: "1" in name)


def test_names_of_a_shard_set(shard_set):
    with pytest.raises(ArgumentError, match=r"has scores of the samples that it has.*\.rename_keys\(\)"):
        WebDataset(shard_set((31, 33))[0], rename_files=str)
