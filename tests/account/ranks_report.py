"""One rank of test_report.py: what it read, and what all have read."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset, IOReport


def main(rank: int, size: int, root: str) -> dict[str, Any]:
    dataset = ImportanceDataset(root, batch_size=4)
    for _ in DataLoader(dataset, 4, num_workers=rank, collate_fn=len):  # with loader processes, and without
        pass
    own = dataset.io_report()
    gathered: IOReport = own.beside(twice=own.merge(own)).gather()
    return {"own": own.to_json(), "gathered": gathered.to_json(), "read": own.bytes("disk")}
