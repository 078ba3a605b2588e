"""Image bytes -> batches: sizes, modes, augmentation, each image decoded once."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pyimportance import DataError
from pyimportance.demo import images as module
from pyimportance.demo.images import Images, decode, image_extension, image_shape, to_tensor
from pyimportance.demo.model import small_net


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def sample(i: int, data: bytes, extension: str = "png") -> dict[str, Any]:
    return {"__index__": i, "__key__": f"k{i}", "__url__": "a.tar", "cls": b"0", extension: data}


RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)


def test_decoding_is_exact_for_png() -> None:
    data = png(PICTURES[0])
    assert image_shape(data, "a.tar", "k.png") == (3, 8, 12)
    np.testing.assert_array_equal(decode(data, (3, 8, 12), "", ""), PICTURES[0].transpose(2, 0, 1))


def test_grey_images_have_one_channel_and_large_ones_shrink() -> None:
    assert image_shape(png(PICTURES[0, :, :, 0]), "", "") == (1, 8, 12)
    large = png(np.zeros((100, 200), np.uint8))
    assert image_shape(large, "", "") == (1, 32, 64)
    assert decode(large, (1, 32, 64), "", "").shape == (1, 32, 64)


def test_other_sizes_and_modes_are_made_to_fit() -> None:
    assert decode(png(PICTURES[0, :, :, 0]), (3, 8, 12), "", "").shape == (3, 8, 12)
    assert decode(png(PICTURES[0]), (1, 4, 4), "", "").shape == (1, 4, 4)


def test_a_batch_without_augmentation_is_the_images() -> None:
    loader = Images(5, (3, 8, 12), flip=False, shift=0)
    batch = loader.batch([sample(i, png(PICTURES[i])) for i in (3, 1)], np.random.default_rng(0))
    assert torch.equal(batch, to_tensor(PICTURES[[3, 1]].transpose(0, 3, 1, 2)))
    assert batch.min() >= -1
    assert batch.max() <= 1


def test_augmentation_flips_and_shifts_within_bounds() -> None:
    picture = PICTURES[0].transpose(2, 0, 1)
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    windows = [padded[:, y : y + 8, x : x + 12] for y in range(3) for x in range(3)]
    allowed = {w.tobytes() for w in windows} | {w[..., ::-1].tobytes() for w in windows}
    loader = Images(1, (3, 8, 12), flip=True, shift=1)
    rng = np.random.default_rng(0)
    batch = loader.batch([sample(0, png(PICTURES[0]))] * 400, rng)
    seen = {row.tobytes() for row in ((batch.numpy() + 1) * 127.5).round().astype(np.uint8)}
    assert seen == allowed


def test_each_image_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(module, "decode", lambda *a: calls.append(a[3]) or decode(*a))
    loader = Images(5, (3, 8, 12), flip=False, shift=1)
    for _ in range(3):
        loader.batch([sample(i, png(PICTURES[i])) for i in (0, 4)], RNG)
    assert calls == ["k0.png", "k4.png"]


def test_what_does_not_fit_in_memory_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [sample(i, png(PICTURES[i])) for i in range(5)]
    whole = Images(5, (3, 8, 12), flip=False, shift=0).batch(samples, RNG)
    monkeypatch.setattr(module, "KEPT_BYTES", 2 * 8 * 12 * 3)
    loader = Images(5, (3, 8, 12), flip=False, shift=0)
    for _ in range(2):
        assert torch.equal(loader.batch(samples, RNG), whole)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (sample(0, b"nonsense"), r"a.tar, member 'k0.png': not an image Pillow can read"),
        (sample(0, png(PICTURES[0])[:60]), r"member 'k0.png': not an image Pillow can read"),
        (sample(0, b"P6 32\xe732 255 ", "ppm"), r"member 'k0.ppm': not an image Pillow can read"),
        (sample(0, b"", "txt"), r"a.tar, member 'k0': has no image among its parts"),
    ],
)
def test_broken_images_are_named(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Images(1, (3, 8, 12), flip=False, shift=0).batch([broken], RNG)


def test_image_extensions() -> None:
    assert image_extension(["cls", "jpg"]) == "jpg"
    assert image_extension(["left.png"]) == "left.png"
    assert image_extension(["cls", "json"]) is None


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 4, 4), (1, 28, 28), (3, 16, 64)])
def test_the_network_takes_every_shape(shape: tuple[int, int, int]) -> None:
    model = small_net(shape, 7).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize("side", range(4, 10))
def test_the_network_trains_on_a_batch_of_one(side: int) -> None:
    """BatchNorm needs two values per channel; an epoch's last batch may hold one sample."""
    for shape in ((1, side, side), (1, side, 20)):
        model = small_net(shape, 2).train()
        model(torch.rand(1, *shape)).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("side", [8, 9, 12, 16, 32, 64])
def test_the_network_pools_twice_where_there_is_room(side: int) -> None:
    """Kept results are those of this network."""
    names = [type(layer).__name__ for layer in small_net((3, side, side), 7)]
    block = ["Conv2d", "BatchNorm2d", "ReLU"]
    body = [*block, "MaxPool2d", *block, *block, "MaxPool2d", *block]
    head = ["AdaptiveMaxPool2d", "Flatten", "Linear"]
    assert names == ["PixelUnshuffle"] * (side >= 16) + body + head
