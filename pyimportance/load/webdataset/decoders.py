"""Bytes -> values, by extension. Nothing that is read can run code, unless pickle is asked for by name."""

from __future__ import annotations

import gzip
import io
import json
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from pyimportance.errors import ArgumentError, DataError
from pyimportance.load.webdataset.images import ImageDecoder
from pyimportance.load.webdataset.stages import RefusedError

Decode = Callable[[str, bytes], Any]
"""(extension with a dot before it, bytes) -> the value, or None: not of this kind."""


@dataclass(frozen=True)
class Continue:
    """What a handler returns for the next ones to go on with, instead of a value."""

    key: str
    data: bytes


def _text(data: bytes) -> str:
    return data.decode()


def _npy(data: bytes) -> Any:
    return np.load(io.BytesIO(data), allow_pickle=False)


def _npz(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def _torch(data: bytes, *, unsafe_pickle: bool = False) -> Any:
    import torch

    try:
        return torch.load(io.BytesIO(data), weights_only=not unsafe_pickle, map_location="cpu")
    except pickle.UnpicklingError:
        if names := _unsafe_in(data):
            raise RefusedError(
                f"decode: 'pth' names {', '.join(names)[:200]}, and reading it runs that. Where you trust "
                "who wrote it: decode(unsafe_pickle=True); else leave it out: only="
            ) from None
        raise


def _unsafe_in(data: bytes) -> list[str]:
    """What loading of weights alone does not take; [] where the bytes are no such file at all."""
    import torch

    find = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)  # from 2.6 on
    try:
        return [] if find is None else sorted(find(io.BytesIO(data)))
    except (ValueError, RuntimeError):
        return []


@dataclass(frozen=True)
class _Of:
    """A function of a package that need not be there."""

    module: str
    function: str

    def __call__(self, data: bytes) -> Any:
        try:
            module = import_module(self.module)
        except ImportError:
            package = self.module.partition(".")[0]
            raise RefusedError(
                f"decode: {package} is not installed; install it, or leave the part out"
            ) from None
        return getattr(module, self.function)(data)


BY_EXTENSION: dict[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(("txt", "text", "transcript"), _text),
    **dict.fromkeys(("cls", "cls2", "index", "inx", "id"), int),
    **dict.fromkeys(("json", "jsn"), json.loads),
    **dict.fromkeys(("mp", "msg"), _Of("msgpack", "unpackb")),
    **dict.fromkeys(("ten", "tb"), _Of("webdataset.tenbin", "decode_buffer")),
    "cbor": _Of("cbor", "loads"),
    "npy": _npy,
    "npz": _npz,
    "pth": _torch,
}
PICKLED = ("pkl", "pickle", "pyd")


@dataclass(frozen=True)
class Basic:
    """Text, numbers, JSON, arrays, weights of torch; pickles, and whatever else torch saves as such, only
    where ``unsafe_pickle``."""

    unsafe_pickle: bool = False

    def __call__(self, key: str, data: bytes) -> Any:
        extension = key.rpartition(".")[2]
        if extension in PICKLED:
            if not self.unsafe_pickle:
                raise RefusedError(
                    f"decode: {extension!r} is a pickle, and reading one runs whatever code it names. Where "
                    "you trust who wrote it: decode(unsafe_pickle=True); else leave it out: only="
                )
            return pickle.loads(data)
        if extension == "pth" and self.unsafe_pickle:
            return _torch(data, unsafe_pickle=True)
        decode = BY_EXTENSION.get(extension)
        return None if decode is None else decode(data)


def gunzip(key: str, data: bytes) -> Continue | None:
    """What comes first by default: ``.json.gz`` is decoded as ``.json``."""
    return Continue(key[:-3], gzip.decompress(data)) if key.endswith(".gz") else None


class Decoder:
    """Sample -> sample with its parts decoded; a function, for `map`.

    handlers: image specs ("pil", "rgb8", ...) or functions (see `Decode`), after ``pre`` (gunzip by default)
    and before ``post`` (`Basic` by default); the first that returns no None decides, and bytes that none
    knows stay.
    only: extensions to decode, a list or words. partial: let values that are no bytes be.
    Raises DataError naming tar, key and extension where a part cannot be decoded, and RefusedError, about
    which no handler is asked, for a pickle, a package that is not installed, and what is no dict.
    """

    def __init__(
        self,
        handlers: Iterable[str | Decode],
        *,
        pre: Iterable[Decode] | None = None,
        post: Iterable[Decode] | None = None,
        only: str | Iterable[str] | None = None,
        partial: bool = False,
        unsafe_pickle: bool = False,
    ) -> None:
        main = [ImageDecoder(h) if isinstance(h, str) else h for h in handlers]
        last = [Basic(unsafe_pickle)] if post is None else post
        self.handlers = [*([gunzip] if pre is None else pre), *main, *last]
        for handler in self.handlers:
            if not callable(handler):
                raise ArgumentError(
                    f"decode: {handler!r} is neither a function nor the name of an image spec"
                )
        self.only = None if only is None else frozenset(only.split() if isinstance(only, str) else only)
        self.partial = partial

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(sample, dict):
            raise RefusedError(
                f"decode: samples are dicts, got {type(sample).__name__}; decode before to_tuple"
            )
        return {name: self._value(sample, name, value) for name, value in sample.items()}

    def _value(self, sample: Mapping[str, Any], name: str, value: Any) -> Any:
        if name.startswith("__") or (self.only is not None and name not in self.only):
            return value
        if not isinstance(value, bytes):
            if self.partial:
                return value
            raise ArgumentError(
                f"decode: part {name!r} is {type(value).__name__}, not bytes; partial=True lets it be"
            )
        try:
            return self._decoded(f".{name}", value)
        except ArgumentError:
            raise
        except Exception as error:
            raise DataError(
                f"cannot be decoded ({type(error).__name__}: {error})",
                path=sample.get("__url__", ""),
                member=f"{sample.get('__key__')}.{name}",
            ) from error

    def _decoded(self, key: str, data: bytes) -> Any:
        for handler in self.handlers:
            result = handler(key, data)
            if type(result).__name__ == "Continue":  # ours, or webdataset's
                key, data = result.key, result.data
            elif result is not None:
                return result
        return data
