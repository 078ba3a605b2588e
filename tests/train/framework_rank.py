"""One rank of a small training job: ``torchrun framework_rank.py FRAMEWORK SOURCE OUT``.

It writes OUT/RANK.json: per epoch, per batch, [sample id, whether it is a pad] of what reached the model.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.algorithms.join import Join
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, ImportanceDataset, OwnRanks, WebDataset, own_ranks

EPOCHS, B, PROCESSES = 2, 4, 1
seen = [[] for _ in range(EPOCHS)]


def example(sample):
    x = float(sample["cls"])
    return {"x": torch.tensor([x]), "id": sample["__index__"], "pad": sample["__pad__"]}


def stacked(examples):
    return torch.utils.data.default_collate([example(sample) for sample in examples])


def made(source):
    """Shards by ImportanceDataset, tars by WebDataset."""
    if os.path.isdir(source):
        return ImportanceDataset(source, batch_size=B)
    return WebDataset(source, batch_size=B).shuffle(100)


def loader(dataset, processes=PROCESSES):
    return DataLoader(dataset, batch_size=B, num_workers=processes, collate_fn=stacked)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, id, pad):
        return {"loss": (self.layer(x) ** 2).mean() * 1e-6}


def note(epoch, batch):
    seen[epoch].append([[i, pad] for i, pad in zip(batch["id"].tolist(), batch["pad"].tolist(), strict=True)])


def ddp(source):
    torch.distributed.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(Model())
    data = loader(made(source))
    for epoch in range(EPOCHS):
        data.dataset.set_epoch(epoch)
        for batch in data:
            note(epoch, batch)
            model(**batch)["loss"].backward()
    torch.distributed.destroy_process_group()


def one_half(sample):
    """Leaves out the first two batches of rank 0."""
    return sample["__index__"] not in (0, 1, 2, 3, 8, 9, 10, 11)


def join(source):
    """One rank yields half as many batches as the other."""
    torch.distributed.init_process_group("gloo")
    model = torch.nn.parallel.DistributedDataParallel(Model())
    data = WebDataset(source, equalize="join", batch_size=B).select(one_half)
    for epoch in range(EPOCHS):
        with Join([model]):
            for batch in loader(data, 0):
                note(epoch, batch)
                model(**batch)["loss"].backward()
    torch.distributed.destroy_process_group()


def lightning(source):
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Model()

        def train_dataloader(self):
            return loader(made(source))

        def on_train_epoch_start(self):
            self.trainer.train_dataloader.dataset.set_epoch(self.current_epoch)

        def training_step(self, batch, number):
            note(self.current_epoch, batch)
            return self.model(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=EPOCHS, enable_model_summary=False, **quiet
    )
    trainer.fit(Module())


def accelerate(source):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    dataset = made(source)
    for processes in (0, 1):
        for dispatch in (None, False):  # what Accelerate would do, and its other way
            other = Accelerator(cpu=True, dataloader_config=config(dispatch))
            prepared = other.prepare(loader(made(source), processes))
            if dispatch is None and accelerator.process_index:
                continue  # reads nothing, and waits for rank 0
            with pytest.raises(ArgumentError, match="would divide it among ranks once more"):
                list(prepared)
    data = own_ranks(loader(dataset), accelerator)
    model, data = accelerator.prepare(Model(), data)
    assert len(data) == -(-len(dataset) // B)
    for epoch in range(EPOCHS):
        data.set_epoch(epoch)
        for batch in data:
            note(epoch, batch)
            accelerator.backward(model(**batch)["loss"])
    accelerator.wait_for_everyone()


def config(dispatch):
    from accelerate.utils import DataLoaderConfiguration

    return DataLoaderConfiguration(dispatch_batches=dispatch)


def transformers(source):
    from transformers import Trainer, TrainingArguments

    class Noting(OwnRanks, Trainer):
        def compute_loss(self, model, inputs, **options):
            note(int(self.state.epoch), inputs)
            return model(**inputs)["loss"]

    arguments = TrainingArguments(
        output_dir=os.environ["SCRATCH"],
        per_device_train_batch_size=B,
        num_train_epochs=EPOCHS,
        dataloader_num_workers=PROCESSES,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Noting(model=Model(), args=arguments, train_dataset=made(source), data_collator=stacked).train()


if __name__ == "__main__":
    framework, source, out = sys.argv[1:]
    torch.set_num_threads(1)
    {f.__name__: f for f in (ddp, join, lightning, accelerate, transformers)}[framework](source)
    (Path(out) / f"{os.environ['RANK']}.json").write_text(json.dumps(seen))
    os._exit(0)  # as Python ends, a thread of gloo that lets go of a Python object aborts the process
