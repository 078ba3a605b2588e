"""Bytes -> values: what each extension becomes, and what a hostile part cannot do."""

import gzip
import io
import json
import pickle
import sys

import numpy as np
import pytest
import torch
import webdataset as wds
from PIL import Image

from pyimportance import ArgumentError, DataError, WebDataset
from pyimportance.load.webdataset import images
from pyimportance.load.webdataset.decoders import Continue, Decoder
from pyimportance.load.webdataset.images import SPECS


def saved(save, value):
    file = io.BytesIO()
    save(file, value)
    return file.getvalue()


def image(mode="RGB", format="PNG", size=(5, 4)):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    Image.fromarray(pixels).convert("RGB" if mode == "P" else "RGBA").convert(mode).save(file, format)
    return file.getvalue()


ARRAY = np.arange(6, dtype=np.int16).reshape(2, 3)


def test_by_extension():
    parts = {
        "txt": "grün".encode(),
        "cls": b"7",
        "id": b"-3\n",
        "json": json.dumps({"a": [1]}).encode(),
        "npy": saved(np.save, ARRAY),
        "npz": saved(lambda file, a: np.savez(file, a=a), ARRAY),
        "pth": saved(lambda file, a: torch.save(a, file), torch.arange(3)),
        "seg.json.gz": gzip.compress(b"[2]"),
        "bin": b"\0\1",
        "__key__": "k",
    }
    value = Decoder([])(parts)
    assert (value["txt"], value["cls"], value["id"], value["json"]) == ("grün", 7, -3, {"a": [1]})
    np.testing.assert_array_equal(value["npy"], ARRAY)
    np.testing.assert_array_equal(value["npz"]["a"], ARRAY)
    assert value["pth"].tolist() == [0, 1, 2]
    assert (value["seg.json.gz"], value["bin"], value["__key__"]) == ([2], b"\0\1", "k")


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_images_are_those_of_webdataset(spec, mode):
    sample = {"__key__": "k", "png": image(mode)}
    ours, theirs = (
        Decoder([spec])(sample)["png"],
        wds.autodecode.Decoder([wds.imagehandler(spec)])(sample)["png"],
    )
    assert type(ours) is type(theirs)
    if isinstance(ours, Image.Image):
        assert (ours.mode, ours.tobytes()) == (theirs.mode, theirs.tobytes())
    else:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-6)


def test_only_images_are_decoded_as_such():
    png = image()
    value = Decoder(["rgb8"], only="jpg png")({"png": png, "jpg": image(format="JPEG"), "cls": b"1"})
    assert (value["png"].shape, value["png"].dtype, value["cls"]) == ((4, 5, 3), np.uint8, b"1")
    assert Decoder(["pil"])({"bin": png})["bin"] == png


def test_programs_that_pillow_would_run_are_never_run(monkeypatch):
    """A PostScript file is drawn by ghostscript; neither its name nor its bytes get it there."""
    script = image(format="EPS")
    assert Decoder(["pil"])({"eps": script})["eps"] == script
    with pytest.raises(
        DataError, match=r"a\.tar, member 'k\.png': cannot be decoded \(UnidentifiedImageError"
    ):
        Decoder(["pil"])({"__key__": "k", "__url__": "a.tar", "png": script})


