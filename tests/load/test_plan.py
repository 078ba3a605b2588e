"""A worker's epoch: complete, in proportion, in long runs, different every epoch and the same everywhere."""

import hashlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance.errors import ArgumentError
from pyimportance.load.plan import EpochPlan, Recipe, Stock, kept, most_important

DIGEST = hashlib.sha256(b"generation").hexdigest()


def stock(n, *, bins=4, files=3, seed=0, nbytes=1024):
    r = np.random.default_rng(seed)
    size = r.integers(nbytes // 2, nbytes * 3 // 2, n)
    return Stock(
        file=np.sort(r.integers(0, files, n)).astype(np.int32),
        offset=np.cumsum(size) - size,
        nbytes=size,
        bin=np.sort(r.integers(0, bins, n)).astype(np.int32),
    )


@given(
    n=st.integers(1, 300),
    frames=st.integers(1, 60),
    share=st.floats(0.05, 1),
    nbytes=st.integers(1, 60_000),
)
def test_blocks_are_of_whole_frames(n, frames, share, nbytes):
    """And as large as without frames, but for the first and the last one of each."""
    r = np.random.default_rng(n)
    number = np.sort(r.integers(0, frames, n)).astype(np.int32)
    some = np.sort(r.choice(n, max(1, int(share * n)), replace=False))
    held = replace(stock(n), frame=number).some(some)
    blocks = held.blocks(nbytes)
    assert blocks.start.tolist() == [0, *blocks.end[:-1].tolist()]
    assert blocks.end[-1] == len(held)
    apart = np.any(np.diff(np.stack([held.bin, held.file]), axis=1) != 0, axis=0)
    begins = np.append(True, apart | (np.diff(held.frame) != 0))
    assert np.all(begins[blocks.start])
    assert np.isin(1 + np.flatnonzero(apart), blocks.start).all()
    first = np.flatnonzero(begins)
    for start, end in zip(blocks.start, blocks.end, strict=True):
        inner = first[(start < first) & (first < end)]
        assert not len(inner) or held.nbytes[inner[0] : inner[-1]].sum() < nbytes


def test_blocks_of_the_same_frames_have_the_same_place():
    """In each bin's order: so windows that read a frame for one bin read it for the others too."""
    r, n = np.random.default_rng(0), 6000
    held = replace(stock(n, files=2), frame=(np.arange(n) // 20).astype(np.int32))
    held = replace(held, bin=r.integers(0, 3, n).astype(np.int32))
    blocks = held.blocks(50_000)
    frames_of = {}
    for start, end, place in zip(blocks.start, blocks.end, blocks.place.tolist(), strict=True):
        rows = held.rows(np.arange(start, end))
        found = set(zip(held.file[rows].tolist(), held.frame[rows].tolist(), strict=True))
        frames_of.setdefault(place, []).append(found)
    assert all(len(bins) == 3 for bins in frames_of.values())
    every = [frame for bins in frames_of.values() for frame in set().union(*bins)]
    assert len(every) == len(set(every))
    windows = plan(held, window_bytes=2**20)
    read = [
        set(zip(held.file[rows], held.frame[rows], strict=True)) for rows in map(windows.window, range(6))
    ]
    assert sum(map(len, read)) < 2 * len(every)
    assert sum(map(len, read)) - sum(len(a & b) for a, b in pairwise(read)) < 1.05 * len(every)


def plan(held, *, epoch=0, worker=0, digest=DIGEST, **options):
    return EpochPlan(held, Recipe(**options), digest=digest, epoch=epoch, worker=worker)


def sequence(p):
    return np.concatenate([p.window(k) for k in range(p.windows)])


@given(
    n=st.integers(0, 300),
    bins=st.integers(1, 7),
    window=st.integers(1, 400_000),
    options=st.fixed_dictionaries(
        {
            "mix": st.sampled_from(["stratified", "sequential"]),
            "shuffle": st.booleans(),
            "seed": st.integers(0, 2**63),
        }
    ),
)
def test_every_sample_once_in_windows(n, bins, window, options):
    p = plan(stock(n, bins=bins), window_bytes=window, **options)
    rows = sequence(p)
    assert np.sort(rows).tolist() == list(range(n))
    assert len(p) == n
    assert p.bounds[0] == 0
    assert p.bounds[-1] == n
    assert p.windows_of(np.arange(n)).tolist() == [k for k in range(p.windows) for _ in p.window(k)]


@pytest.mark.parametrize("window", [16 * 1024, 100 * 1024, 2**30])
@pytest.mark.parametrize("B", [8, 32, 100])
def test_every_batch_draws_from_all_bins_in_proportion(window, B):
    bins = 5
    held = stock(3000, bins=bins)
    rows = sequence(plan(held, window_bytes=window, epoch=3))
    share = np.bincount(held.bin) / len(held)
    batches = [np.bincount(held.bin[rows[i : i + B]], minlength=bins) for i in range(0, 3000 - B, B)]
    off = np.abs(np.array(batches) - B * share)
    assert (off < 1 + bins * share).all()
    assert off.mean() < 0.6


def test_sequential_goes_from_the_most_important_bin_to_the_least():
    held = stock(500)
    rows = sequence(plan(held, mix="sequential", window_bytes=50 * 1024))
    assert (np.diff(held.bin[rows]) >= 0).all()
    assert rows.tolist() != list(range(500))


def test_unshuffled_is_storage_order():
    held = stock(500, bins=1)
    assert sequence(plan(held, shuffle=False)).tolist() == list(range(500))
    many = stock(500)
    rows = sequence(plan(many, shuffle=False))
    for b in range(4):
        assert (np.diff(rows[many.bin[rows] == b]) > 0).all()
    assert sequence(plan(many, shuffle=False, epoch=1)).tolist() == rows.tolist()


def test_what_decides_the_sequence():
    held = stock(400)
    one = sequence(plan(held)).tolist()
    assert sequence(plan(held)).tolist() == one
    other = hashlib.sha256(b"another").hexdigest()
    for change in ({"epoch": 1}, {"worker": 1}, {"seed": 1}, {"digest": other}, {"window_bytes": 50_000}):
        assert sequence(plan(held, **change)).tolist() != one


def test_epochs_shuffle_perfectly_within_a_window():
    """Every sample of a bin is as likely at any of the bin's places: chi-square over 2,000 epochs."""
    held = stock(12, bins=1)
    counts = np.zeros((12, 12))
    for epoch in range(2000):
        counts[np.arange(12), sequence(plan(held, epoch=epoch))] += 1
    expected = 2000 / 12
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert 75 < chi2 < 175  # 121 degrees of freedom: p = 0.001 at 75 and 175, and the seed is fixed


def test_small_windows_read_blocks_from_all_over_in_long_runs():
    held = stock(20_000, bins=2, files=2, nbytes=4096)
    p = plan(held, window_bytes=4 * 2**20)
    assert p.windows == -(-int(held.nbytes.sum()) // (4 * 2**20))
    for k in (0, p.windows // 2, p.windows - 1):
        rows = np.sort(p.window(k))
        assert held.nbytes[rows].sum() < 1.25 * 4 * 2**20
        assert rows.max() - rows.min() > 0.7 * len(held)  # from all over
        runs = 1 + np.count_nonzero(np.diff(rows) != 1)
        assert runs < len(rows) / 8  # blocks of 64 KiB hold 16 samples of 4 KiB


@pytest.mark.parametrize("descending", [True, False])
def test_keep_takes_the_most_important(descending):
    score = np.array([1, np.nan, 3, 3, 2, np.inf, 3, -np.inf], np.float32)
    ids = np.array([9, 1, 8, 2, 3, 4, 7, 5])
    by_importance = [5, 3, 6, 2, 4, 0, 7, 1] if descending else [7, 0, 4, 3, 6, 2, 5, 1]
    for count in range(1, 9):
        rows = most_important(score, ids, count / 8, descending=descending)
        assert rows.tolist() == sorted(by_importance[:count])


def test_keep_rounds_up_but_not_twice():
    assert [kept(30, f) for f in (0.1, 0.3, 0.7, 1.0, 0.101)] == [3, 9, 21, 30, 4]
    assert kept(10, 1e-12) == 1
    assert kept(0, 0.5) == 0
    assert most_important(None, np.arange(5), 1.0, descending=True).tolist() == list(range(5))
    with pytest.raises(ArgumentError, match=r"keep=0\.5: these shards carry no scores"):
        most_important(None, np.arange(5), 0.5, descending=True)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"mix": "shaken"}, "mix='shaken': allowed are stratified, sequential"),
        ({"window_bytes": 0}, "window_bytes=0: must be at least 1"),
    ],
)
def test_wrong_options(option, text):
    with pytest.raises(ArgumentError, match=text):
        Recipe(**option)


def test_the_stream_never_changes():
    """A position saved by another version must still mean the same samples: these values are for good."""
    size = np.full(12, 1024)
    held = Stock(np.zeros(12, np.int32), np.cumsum(size) - size, size, np.repeat([0, 1], 6).astype(np.int32))
    rows = sequence(plan(held, seed=7, epoch=2, worker=1, window_bytes=6144))
    assert rows.tolist() == GOLDEN
    compressed = replace(held, frame=np.repeat([0, 1, 2, 3], 3).astype(np.int32))
    assert sequence(plan(compressed, seed=7, epoch=2, worker=1, window_bytes=6144)).tolist() == OF_FRAMES


GOLDEN = [11, 5, 6, 1, 3, 8, 7, 4, 2, 10, 9, 0]
OF_FRAMES = [11, 3, 10, 4, 5, 9, 8, 0, 2, 7, 6, 1]
