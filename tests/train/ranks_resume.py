"""One rank of test_resume.py: what becomes of states of which one rank's is not as the other's."""

from __future__ import annotations

from typing import Any

from pyimportance import Controller, ImportanceDataset, PyimportanceError, Schedule, Tracker


def main(rank: int, size: int, root: str, num_samples: int) -> list[str]:
    dataset = ImportanceDataset(root, batch_size=4)
    controller = Controller(Tracker(num_samples), dataset, Schedule(warmup=2, interval=2))
    state = controller.state_dict()
    other = {**state, "dataset": dataset.state_dict(epoch=1)}

    def failure(second: dict[str, Any]) -> str:
        try:
            controller.load_state_dict(second if rank else state)
        except PyimportanceError as error:
            return str(error)
        return ""

    return [failure(second) for second in (state, other, {**state, "version": 7})]
