"""Real jobs of two ranks, in the frameworks that people train with: every sample once, equally many batches.

pip install "pyimportance[test,frameworks]" && pytest tests/train/test_frameworks.py
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from pyimportance import (
    ArgumentError,
    ImportanceDataset,
    OwnRanks,
    Partition,
    WebDataset,
    own_ranks,
    write_shards,
)

SAMPLES = 27  # not divisible by two


@pytest.fixture
def tar(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for i in range(SAMPLES):
            member = tarfile.TarInfo(f"{i:02d}.cls")
            member.size = 2
            tar.addfile(member, io.BytesIO(b"%02d" % i))
    return tmp_path / "a.tar"


@pytest.fixture
def shards(tar, tmp_path):
    ids = torch.arange(SAMPLES).numpy()
    offsets = torch.tensor([0, 14, SAMPLES]).numpy()
    return write_shards(tar, Partition(workers=2, bins=1, order=ids, offsets=offsets), tmp_path / "set").root


def job(framework, source, tmp_path):
    """What the ranks noted."""
    torchrun = "-m torch.distributed.run --standalone"
    out = tmp_path / "out"
    out.mkdir()
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    options = {"GLOO_SOCKET_IFNAME": "lo", "SCRATCH": str(tmp_path / "scratch"), "PYTHONPATH": paths}
    script = Path(__file__).with_name("framework_rank.py")
    result = subprocess.run(
        [
            sys.executable,
            *torchrun.split(),
            "--nproc-per-node=2",
            str(script),
            framework,
            str(source),
            str(out),
        ],
        env={**os.environ, **options, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-6000:]
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize(
    ("framework", "kind"),
    [
        pytest.param("ddp", "tar", marks=pytest.mark.slow),
        ("ddp", "shards"),
        ("lightning", "shards"),
        ("accelerate", "tar"),
        ("transformers", "tar"),
        ("transformers", "shards"),
    ],
)
def test_every_sample_once_in_every_epoch(request, tmp_path, framework, kind):
    if framework != "ddp" and find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed (pip install 'pyimportance[frameworks]')")
    ranks = job(framework, request.getfixturevalue(kind), tmp_path)
    for epoch in range(2):
        assert [[len(batch) for batch in rank[epoch]] for rank in ranks] == [[4, 4, 4, 2]] * 2
        rows = [row for rank in ranks for batch in rank[epoch] for row in batch]
        assert sorted(i for i, pad in rows if not pad) == list(range(SAMPLES))
        assert sum(pad for _, pad in rows) == 1
    assert ranks[0][0] != ranks[0][1]


def test_ranks_that_end_one_after_the_other(tar, tmp_path):
    """By torch's Join, as equalize="join" asks for."""
    for epochs in zip(*job("join", tar, tmp_path), strict=True):
        assert [len(batches) for batches in epochs] == [2, 4]
        rows = [row for batches in epochs for batch in batches for row in batch]
        assert sorted(i for i, pad in rows if not pad) == [4, 5, 6, 7, *range(12, SAMPLES)]


def test_a_data_set_that_is_made_too_early(tar, monkeypatch):
    """It took itself for the only rank, and would read everything on each."""
    early, told = WebDataset(tar), WebDataset(tar, rank=0, world_size=1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match=r"rank 0 of 1 when it was made, and this is rank 1 of 2"):
        iter(early)
    with pytest.raises(ArgumentError, match=r"make it when torch\.distributed is initialised, or give"):
        next(iter(DataLoader(early, num_workers=1)))
    assert len(list(told)) == SAMPLES


class IterableDatasetShard(IterableDataset):
    """What Accelerate makes of an iterable data set, as far as it matters here."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        yield from self.dataset


@pytest.mark.parametrize("processes", [0, 1])
def test_wrapped_once_more(tar, shards, processes):
    """Without Accelerate: the same calls."""
    for dataset in (WebDataset(tar, rank=0, world_size=2), ImportanceDataset(shards, rank=0, world_size=2)):
        loader = DataLoader(IterableDatasetShard(dataset), batch_size=None, num_workers=processes)
        with pytest.raises(ArgumentError, match="IterableDatasetShard would divide it among ranks once more"):
            list(loader)
    alone = DataLoader(IterableDatasetShard(WebDataset(tar)), batch_size=None, num_workers=processes)
    assert len(list(alone)) == SAMPLES


def test_accelerate_of_another_rank(tar):
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    with pytest.raises(ArgumentError, match="its data set is rank 1 of 2, the accelerator 0 of 1"):
        own_ranks(DataLoader(WebDataset(tar, rank=1, world_size=2)), accelerator)
    with pytest.raises(ArgumentError, match=r"of a list; accelerator\.prepare divides others than ours"):
        own_ranks(DataLoader([1]), accelerator)
    batched = WebDataset(tar).to_tuple("__index__").batched(4, None)
    whole = list(DataLoader(WebDataset(tar).to_tuple("__index__").batched(4, None), batch_size=None))
    batched.load_state_dict({**batched.state_dict(epoch=0), "consumed": [8]})
    prepared = own_ranks(DataLoader(batched, batch_size=None), accelerator)
    assert list(iter(prepared)) == whole[2:]  # a position stays, whatever epochs Accelerate counts
    assert list(iter(prepared)) == whole
    assert batched.epoch == 2


def test_batches_of_a_trainer(tar, tmp_path):
    """Those that the data set makes, and those of another size, which are refused."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = []

    class Trainer(OwnRanks, transformers.Trainer):
        def compute_loss(self, model, inputs, **options):
            sizes.append(len(inputs[0]))
            return (model(inputs[0][:, None].float()) ** 2).mean() * 1e-6

        def _prepare_inputs(self, inputs):
            return inputs

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        per_device_train_batch_size=4,
        num_train_epochs=2,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    dataset = WebDataset(tar).shuffle(10).decode().to_tuple("cls").batched(4)
    Trainer(model=torch.nn.Linear(1, 1), args=arguments, train_dataset=dataset).train()
    assert sizes == [4, 4, 4, 4, 4, 4, 3] * 2
    other = WebDataset(tar, batch_size=5)
    with pytest.raises(ArgumentError, match="batch_size=5, and TrainingArguments say 4 per device"):
        Trainer(model=torch.nn.Linear(1, 1), args=arguments, train_dataset=other).train()


