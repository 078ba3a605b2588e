"""A wrong answer of the bench of loaders, ours or a peer's, in whichever round: status 1, no figure."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import pyimportance
from tests.bench.mutants import Breaks, Mutants, from_call

mutant = Mutants()


def yields(name: str, change: Callable[[list[Any]], Any]) -> Breaks:
    """ImportanceDatasets whose second epoch and later ones ``change`` makes of the right samples."""

    def breaks(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
        right = pyimportance.ImportanceDataset.__iter__

        def wrong(self: Any) -> Iterator[Any]:
            items = list(right(self))
            if self.epoch > 1:
                change(items)
            return iter(items)

        patch.setattr(pyimportance.ImportanceDataset, "__iter__", wrong)

    breaks.__name__ = name
    return breaks


def other_byte(items: list[Any]) -> None:
    items[7]["x"] = items[7]["x"][:-1] + bytes([items[7]["x"][-1] ^ 1])


def other_label(items: list[Any]) -> None:
    if isinstance(items[0]["cls"], list):  # batches
        items[0]["cls"][0], items[0]["cls"][1] = b"x", b"y"


def other_pixel(items: list[Any]) -> None:
    if not isinstance(items[0]["x"], bytes | list | memoryview):  # tensors
        items[0]["x"][-1, -1, -1, -1] ^= 1


for _name, _says, _change in (
    ("a_sample_has_another_byte", "pyimportance, epoch 1: sample", other_byte),
    ("a_sample_is_missing", "epoch 1: 599 samples; right is 600", lambda items: items.pop(7)),
    ("a_sample_comes_twice", "comes twice", lambda items: items.append(items[7])),
    ("a_sample_is_a_pad", "pad True", lambda items: items[7].update(__pad__=True)),
    ("a_sample_has_another_id", "has key", lambda items: items[7].update(__index__=0)),
    ("a_batch_has_other_labels", "batched, epoch 1: sample", other_label),
    ("a_tensor_has_another_pixel", "tensors of 256, pyimportance, epoch 1: sample", other_pixel),
):
    mutant("load", _says)(yields(_name, _change))


@mutant("load", "webdataset, epoch 1: 599 samples; right is 600")
def a_peer_leaves_a_sample_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    peer = next(kind for kind in module.PEERS if kind.name == "webdataset")
    right = peer.epoch
    patch.setattr(peer, "epoch", from_call(2, right, lambda self: list(right(self))[1:]))


@mutant("load", "plain reading: ")
def plain_reading_reads_less(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    cases = importlib.import_module("_load_cases")
    right = cases.plain
    patch.setattr(cases, "plain", lambda data: right(data)[1:])


@mutant("load", "pyimportance, round 0: 255 samples in the first batch; right is 256")
def the_first_batch_is_short(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.first_of_ours
    patch.setattr(module, "first_of_ours", lambda root: right(root)[1:])


@pytest.mark.parametrize("name", mutant)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_figures_of_wrong_answers(name: str, no_figures: Callable[..., None]) -> None:
    no_figures(*mutant[name])
