"""One rank of test_readme.py: runs a training loop with what the README leaves to the user."""

from __future__ import annotations

import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist

SAVED_AFTER = 3


def decode(samples: list[dict[str, Any]]) -> tuple[Any, ...]:
    """(ids, inputs, targets, pad) of a batch; the inputs are the ids."""
    ids = np.array([s["__index__"] for s in samples])
    targets = torch.tensor([int(s["cls"]) for s in samples])
    pad = torch.tensor([s["__pad__"] for s in samples])
    return ids, torch.from_numpy(ids), targets, pad


def main(rank: int, place: Path, code: str, epochs: int, die_in: int | None) -> None:
    """Runs ``code`` in the folder of ``place``; writes what it saw to PLACE-RANK.json.

    Saves what the loop calls `state` in checkpoint.pt when 3 epochs are over, and begins with it where it
    exists. In the second batch of epoch ``die_in`` the process is killed.
    """
    os.chdir(place.parent)
    warnings.simplefilter("error", UserWarning)
    warnings.filterwarnings("ignore", "This DataLoader will create")
    checkpoint = Path("checkpoint.pt")
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}.store", rank=rank, world_size=2)
    seen: dict[int, list[list[int]]] = {}

    def model(images: torch.Tensor) -> torch.Tensor:
        """What is hard changes with the epoch."""
        epoch = names["controller"].epoch
        seen.setdefault(epoch, []).append(images.tolist())
        if epoch == die_in and len(seen[epoch]) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        hard = (images * (7 + 2 * epoch) % 101).float() / 10
        return torch.stack([torch.zeros_like(hard), hard], 1)

    def keep(state: dict[str, Any]) -> None:
        if rank == 0 and names["controller"].epoch == SAVED_AFTER and not checkpoint.exists():
            torch.save(state, checkpoint)

    names: dict[str, Any] = {"decode": decode, "model": model, "epochs": epochs}
    names |= {"keep": keep, "state": torch.load(checkpoint) if checkpoint.exists() else None}
    exec(compile(code, "README.md", "exec"), names)
    controller, dataset = names["controller"], names["dataset"]
    report = controller.io_report()
    assert report.bytes("origin") == controller.meter.bytes("origin") > 0
    assert "origin" in str(report)
    digests = [dataset.shards.digest, str(dataset.shards.generation)]
    Path(f"{place}-{rank}.json").write_text(json.dumps({"seen": seen, "generation": digests}))
    dist.barrier()
    dist.destroy_process_group()
