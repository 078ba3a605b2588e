"""What loader processes hold: proportional set size (proc(5)) of a process that reads half an epoch.

`held` measures it in a process of its own, that has nothing but the loader: this file, as a script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from _harness import check


def pss(pid: int) -> int:
    """Bytes: a page that n processes share counts for 1/n of it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(name: str, folder: Path, *, samples: int, side: int, processes: int) -> dict[str, int]:
    """Bytes, the most at any time: "tree" of all processes, "process" of the largest loader process."""
    arguments = [name, str(folder), str(samples), str(side), str(processes)]
    ended = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, check=False
    )
    last = ended.stderr.strip().splitlines()[-1:]
    check(ended.returncode == 0, f"{name}: the process that measures memory ended: {last}")
    found: dict[str, int] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _measure(name: str, folder: Path, samples: int, side: int, processes: int) -> dict[str, int]:
    from _load_data import B, Data
    from _load_ours import KINDS

    kind = next(kind for kind in KINDS if kind.name == name)
    peer = kind(Data(folder, samples, side), folder / kind.__name__)
    tree = process = 0
    batches, half = iter(peer.loader(processes)), max(1, samples // B // 2)
    for n, _ in zip(range(half), batches, strict=False):
        if n % max(1, half // 8) == 0:
            each = [pss(child) for child in children(os.getpid())]
            tree, process = max(tree, pss(os.getpid()) + sum(each)), max(process, *each, 0)
    return {"tree": tree, "process": process}


if __name__ == "__main__":
    which, where, *numbers = sys.argv[1:]
    print(json.dumps(_measure(which, Path(where), *map(int, numbers))))
