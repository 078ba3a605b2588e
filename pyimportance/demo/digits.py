"""scikit-learn's handwritten digits (1,797 images of 8x8 pixels, UCI 1998) as WebDataset tars."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from pyimportance.errors import PyimportanceError
from pyimportance.io.atomic import make_directory, write_bytes

TOTAL = 1797
TRAIN = 1437  # four fifths; the others test
SHARD = 240


def digits_files() -> list[str]:
    """The names of the tars that :func:`write_digits` writes. Each appears whole or not at all."""
    sizes = {"train": TRAIN, "test": TOTAL - TRAIN}
    return [f"{split}-{i:03d}.tar" for split, size in sizes.items() for i in range(-(-size // SHARD))]


def write_digits(folder: Path) -> None:
    """Writes ``train-00*.tar`` and ``test-00*.tar`` with a ``.png`` and a ``.cls`` per image, in a fixed
    random order: the package holds them as they were collected, writer by writer.

    Raises PyimportanceError without scikit-learn or Pillow.
    """
    try:
        from PIL import Image
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise PyimportanceError(
            f'the digits need scikit-learn and Pillow ({error}): pip install "pyimportance[demo]"'
        ) from None
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    make_directory(folder)
    for split, ids in (("train", order[:TRAIN]), ("test", order[TRAIN:])):
        for number, start in enumerate(range(0, len(ids), SHARD)):
            shard = io.BytesIO()
            with tarfile.open(fileobj=shard, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for i, sample in enumerate(ids[start : start + SHARD].tolist(), start):
                    png = io.BytesIO()
                    Image.fromarray(pixels[sample]).save(png, "PNG")
                    _add(tar, f"{split}{i:06d}.cls", str(int(labels[sample])).encode())
                    _add(tar, f"{split}{i:06d}.png", png.getvalue())
            write_bytes(folder / f"{split}-{number:03d}.tar", shard.getvalue())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
