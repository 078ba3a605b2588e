"""Processes that share nothing with this one, as spawned ones do, but have imported torch before they begin.

They are forked from multiprocessing's fork server, which imports it once: that takes seconds.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["pytest", "torch.distributed", "torch.utils.data", "scipy.optimize", "pyimportance.train.controller"]
)
TIMEOUT = 250  # seconds


def together(target: Callable[..., object], each: Sequence[tuple[Any, ...]], folder: Path) -> list[str]:
    """Calls ``target(*each[i])`` in process i, all at once; how each ended: "", or its status and words."""
    said = [folder / f"process-{number}.txt" for number in range(len(each))]
    place = dict(os.environ), os.getcwd(), multiprocessing.get_start_method()
    processes = [
        CONTEXT.Process(target=_begin, args=(place, path, target, given))
        for path, given in zip(said, each, strict=True)
    ]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(TIMEOUT)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return [
        f"exit code {process.exitcode}: {path.read_text()}" if process.exitcode else ""
        for process, path in zip(processes, said, strict=True)
    ]


def _begin(
    place: tuple[dict[str, str], str, str], said: Path, target: Callable[..., object], given: tuple[Any, ...]
) -> None:
    environment, folder, method = place
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    multiprocessing.set_start_method(method, force=True)  # of its own children, as elsewhere: not this one's
    with open(said, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    status = 1
    try:
        target(*given)
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)  # as Python ends, a thread of gloo that lets go of a Python object aborts the process


def rank(script: str, folder: Path, rank: int, size: int, args: tuple[Any, ...]) -> None:
    """Calls a script's ``main(rank, size, *args)`` as one of gloo's ranks; leaves its result as JSON."""
    import torch
    from torch import distributed as dist

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # whatever the host name resolves to
    spec = importlib.util.spec_from_file_location("ranks", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
    result = module.main(rank, size, *args)
    dist.barrier()
    dist.destroy_process_group()
    (folder / f"rank-{rank}.json").write_text(json.dumps(result))