def made(kind, tar, shards):
    if kind is WebDataset:
        return WebDataset(tar, batch_size=4).shuffle(SAMPLES)
    return ImportanceDataset(shards, batch_size=4)


def rows(samples):
    return {"x": torch.ones(len(samples), 1), "id": torch.tensor([s["__index__"] for s in samples])}


@pytest.fixture
def fit(tar, shards, tmp_path):
    """What Lightning trains on, batches by epoch, as the README has it; checkpoints are in tmp_path."""
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    def run(kind, processes, loader, every=None, checkpoint=None):
        dataset, seen = made(kind, tar, shards), {}

        class Module(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)

            def train_dataloader(self):
                loop = self.trainer.fit_loop
                over, epochs = loop.epoch_loop.batch_progress.is_last_batch, loop.epoch_progress.current
                dataset.set_epoch(epochs.started if over else epochs.processed)
                how = {"num_workers": processes, "persistent_workers": processes > 0}
                return loader(dataset, batch_size=4, collate_fn=rows, **how)

            def on_train_epoch_start(self):
                dataset.set_epoch(self.current_epoch)

            def val_dataloader(self):
                return [torch.zeros(1, 1)] if every == "validation" else []

            def validation_step(self, batch, number):
                self.layer(batch)

            def training_step(self, batch, number):
                seen.setdefault(self.current_epoch, []).append(batch["id"].tolist())
                return (self.layer(batch["x"]) ** 2).mean()

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), lr=1e-3)

        how = {"every_n_train_steps": every} if isinstance(every, int) else {"every_n_epochs": 1}
        keep = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **how)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=3,
            default_root_dir=tmp_path,
            enable_checkpointing=checkpoint is None,
            callbacks=[] if checkpoint else [keep],
            **quiet,
        )
        trainer.fit(Module(), ckpt_path=checkpoint and tmp_path / f"step={checkpoint}.ckpt")
        return seen

    return run


@pytest.mark.filterwarnings("ignore")  # Lightning's, which has advice about loader processes and loggers
@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
@pytest.mark.parametrize("every", [None, 7, "validation"])
def test_lightning_resumed_between_epochs(fit, kind, every, processes):
    """It begins to read, ahead in loader processes, before it calls on_train_epoch_start. Checkpoints are of
    an epoch that is over, of the last of its seven batches, and of the validation after that one."""
    whole = fit(kind, processes, DataLoader, every)
    assert len({str(batches) for batches in whole.values()}) == 3
    assert all(sorted(chain(*batches)) == list(range(SAMPLES)) for batches in whole.values())
    for epoch in (1, 2):
        rest = fit(kind, processes, DataLoader, every, 7 * epoch)
        assert rest == {e: batches for e, batches in whole.items() if e >= epoch}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
def test_lightning_resumed_within_an_epoch(fit, kind):
    loader = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is not installed")
    whole = fit(kind, 2, loader.StatefulDataLoader, every=5)
    for step in (5, 10):
        epoch, done = divmod(step, 7)
        rest = fit(kind, 2, loader.StatefulDataLoader, checkpoint=step)
        assert rest.pop(epoch) == whole[epoch][done:]
        assert rest == {e: batches for e, batches in whole.items() if e > epoch}


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("kind", [ImportanceDataset, WebDataset])
def test_a_trainer_resumed(tar, shards, tmp_path, kind, processes):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    seen = {}

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x, id):
            return {"loss": (self.layer(x) ** 2).mean()}

    class Trainer(OwnRanks, transformers.Trainer):
        def compute_loss(self, model, inputs, **options):
            seen[self.state.global_step] = inputs["id"].tolist()
            return super().compute_loss(model, inputs, **options)

    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        per_device_train_batch_size=4,
        num_train_epochs=3,
        dataloader_num_workers=processes,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="steps",
        save_steps=10,
        disable_tqdm=True,
        use_cpu=True,
    )

    def train(checkpoint=None):
        seen.clear()
        data = {"train_dataset": made(kind, tar, shards), "data_collator": rows}
        Trainer(model=Model(), args=arguments, **data).train(resume_from_checkpoint=checkpoint)
        return dict(seen)

    whole = train()
    epochs = [[whole[7 * epoch + n] for n in range(7)] for epoch in range(3)]
    assert len({str(batches) for batches in epochs}) == 3
    assert all(sorted(chain(*batches)) == list(range(SAMPLES)) for batches in epochs)
    rest = train(str(tmp_path / "trainer" / "checkpoint-10"))
    assert rest == {step: batch for step, batch in whole.items() if step >= 10}
