"""One rank of test_resume.py: what becomes of states of which one rank's is not as the other's."""

from __future__ import annotations

from pyimportance import Controller, ImportanceDataset, PyimportanceError, Schedule, Tracker


def main(rank: int, size: int, root: str, num_samples: int) -> list[str]:
    dataset = ImportanceDataset(root, batch_size=4)
    controller = Controller(Tracker(num_samples), dataset, Schedule(warmup=2, interval=2))
    state = controller.state_dict()
    other = {**state, "dataset": dataset.state_dict(epoch=1)}
    failures = []
    for second in (state, other, {**state, "version": 7}):
        try:
            controller.load_state_dict(second if rank else state)
            failures.append("")
        except PyimportanceError as error:
            failures.append(str(error))
    return failures
