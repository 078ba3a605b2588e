"""What an epoch consists of, where it is not everything: ids, samplers, rates of bins, a curriculum."""

import multiprocessing as mp
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pyimportance import (
    ArgumentError,
    ImportanceDataset,
    Scores,
    WebDataset,
    index,
    partition,
    samplers,
    write_shards,
)
from pyimportance.io.meter import TIERS
from tests.load.samples import ids, requests

COUNTS, BINS = (61, 60, 58, 64), 4
INDEX, DISK = TIERS.index("index"), TIERS.index("disk")
ISD = samplers.WeightedSampling(0.5)


@pytest.fixture(scope="module")
def shards(shard_set):
    return shard_set(COUNTS, BINS)[0]


def scores_of(shards, workers):
    held = [shards.index(w) for w in workers]
    number = np.concatenate([i.ids for i in held])
    order = np.argsort(number)
    return Scores(np.concatenate([i.score for i in held])[order], number[order], "loss_mean")


def read(shards, *, epoch=0, ranks=4, **options):
    """(id, weight) of what all ranks yield in an epoch but for pads."""
    pairs = []
    for rank in range(ranks):
        data = ImportanceDataset(shards, rank=rank, world_size=ranks, **options)
        data.set_epoch(epoch)
        samples = list(data)
        assert len(samples) == len(data)
        pairs += [(s["__index__"], s["__weight__"]) for s in samples if not s["__pad__"]]
    return Counter(pairs)


@dataclass(frozen=True)
class Shifted:
    """A sampler of somebody's own."""

    inner: object

    @property
    def compares(self):
        return getattr(self.inner, "compares", False)

    @property
    def per_batch(self):
        return getattr(self.inner, "per_batch", False)

    def count(self, num_samples, epoch):
        return self.inner.count(num_samples, epoch)

    def sample(self, scores, epoch, seed=0):
        return self.inner.sample(Scores(np.exp(scores.values), scores.ids), epoch, seed)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("epoch", [0, 7])
def test_infobatch_is_that_of_all_samples(shards, ranks, epoch):
    sampler = samplers.InfoBatch(epochs=8, r=0.4)
    draw = sampler.sample(scores_of(shards, range(4)), epoch, 7)
    expected = Counter(zip(draw.ids.tolist(), draw.weights.tolist(), strict=True))
    assert read(shards, epoch=epoch, ranks=ranks, sampler=sampler, seed=7) == expected
    assert (len(expected) == sum(COUNTS)) == (epoch == 7)


@pytest.mark.parametrize(
    "sampler",
    [samplers.RS2(0.3), Shifted(samplers.RS2(0.5, True)), samplers.Curriculum(9)],
    ids=["RS2", "somebody's", "curriculum"],
)
def test_other_samplers_ask_each_worker(shards, sampler):
    for epoch in (0, 3):
        got = read(shards, epoch=epoch, sampler=sampler)
        assert got == read(shards, epoch=epoch, sampler=sampler, ranks=2)
        by_worker = Counter(
            shards.worker_of(np.array(list(got.elements()))[:, :1].astype(int)).ravel().tolist()
        )
        assert [by_worker[w] for w in range(4)] == [sampler.count(n, epoch) for n in COUNTS]


COMPARING = [samplers.ActiveSampling("SPV", 1), samplers.ActiveSampling("STC", 0, 0.5), ISD]
COMPARING += [samplers.ActiveWeighting("WPV"), samplers.WeightedSampling(0.7, replacement=False)]


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("sampler", COMPARING, ids=repr)
def test_what_compares_scores_is_drawn_from_all_samples(shards, sampler, ranks):
    """P ~ s + eps, eps the mean of s over the data set, though ranks are padded to be even."""
    scores = scores_of(shards, range(4))
    for epoch in (0, 1):
        draw = Shifted(sampler).sample(scores, epoch, 5)
        expected = Counter(zip(draw.ids.tolist(), draw.weights.tolist(), strict=True))
        assert read(shards, epoch=epoch, ranks=ranks, sampler=Shifted(sampler), seed=5) == expected
    lengths = {
        len(ImportanceDataset(shards, rank=r, world_size=ranks, sampler=Shifted(sampler), batch_size=8))
        for r in range(ranks)
    }
    assert len(lengths) == 1


