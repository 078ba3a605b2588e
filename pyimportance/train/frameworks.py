"""Frameworks that divide data among ranks themselves: how to keep them from dividing it twice.

Our data sets yield each rank its own share. PyTorch, DDP, Lightning and torchdata leave it at that.
Accelerate, and with it the Trainer of Transformers, takes every iterable data set for one that yields
everything: rank 0 then reads for all, or each rank reads its share and drops most of it. `own_ranks`
prepares a DataLoader without that, `OwnRanks` makes a Trainer do so; a data set that was wrapped all the same
raises as it is iterated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from pyimportance.errors import ArgumentError
from pyimportance.load.dataset import ImportanceDataset

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import TrainingArguments

_KEPT = (
    "batch_size",
    "collate_fn",
    "drop_last",
    "generator",
    "in_order",  # of torch 2.6
    "multiprocessing_context",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "worker_init_fn",
)


def own_ranks(loader: DataLoader[Any], accelerator: Accelerator) -> DataLoader[Any]:
    """What ``accelerator.prepare`` is to other DataLoaders: batches come to the device, gradients accumulate
    to the end of an epoch, and each rank reads its own share, as ``loader``'s data set deals it.

    ``prepare`` may be called on the result, and changes nothing. Epochs are those of the data set: call
    `set_epoch` of either. A batch is read ahead: count them, ``dataset.state_dict(batches=n)``.
    Raises ArgumentError for a data set that is not ours, or of another rank than the accelerator's.
    """
    from accelerate.data_loader import DataLoaderShard

    class Prepared(DataLoaderShard):  # type: ignore[misc]
        def __iter__(self) -> Any:
            self.iteration = self.dataset.epoch  # which is then set: a position that was loaded must stay
            yield from super().__iter__()

    dataset = loader.dataset
    if not isinstance(dataset, ImportanceDataset):
        raise ArgumentError(
            f"loader: of a {type(dataset).__name__}; accelerator.prepare divides others than ours"
        )
    found, expected = (
        (dataset.rank, dataset.world_size),
        (accelerator.process_index, accelerator.num_processes),
    )
    if found != expected:
        raise ArgumentError(
            f"loader: its data set is rank {found[0]} of {found[1]}, the accelerator {expected[0]} of "
            f"{expected[1]}; make the data set after the Accelerator, or give it rank= and world_size="
        )
    options = {name: getattr(loader, name) for name in _KEPT if hasattr(loader, name)}
    prepared = Prepared(dataset, device=accelerator.device, _drop_last=loader.drop_last, **options)
    prepared._is_accelerate_prepared = True
    registered: DataLoader[Any] = accelerator.prepare_data_loader(prepared)
    return registered


class OwnRanks:
    """``class OurTrainer(OwnRanks, transformers.Trainer)``: each rank reads its own share of a train_dataset
    of ours, in batches that it makes (``batched``) or of its ``batch_size``; other data sets are Trainer's.

    Raises ArgumentError where ``batch_size`` differs from per_device_train_batch_size.
    """

    args: TrainingArguments
    accelerator: Accelerator
    train_dataset: Any
    data_collator: Any
    _train_batch_size: int

    def get_train_dataloader(self) -> DataLoader[Any]:
        dataset = self.train_dataset
        if not isinstance(dataset, ImportanceDataset):
            loader: DataLoader[Any] = super().get_train_dataloader()  # type: ignore[misc]
            return loader
        if dataset.makes_batches:
            making: dict[str, Any] = {"batch_size": None}
        elif dataset.batch_size in (None, self._train_batch_size):
            drop_last = self.args.dataloader_drop_last
            making = {
                "batch_size": self._train_batch_size,
                "collate_fn": self.data_collator,
                "drop_last": drop_last,
            }
        else:
            raise ArgumentError(
                f"train_dataset: batch_size={dataset.batch_size}, and TrainingArguments say "
                f"{self._train_batch_size} per device; they must be equal"
            )
        loader = DataLoader(
            dataset,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_persistent_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            **making,
        )
        return own_ranks(loader, self.accelerator)
