"""One rank of test_loader_processes.py: what its loader process, which begins afresh, yields."""

from __future__ import annotations

from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset


def main(rank: int, size: int, root: str) -> list[int]:
    dataset = ImportanceDataset(root, batch_size=8)
    options = {"num_workers": 1, "multiprocessing_context": "forkserver", "collate_fn": list}
    return [sample["__index__"] for batch in DataLoader(dataset, batch_size=8, **options) for sample in batch]
