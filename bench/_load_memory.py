"""What loaders hold: proportional set size (proc(5)) of the processes that read an epoch.

`held` measures it in a process of its own, that has nothing but the loader: this file, as a script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from _harness import check
from _load_data import Data
from _machine import field_of

TIMES = 8  # that it is looked at in an epoch, about


@dataclass
class Held:
    """Bytes, the most at any time: of the largest loader process, of that what no file backs, and of all
    processes together. Without loader processes the one that reads stands for the largest.
    """

    process: int = 0
    own: int = 0
    tree: int = 0

    def look(self) -> None:
        of_loaders = [pss(child) for child in children(os.getpid())]
        this = pss(os.getpid())
        largest, own = max(of_loaders, default=this)
        self.process, self.own = max(self.process, largest), max(self.own, own)
        self.tree = max(self.tree, this[0] + sum(each for each, _ in of_loaders))

    def text(self, processes: int) -> str:
        largest = f"{self.process / 1e6:,.0f} MB, {self.own / 1e6:,.0f} without files"
        if not processes:
            return f"PSS {largest}: this process"
        return f"PSS {largest}: a loader process; {self.tree / 1e6:,.0f} MB in all"


def pss(pid: int) -> tuple[int, int]:
    """Bytes, in all and without those of files: a page that n processes share counts for 1/n of it."""
    path = f"/proc/{pid}/smaps_rollup"
    every, of_files = (int(field_of(path, name).split()[0]) * 1024 for name in ("Pss:", "Pss_File:"))
    return every, every - of_files


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(name: str, data: Data, processes: int) -> Held:
    arguments = [name, str(data.folder), str(data.samples), str(data.side), str(processes)]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, *arguments], capture_output=True, text=True, check=False
    )
    last = ended.stderr.strip().splitlines()[-1:]
    check(ended.returncode == 0, f"{name}: the process that measures memory ended: {last}")
    return Held(**json.loads(ended.stdout.splitlines()[-1]))


def _measure(name: str, data: Data, processes: int) -> Held:
    from _load_data import B
    from _load_ours import KINDS

    kind = next(kind for kind in KINDS if kind.name == name)
    peer, found = kind(data, data.folder / kind.__name__), Held()
    items, every = (peer.loader(processes), B) if processes else (peer.epoch(), 1)
    step = max(1, data.samples // every // TIMES)
    for n, _ in enumerate(items):
        if n % step == 0:
            found.look()
    return found


if __name__ == "__main__":
    which, where, *numbers = sys.argv[1:]
    count, side, processes = map(int, numbers)
    print(json.dumps(asdict(_measure(which, Data(Path(where), count, side), processes))))