def test_a_worker_is_drawn_as_its_mass_says(tmp_path, write_tar):
    """Also where one holds all that is hard, which by itself would look average."""
    s = np.random.default_rng(0).exponential(size=200).astype(np.float32)
    write_tar(tmp_path / "a.tar", [(f"{i:03d}", {"x": b"x"}) for i in range(200)])
    blocks = partition(Scores(s, measure="prediction_variance"), 2, policy="blocks")
    shards = write_shards(tmp_path / "a.tar", blocks, tmp_path / "set")
    hard = float((s + s.mean())[blocks.worker(0)].sum()) / (2 * float(s.sum()))
    drawn = [
        np.bincount(shards.worker_of(np.array([i for i, _ in some.elements()])), minlength=2)
        for some in (
            read(shards, epoch=e, ranks=2, sampler=samplers.ActiveSampling("SPV")) for e in range(40)
        )
    ]
    total = np.sum(drawn, axis=0)
    assert hard > 0.6
    assert total.sum() == 40 * 200
    assert abs(total[0] / total.sum() - hard) < 4 * np.sqrt(hard * (1 - hard) / total.sum())


@pytest.mark.parametrize("ranks", [1, 4])
def test_weights_have_the_mean_1_in_every_batch(shards, ranks):
    scores = scores_of(shards, range(4))
    s = np.exp(scores.values.astype(np.float64))
    w = dict(zip(scores.ids.tolist(), (s + s.mean()).tolist(), strict=True))
    sampler = Shifted(samplers.ActiveWeighting("WPV"))
    for rank in range(ranks):
        data = ImportanceDataset(
            shards, rank=rank, world_size=ranks, sampler=sampler, batch_size=16, batched=True
        )
        for batch in data:
            mass = np.array([w[i] for i in batch["__index__"].tolist()])
            np.testing.assert_allclose(batch["__weight__"], mass / mass.mean(), rtol=1e-6)


class Now:
    """Draws all, but for the epochs in which it draws nothing."""

    def __init__(self, *barren, counts):
        self.barren, self.counts = barren, counts

    def __repr__(self):
        return "Now"

    def count(self, num_samples, epoch):
        return num_samples * (epoch not in self.barren) if self.counts else None

    def sample(self, scores, epoch, seed=0):
        return samplers.RS2(float(epoch not in self.barren)).sample(scores, epoch, seed)


@pytest.mark.parametrize("counts", [True, False])
def test_an_epoch_of_nothing_is_an_error_before_it(shards, counts):
    """Of every rank alike, in the training process; the data set stays where it was."""
    text = r"sampler=Now: what it draws of \d+ samples comes to none in epoch 2"
    for rank in range(4):
        data = ImportanceDataset(shards, rank=rank, world_size=4, sampler=Now(2, counts=counts))
        data.set_epoch(1)
        with pytest.raises(ArgumentError, match=text):
            data.set_epoch(2)
        assert len(list(data)) == len(data) > 0
        data.set_epoch(3)
        assert len(data) > 0
    with pytest.raises(ArgumentError, match="comes to none in epoch 0"):
        ImportanceDataset(shards, rank=0, world_size=4, sampler=samplers.RS2(0.0))
    dataset = WebDataset(shards, rank=0, world_size=4, sampler=Now(2, counts=counts))
    assert len([list(dataset) for _ in range(2)]) == 2
    with pytest.raises(ArgumentError, match=text):
        list(dataset)


def test_epochs_of_rs2_reach_everything(shards):
    seen = [{i for i, _ in read(shards, epoch=e, sampler=samplers.RS2(0.25))} for e in range(4)]
    assert sum(map(len, seen)) >= sum(COUNTS) - 8
    assert len(set.union(*seen)) >= sum(COUNTS) - 8


def test_weighted_sum_is_that_of_all(shards):
    """One that corrects for its draw does so in the loader, too."""
    data = ImportanceDataset(shards, rank=0, world_size=1, sampler=Shifted(ISD), batch_size=32, batched=True)
    sums = []
    f = np.random.default_rng(0).normal(3, 1, sum(COUNTS))
    for epoch in range(60):
        data.set_epoch(epoch)
        sums.append(sum(float(b["__weight__"] @ f[b["__index__"]]) for b in data))
    drawn = ISD.count(len(f), 0) * f.mean()
    assert abs(np.mean(sums) - drawn) < 4 * np.std(sums) / np.sqrt(60)


def test_curriculum_is_an_option_of_mix(shards):
    by_mix = read(shards, epoch=2, mix="curriculum", epochs=9)
    assert by_mix == read(shards, epoch=2, sampler=samplers.Curriculum(9))
    for w in range(4):
        index = shards.index(w)
        own = sorted(index.score[np.isin(index.ids, [i for i, _ in by_mix])])
        assert own == sorted(index.score)[: len(own)]


