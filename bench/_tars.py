"""Made WebDataset tars, and what webdataset reads from tars."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from webdataset import tariterators

Sample = tuple[str, dict[str, bytes]]


def make_source(folder: Path, samples: int, payload: int, tars: int = 4) -> list[str]:
    """Tars of (label, image-like) samples; the images' sizes vary by a half around ``payload``."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    names = [str(folder / f"train-{number:03d}.tar") for number in range(tars)]
    for number, name in enumerate(names):
        with tarfile.open(name, "w", format=tarfile.USTAR_FORMAT) as tar:
            for i in range(number, samples, tars):
                image = rng.bytes(int(payload * rng.uniform(0.5, 1.5)))
                for member, data in ((f"{i:08d}.cls", b"%d" % (i % 10)), (f"{i:08d}.jpg", image)):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return names


def read(path: str | Path) -> Iterator[dict[str, Any]]:
    """A tar's samples, as webdataset's pipeline reads them."""
    with open(path, "rb") as stream:
        yield from tariterators.group_by_keys(
            tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
        )


def samples_in(tars: Iterable[str | Path]) -> Iterator[Sample]:
    """Keys and parts, in the order of the tars."""
    for tar in tars:
        for sample in read(tar):
            yield sample["__key__"], {name: sample[name] for name in sample if not name.startswith("_")}
