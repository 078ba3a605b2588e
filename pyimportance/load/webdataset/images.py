"""Encoded images -> PIL images, NumPy arrays [H, W(, C)] or torch tensors [(C,) H, W]."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from pyimportance.errors import ArgumentError
from pyimportance.load.webdataset.stages import RefusedError

if TYPE_CHECKING:
    from PIL import Image

# kind, mode, whether bytes 0..255 (else float32 in 0..1; PIL images are what they are)
_KINDS = {"": "numpy", "torch": "torch", "pil": "pil"}
SPECS: dict[str, tuple[str, str, bool]] = {
    f"{prefix}{mode}{eight}": (_KINDS[prefix], mode.upper(), bool(eight))
    for prefix, mode, eight in product(_KINDS, ("l", "rgb", "rgba"), ("", "8"))
    if not (prefix == "pil" and eight)
}
SPECS["torch"], SPECS["pil"] = SPECS["torchrgb"], SPECS["pilrgb"]

# Pillow runs programs of the machine for these, or is told by them where else to read.
_NEVER = {"EPS", "WMF", "GRIB", "BUFR", "HDF5", "MPEG"}


@lru_cache
def _known() -> tuple[tuple[str, ...], frozenset[str]]:
    """(The formats that Pillow may open, their extensions without the dot)."""
    try:
        from PIL import Image
    except ImportError:
        raise RefusedError("decode: Pillow is not installed; install it, or decode images yourself") from None

    extensions = Image.registered_extensions()  # this imports Pillow's formats
    formats = tuple(sorted(name for name in Image.OPEN if name not in _NEVER))
    return formats, frozenset(e[1:].lower() for e, name in extensions.items() if name in formats)


class ImageDecoder:
    """A handler of `Decoder` for the extensions that are images: ``(key, data)`` -> image, or None.

    spec: "pil", "rgb", "l8", "torchrgb", ... : kind (numpy by default, torch, pil), mode (l, rgb, rgba), and
    8 for uint8 where float32 in 0..1 is the default. Raises ArgumentError for another.
    """

    def __init__(self, spec: str) -> None:
        if spec not in SPECS:
            raise ArgumentError(f"decode({spec!r}): must be one of {', '.join(sorted(SPECS))}, or a function")
        self.spec = spec

    def __call__(self, key: str, data: bytes) -> Any:
        formats, extensions = _known()
        if key.rpartition(".")[2].lower() not in extensions:
            return None
        from PIL import Image

        kind, mode, eight = SPECS[self.spec]
        with Image.open(io.BytesIO(data), formats=formats) as image:
            converted = image.convert(mode)
        return converted if kind == "pil" else _array(converted, kind, eight)


def _array(image: Image.Image, kind: str, eight: bool) -> Any:
    array = np.array(image)
    if not eight:
        array = array.astype(np.float32) / np.float32(255)
    if kind == "numpy":
        return array
    import torch

    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1) if array.ndim == 3 else array))