@pytest.mark.parametrize("rates", [[1, 0.5, 0.25, 0], [2.5, 1, 0, 1], [0, 0, 0, 1]])
def test_rates_of_bins(shards, rates):
    seen = [read(shards, epoch=e, mix=np.array(rates) if e else rates) for e in (0, 1)]
    assert seen[1] == read(shards, epoch=1, mix=rates)
    assert seen[0] != seen[1] or set(rates) <= {0, 1}
    for w in range(4):
        index = shards.index(w)
        for b, rate in enumerate(rates):
            own = index.ids[index.bin == b].tolist()
            times = [seen[0][i, 1.0] for i in own]
            assert sum(times) == int(rate * len(own) + 0.5)
            assert not own or max(times) - min(times) <= 1


def test_batches_draw_from_bins_by_their_rates(shards):
    bins = {
        i: b
        for w in range(4)
        for i, b in zip(shards.index(w).ids.tolist(), shards.index(w).bin.tolist(), strict=True)
    }
    data = ImportanceDataset(shards, rank=0, world_size=4, mix=[1, 1, 0.5, 0.5], batch_size=15, batched=True)
    for batch in list(data)[:-1]:
        counts = np.bincount([bins[i] for i in batch["__index__"].tolist()], minlength=4)
        assert (np.abs(counts - [5, 5, 2.5, 2.5]) <= 2).all()


