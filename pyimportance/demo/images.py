"""Image bytes -> batches of pixels. Each image is decoded once per process and kept; its bytes are still
read every epoch, so the I/O is that of any training, while two cores are not spent on decoding."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyimportance.errors import DataError

if TYPE_CHECKING:
    import torch

EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm")
LARGEST_SIDE = 64  # the network is made for small images; larger ones are resized when decoded
KEPT_BYTES = 2**30  # of decoded pixels; what does not fit is decoded again each time


def image_extension(extensions: Sequence[str]) -> str | None:
    """The first of a sample's extensions that is an image ("png", or "left.png")."""
    return next((e for e in extensions if e.rpartition(".")[2] in EXTENSIONS), None)


def image_shape(data: bytes, where: str, member: str) -> tuple[int, int, int]:
    """Channels (1 or 3), height and width for all images of a data set, judged by this one."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height, mode = *image.size, image.mode
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"not an image Pillow can read: {error}", path=where, member=member) from None
    scale = min(1.0, LARGEST_SIDE / max(width, height))
    sides = (max(4, round(height * scale) // 4 * 4), max(4, round(width * scale) // 4 * 4))
    return (1 if mode in ("1", "L") else 3, *sides)


def decode(data: bytes, shape: tuple[int, int, int], where: str, member: str) -> NDArray[np.uint8]:
    """Pixels uint8 ``shape`` (channels, height, width), resized where the image has another size."""
    from PIL import Image

    channels, height, width = shape
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = image.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"not an image Pillow can read: {error}", path=where, member=member) from None
    if pixels.size != (width, height):
        pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(pixels).reshape(height, width, channels).transpose(2, 0, 1)


class Images:
    """Decodes samples and gives augmented batches.

    Args:
        samples: sample ids are 0..samples-1.
        shape: channels, height, width of every image.
        flip: mirror half of the images of a batch, at random.
        shift: move each image by up to this many pixels each way (reflected at the border).
    """

    def __init__(self, samples: int, shape: tuple[int, int, int], *, flip: bool, shift: int) -> None:
        channels, height, width = shape
        padded = (channels, height + 2 * shift, width + 2 * shift)
        kept = min(samples, KEPT_BYTES // int(np.prod(padded)))
        self.shape, self.flip, self.shift = shape, flip, shift
        self._pixels = np.empty((kept, *padded), np.uint8)  # pages are touched only as images arrive
        self._known = np.zeros(kept, bool)

    def batch(self, samples: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> torch.Tensor:
        """Augmented pixels of these samples (as a loader yields them): float32 [B, C, H, W] in [-1, 1]."""
        ids = np.array([sample["__index__"] for sample in samples])
        slots = np.arange(len(ids))
        if ids.max(initial=-1) < len(self._known):
            pixels = self._pixels
            slots = ids
            for i in np.flatnonzero(~self._known[ids]).tolist():
                pixels[ids[i]] = self._decode(samples[i])
                self._known[ids[i]] = True
        else:
            pixels = np.stack([self._decode(sample) for sample in samples])
        _, height, width = self.shape
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (height, width), axis=(2, 3))
        down, right = rng.integers(0, 2 * self.shift + 1, (2, len(ids)))
        picked = windows[slots, :, down, right]
        if self.flip:
            mirrored = rng.random(len(ids)) < 0.5
            picked[mirrored] = picked[mirrored][..., ::-1]
        return to_tensor(picked)

    def _decode(self, sample: Mapping[str, Any]) -> NDArray[np.uint8]:
        extension = image_extension(list(sample))
        where, key = str(sample["__url__"]), str(sample["__key__"])
        if extension is None:
            raise DataError("has no image among its parts", path=where, member=key)
        pixels = decode(sample[extension], self.shape, where, f"{key}.{extension}")
        return np.pad(pixels, ((0, 0), (self.shift, self.shift), (self.shift, self.shift)), mode="reflect")


def to_tensor(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """float32 [B, C, H, W] in [-1, 1], channels last in memory."""
    import torch

    batch = torch.from_numpy(np.ascontiguousarray(pixels)).float().div_(127.5).sub_(1)
    return batch.contiguous(memory_format=torch.channels_last)
