"""Whether what was regrouped holds the samples of a source, each where it belongs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import zstandard
from _harness import check
from _tars import samples_in

WORKERS, BINS = 8, 8
THREADS = min(8, os.cpu_count() or 1)


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())


def digest_of(paths: Sequence[Path]) -> str:
    """Of the files' bytes, in this order."""

    def sha256(path: Path) -> bytes:
        return hashlib.sha256(path.read_bytes()).digest()

    with ThreadPoolExecutor(THREADS) as pool:
        return hashlib.sha256(b"".join(pool.map(sha256, paths))).hexdigest()


def size_of(folder: Path, pattern: str = "*") -> int:
    return sum(path.stat().st_size for path in files_in(folder, pattern))


def groups(values: np.ndarray) -> list[np.ndarray]:
    """The samples of each worker's bins, the most important first, by NumPy."""
    order = np.argsort(-values, kind="stable")
    owned = [order[worker::WORKERS] for worker in range(WORKERS)]
    return [ids[b * len(ids) // BINS : (b + 1) * len(ids) // BINS] for ids in owned for b in range(BINS)]


class Right:
    """The samples of a source, as webdataset reads them; what was found to be right by its digest."""

    def __init__(self, source: list[str]) -> None:
        self.samples = list(samples_in(source))
        self.checked: set[str] = set()

    def check_groups(
        self, name: str, folder: Path, prefix: str, owned: list[np.ndarray], *, in_order: bool = True
    ) -> None:
        """Each group's tars hold its samples in this order, as webdataset reads both."""
        plain, compressed = files_in(folder, f"{prefix}*.tar"), files_in(folder, f"{prefix}*.tar.zst")
        if (digest := digest_of(plain or compressed or files_in(folder, "*.tar"))) in self.checked:
            return
        for group, ids in enumerate(owned):
            worker, bin_ = divmod(group, BINS)
            ours = f"**/worker-{worker:03d}/{prefix}bin{bin_:02d}-*.tar"
            tars = sorted([*folder.glob(ours), *folder.glob(f"group-{group:03d}-*.tar")])
            for path in sorted(folder.glob(f"{ours}.zst")):
                tars.append(path.with_suffix(""))
                with open(path, "rb") as file, open(tars[-1], "wb") as tar:
                    zstandard.ZstdDecompressor().copy_stream(file, tar)
            self.check_samples(f"{name}, group {group}", tars, ids if in_order else np.sort(ids))
        self.checked.add(digest)

    def check_samples(self, what: str, tars: Sequence[Path], ids: np.ndarray) -> None:
        got = samples_in(tars)
        for sample in ids.tolist():
            key, parts = next(got, ("none", {}))
            wanted = self.samples[sample]
            check(key == wanted[0], f"{what}: sample {key} where {wanted[0]} belongs")
            check(parts == wanted[1], f"{what}: sample {key} has other bytes than in the source")
        check(next(got, None) is None, f"{what}: more than its {len(ids)} samples")

    def check_moved(self, name: str, shards: Any, owned: list[np.ndarray]) -> None:
        """A delta generation is read through its indexes: old tars still hold what has moved away."""
        for worker in range(WORKERS):
            found = shards.index(worker)
            ids = np.concatenate(owned[worker * BINS : (worker + 1) * BINS])
            same = np.array_equal(np.sort(found.ids), np.sort(ids))
            check(same, f"{name}: worker {worker} has other samples")
            with ExitStack() as stack:
                files = [stack.enter_context(open(name, "rb")) for name in found.files]
                for row, sample in enumerate(found.ids.tolist()):
                    key, parts = found.key(row), {}
                    for p in range(found.part_start[row], found.part_start[row + 1]):
                        file = files[found.file[row]]
                        file.seek(found.part_offset[p])
                        parts[found.extensions[found.part_ext[p]]] = file.read(found.part_size[p])
                    check(
                        (key, parts) == self.samples[sample], f"{name}: sample {key} is not as in the source"
                    )