def test_ids(shards):
    wanted = [3, 200, 17, 60, 61, 242]
    assert read(shards, ids=wanted) == Counter({(i, 1.0): 1 for i in wanted})
    some = read(shards, ids=range(100), keep=0.5)
    assert len(some) == -(-61 // 2) + -(-39 // 2)
    assert {i for i, _ in read(shards, ids=range(100), sampler=samplers.RS2(0.5))} < set(range(100))


def test_ids_of_a_plain_tar(tmp_path, write_tar):
    write_tar(tmp_path / "a.tar", [(f"k{i}", {"x": bytes([i])}) for i in range(20)])
    got = list(WebDataset(str(tmp_path / "a.tar"), ids=[3, 9]))
    assert [s["x"] for s in got] == [b"\3", b"\t"]
    drawn = WebDataset(index(tmp_path / "a.tar"), sampler=samplers.RS2(0.25))
    assert len(drawn) == len(list(drawn)) == 5
    with pytest.raises(ArgumentError, match="carries no scores to draw by"):
        list(WebDataset(str(tmp_path / "a.tar"), sampler=samplers.WeightedSampling()))
    with pytest.raises(ArgumentError, match="have nothing to make epochs of"):
        list(WebDataset(str(tmp_path / "a.tar"), sampler=samplers.RS2(0.5)).repeat(2))


def test_what_is_not_drawn_is_not_read(shards):
    """Bytes by tier: those of the samples, with what is small between; the others' indexes only where the
    scores of all decide."""
    for sampler, others in ((samplers.RS2(0.3), False), (samplers.InfoBatch(9), True)):
        data = ImportanceDataset(shards.root, rank=1, world_size=4, sampler=sampler)
        samples = list(data)
        plain = ImportanceDataset(shards.root, rank=1, world_size=4)
        held = shards.index(1)
        asked = requests(held, held.rows_of(np.array(ids(samples))))
        assert data.counts()[DISK].tolist() == [sum(end - begin for _, begin, end in asked), len(asked)]
        assert data.counts()[DISK, 0] < held.nbytes.sum()
        assert (data.counts()[INDEX, 0] > plain.counts()[INDEX, 0]) == others
        before = data.counts()[INDEX, 0]
        data.set_epoch(1)
        list(data)
        assert data.counts()[INDEX, 0] == before  # read once for a generation


@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_persistent_loader_processes_draw_anew(shards, context):
    sampler = samplers.InfoBatch(epochs=3, r=0.5, anneal=0.4)
    data = ImportanceDataset(shards, rank=0, world_size=1, batch_size=7, sampler=sampler)
    loader = DataLoader(
        data,
        batch_size=7,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=mp.get_context(context),
        collate_fn=list,
    )
    lengths = []
    for epoch in range(3):
        data.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader)
        drawn = Counter((s["__index__"], s["__weight__"]) for batch in batches for s in batch)
        assert drawn == read(shards, epoch=epoch, ranks=1, sampler=sampler)
        lengths.append(len(batches))
    assert lengths[2] == -(-sum(COUNTS) // 7) > lengths[0]


@pytest.mark.parametrize(
    "options",
    [{"sampler": samplers.InfoBatch(9)}, {"mix": [2, 1, 1, 0]}, {"ids": range(30, 200)}],
    ids=["InfoBatch", "rates", "ids"],
)
@pytest.mark.parametrize("resumed_on", [1, 2, 8])
def test_an_epoch_is_resumed_on_another_shape(shards, options, resumed_on):
    whole = read(shards, epoch=2, **options)
    first, states = Counter(), []
    for rank in range(4):
        data = ImportanceDataset(shards, rank=rank, world_size=4, batch_size=5, batched=True, **options)
        data.set_epoch(2)
        it = iter(data)
        for batch in (next(it) for _ in range(3)):
            first.update(zip(batch["__index__"].tolist(), batch["__weight__"].tolist(), strict=True))
        states.append(data.state_dict())
    assert all(state == states[0] for state in states)
    for rank in range(resumed_on):
        data = ImportanceDataset(shards, rank=rank, world_size=resumed_on, batch_size=3, **options)
        data.load_state_dict(states[0])
        first.update((s["__index__"], s["__weight__"]) for s in data if not s["__pad__"])
    assert first == whole


def test_a_state_of_other_choices_is_refused(shards):
    state = ImportanceDataset(shards, rank=0, world_size=1, sampler=samplers.RS2(0.5)).state_dict()
    for options in ({}, {"sampler": samplers.RS2(0.6)}, {"keep": 0.5}, {"ids": [1]}, {"mix": [1, 1, 1, 0]}):
        with pytest.raises(ArgumentError, match="saved with other options"):
            ImportanceDataset(shards, rank=0, world_size=1, **options).load_state_dict(state)


class Wrong:
    def count(self, num_samples, epoch):
        return 3

    def sample(self, scores, epoch, seed=0):
        return samplers.RS2(1.0).sample(scores, epoch, seed)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"keep": 0.0}, r"keep=0\.0: must be above 0 and at most 1"),
        ({"keep": float("nan")}, "keep=nan: must be above 0"),
        ({"ids": [1, 1]}, "ids: 1 are there twice"),
        ({"ids": [1, 10_000, -1]}, r"ids: 2 of 3 are not in .*, sample -1 for one"),
        ({"ids": []}, "ids: there are none"),
        ({"ids": np.zeros(0, np.int64)}, "ids: there are none"),
        ({"ids": [0.5]}, "ids: float64 .* must be integers"),
        ({"mix": [1, 1]}, r"mix: 2 rates; .* has 4 bins"),
        ({"mix": [1, -1, 0, 0]}, "mix: rate of bin 1=-1: must be a finite number >= 0"),
        ({"mix": [0, 0, 0, 0]}, "mix: all rates of bins are 0"),
        ({"mix": [0, 1e-9, 0, 0]}, r"mix: what rates leave of \d+ samples comes to none in epoch 0"),
        ({"mix": [1e12, 1, 1, 1]}, "mix: a rate of 1000000000000.0; at most 100 are allowed"),
        ({"sampler": samplers.RS2(0.001)}, r"RS2\(.*: what it draws of \d+ samples comes to none in epoch 0"),
        ({"mix": "curriculum"}, "mix='curriculum': give epochs"),
        ({"epochs": 3}, "epochs=3: is for mix='curriculum'"),
        ({"mix": "curriculum", "epochs": 3, "sampler": ISD}, "chooses samples, and so does sampler="),
        ({"mix": [1, 1, 1, 1], "sampler": ISD}, "rates of bins choose samples, and so does sampler="),
        ({"sampler": samplers.SelectiveBackprop(1)}, "must draw an epoch at a time"),
        ({"sampler": Wrong()}, "drew 61 samples of worker 0 for epoch 0; its count says 3"),
        ({"sampler": ISD}, "must be finite and >= 0"),
    ],
)
def test_what_is_refused(shards, options, text):
    with pytest.raises(ArgumentError, match=text):
        list(ImportanceDataset(shards, rank=0, world_size=4, **options))


@pytest.mark.parametrize("sampler", [samplers.WeightedSampling(0.5), samplers.ActiveSampling("SD"), Wrong()])
@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
def test_scores_that_a_sampler_does_not_take_show_at_once(shards, sampler, kind):
    """Not in a loader process of some rank, which is where it draws."""
    with pytest.raises(ArgumentError, match=r"must be finite and >= 0|confidence|its count says 3"):
        kind(shards, rank=0, world_size=4, sampler=sampler)