def test_pickles_are_asked_for():
    data = {"pkl": pickle.dumps([1]), "cls": b"1"}
    with pytest.raises(ArgumentError, match="runs whatever code it names"):
        Decoder([])(data)
    assert Decoder([], unsafe_pickle=True)(data) == {"pkl": [1], "cls": 1}
    assert Decoder([], only=["cls"])(data) == {"pkl": data["pkl"], "cls": 1}
    saved_by_torch = {"pth": saved(lambda file, a: torch.save(a, file), slice(1, 2))}
    with pytest.raises(ArgumentError, match=r"'pth' names builtins\.slice, .* decode\(unsafe_pickle=True\)"):
        Decoder([])(saved_by_torch)
    assert Decoder([], unsafe_pickle=True)(saved_by_torch) == {"pth": slice(1, 2)}
    for damaged in (b"x" * 40, saved_by_torch["pth"][:200]):
        with pytest.raises(DataError, match=r"'None\.pth': cannot be decoded"):
            Decoder([])({"pth": damaged})
    for name, value in {
        "npy": saved(np.save, np.array([{}], object)),
        "npz": saved(lambda file, a: np.savez(file, a=a), np.array([{}], object)),
    }.items():
        with pytest.raises(DataError, match=f"'None.{name}': cannot be decoded"):
            Decoder([], unsafe_pickle=True)({name: value})


def test_handlers_in_order():
    def one(key, data):
        return f"one {key}" if key.endswith(".a") else None

    def two(key, data):
        return Continue(".a", data) if key == ".b" else None

    sample = {"a": b"", "b": b"", "c": b"7"}
    assert Decoder([one])(sample) == {"a": "one .a", "b": b"", "c": b"7"}
    assert Decoder([two, one], post=[])(sample) == {"a": "one .a", "b": "one .a", "c": b"7"}
    assert Decoder([one], pre=[lambda key, data: 0])(sample) == {"a": 0, "b": 0, "c": 0}
    wrapped = [lambda key, data: wds.autodecode.Continue(".cls", data) if key == ".c" else None]
    assert Decoder(wrapped)(sample)["c"] == 7


def test_a_package_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ArgumentError, match="decode: msgpack is not installed"):
        Decoder([])({"mp": b""})
    images._known.cache_clear()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ArgumentError, match="decode: Pillow is not installed"):
        Decoder(["pil"])({"png": b""})


REFUSED = {
    "weights": (
        {"pth": saved(lambda file, a: torch.save(a, file), slice(1, 2))},
        lambda d, **how: d.decode(**how),
        "decode: 'pth' names builtins.slice",
    ),
    "pickle": ({"pkl": pickle.dumps(1)}, lambda d, **how: d.decode(**how), "decode: 'pkl' is a pickle"),
    "package": ({"mp": b""}, lambda d, **how: d.decode(**how), "msgpack is not installed"),
    "tuples": ({"cls": b"1"}, lambda d, **how: d.to_tuple("cls").decode(**how), "samples are dicts"),
}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", REFUSED)
def test_no_handler_is_asked_about_what_is_refused(tmp_path, write_tar, monkeypatch, case, ranks):
    """It would leave out every sample, and say nothing; webdataset runs what is in the pickle."""
    parts, decode, text = REFUSED[case]
    monkeypatch.setitem(sys.modules, "msgpack", None)
    write_tar(tmp_path / "a.tar", [(f"{i}", parts) for i in range(4)])
    for handler in (wds.ignore_and_continue, wds.ignore_and_stop):
        dataset = WebDataset(tmp_path / "a.tar", rank=0, world_size=ranks)
        with pytest.raises(ArgumentError, match=text):
            list(decode(dataset, handler=handler))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves files to the collector
def test_a_handler_is_asked_about_what_is_not_there(tmp_path, write_tar):
    """A part that a sample lacks, and one that cannot be decoded, as by webdataset."""
    write_tar(tmp_path / "a.tar", [("0", {"cls": b"1"}), ("1", {"txt": b""}), ("2", {"cls": b"x"})])
    for make in (WebDataset, wds.WebDataset):
        dataset = make(str(tmp_path / "a.tar"), shardshuffle=False).decode(handler=wds.ignore_and_continue)
        assert list(dataset.to_tuple("cls", handler=wds.ignore_and_continue)) == [(1,)]


def test_tenbin():
    data = wds.tenbin.encode_buffer([ARRAY])
    np.testing.assert_array_equal(Decoder([])({"ten": bytes(data)})["ten"][0], ARRAY)
