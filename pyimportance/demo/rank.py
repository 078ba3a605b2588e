"""The program of one training process: ``python -m pyimportance.demo.rank FOLDER RANK PARENT``.

It does every (seed, policy) run in turn, since starting a process that loads torch takes longer than a small
run. Rank 0 reports on standard output, one JSON object a line; a failure is one line on standard error and
exit status 2, as in the command line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist

from pyimportance.demo.config import DemoConfig
from pyimportance.demo.images import Images
from pyimportance.demo.policies import Place, open_reader
from pyimportance.demo.source import ImageSource, Split, read_images
from pyimportance.demo.training import TestShare, accuracies, train
from pyimportance.errors import PyimportanceError
from pyimportance.together import together


def main() -> None:
    """Runs the rank that the command line names."""
    folder, rank, parent = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    status = 1
    try:
        _runs(folder, rank)
        status = 0
    except (PyimportanceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except Exception:
        traceback.print_exc()
    # Not by way of Python's end: a thread of gloo that lets go of a Python object there aborts the process.
    sys.stderr.flush()
    os._exit(status)


def _end_with(parent: int) -> None:
    """Ends this process soon after ``parent``, which may be killed (even before this begins) unsaid."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _runs(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)  # the ranks share the machine's cores
    config = DemoConfig.from_json((folder / "config.json").read_text())
    source = ImageSource.load(folder)
    store = dist.FileStore(str(folder / "store"), config.workers)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=config.workers)
    place = Place(config, source.train, folder, rank)
    images = Images(place.num_samples, source.shape, flip=config.flip, shift=config.shift)
    mine = np.arange(rank, len(source.test.ids), config.workers)
    test = Split(source.test.index, source.test.ids[mine], source.test.labels[mine])
    share = TestShare(read_images(test, source.shape), test.labels)
    dynamics_saved = False
    for seed in range(config.seeds):
        for policy in config.policies:
            say = _Speaker(rank, policy, seed)
            reader = open_reader(policy, seed, place)
            model, figures = train(reader, seed, config, images, classes=source.classes, progress=say.epoch)
            figures |= accuracies(model, share) | reader.figures()
            ranks = together(lambda figures=figures: figures, "collecting the figures")  # type: ignore[misc]
            if reader.observers and not dynamics_saved:
                if rank == 0:
                    reader.observers[-1].tracker.dynamics().save(folder / "dynamics.npz")
                dynamics_saved = True
            reader.close()
            say.run(ranks)
    dist.barrier()  # without it, gloo sometimes aborts while another rank is still closing
    dist.destroy_process_group()


class _Speaker:
    """What rank 0 tells the parent about a run."""

    def __init__(self, rank: int, policy: str, seed: int) -> None:
        self._rank, self._run = rank, {"policy": policy, "seed": seed}

    def epoch(self, epoch: int, loss: float) -> None:
        self._say({"event": "epoch", "epoch": epoch, "loss": loss})

    def run(self, ranks: list[dict[str, float]]) -> None:
        self._say({"event": "run", "ranks": ranks})

    def _say(self, what: dict[str, Any]) -> None:
        if self._rank == 0:
            print(json.dumps({**self._run, **what}), flush=True)


if __name__ == "__main__":
    main()
