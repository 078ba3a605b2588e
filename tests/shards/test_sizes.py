"""Our tars are no larger than the smallest that anybody writes for the same samples.

But for members of two kinds, by decision: a name that is not ASCII, and a payload of 8 GiB or more, take a
pax header of 1 KiB, as POSIX has no other way to say them. tarfile does without: of names it writes the bytes
in whatever encoding it is given (ustar and gnu), and of sizes a binary number (gnu; its ustar refuses them).
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from webdataset import TarWriter

from pyimportance import Partition, write_shards

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


@pytest.mark.parametrize(("samples", "payload"), [(1, 1), (1, 3_000), (97, 3_000), (5, 110_000)])
def test_against_all_who_write_tars(
    samples: int, payload: int, tmp_path: Path, divide: Callable[..., Partition]
) -> None:
    """GNU tar writes the least without its records of 10 KiB (-b1): a header a part, and two blocks.

    Of peers only webdataset writes tars: SPDL, webshart, wids and Megatron Energon read them, and LitData and
    mosaicml-streaming write formats of their own.
    """
    rng = np.random.default_rng(0)
    sizes = rng.integers(payload // 2, payload * 3 // 2 + 1, samples).tolist()
    parts: dict[str, bytes] = {}
    for i, size in enumerate(sizes):
        parts |= {f"{i:08d}.cls": b"7", f"{i:08d}.jpg": bytes(size)}
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    written: dict[str, int] = {}
    for kind, number in FORMATS.items():
        with tarfile.open(tmp_path / f"{kind}.tar", "w", format=number) as tar:
            for name, data in parts.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        written[f"tarfile, {kind}"] = (tmp_path / f"{kind}.tar").stat().st_size
    with TarWriter(str(tmp_path / "wds.tar"), encoder=False, mtime=0) as writer:
        for i in range(samples):
            key = f"{i:08d}"
            writer.write({"__key__": key, "cls": parts[f"{key}.cls"], "jpg": parts[f"{key}.jpg"]})
    written["webdataset"] = (tmp_path / "wds.tar").stat().st_size
    version = ["tar", "--version"]
    if shutil.which("tar") and b"GNU" in subprocess.run(version, capture_output=True, check=True).stdout:
        for how in ("--format=ustar", "--format=gnu", "--format=posix", "--format=v7", "-b1"):
            made = tmp_path / "by-tar.tar"
            command = ["tar", "cf", str(made), how, "--sort=name", "-C", str(folder), *parts]
            subprocess.run(command, check=True)
            written[f"tar {how}"] = made.stat().st_size
        assert written["tar -b1"] == min(written.values())
    shards = write_shards(tmp_path / "ustar.tar", divide(samples, 1), tmp_path / "out")
    (ours,) = (s.nbytes for s in shards.shards)
    assert ours <= min(written.values()), written
    assert ours == sum(512 + len(data) + -len(data) % 512 for data in parts.values()) + 1024
