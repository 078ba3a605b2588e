"""What the fluent methods do with a sample: functions of one, which processes can be sent."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pyimportance.errors import ArgumentError
from pyimportance.load.webdataset.stages import RefusedError, first_of


def names_of(names: str | Iterable[str]) -> tuple[str, ...]:
    return tuple(names.split(";") if isinstance(names, str) else names)


@dataclass(frozen=True)
class MapDict:
    functions: Mapping[str, Callable[[Any], Any]]

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return {**sample, **{name: f(first_of(sample, (name,))) for name, f in self.functions.items()}}


@dataclass(frozen=True)
class MapTuple:
    functions: tuple[Callable[[Any], Any] | None, ...]

    def __call__(self, sample: Any) -> tuple[Any, ...]:
        functions = [*self.functions[: len(sample)], *[None] * (len(sample) - len(self.functions))]
        return tuple(v if f is None else f(v) for f, v in zip(functions, sample, strict=True))


@dataclass(frozen=True)
class ToTuple:
    names: tuple[tuple[str, ...], ...]
    missing_is_error: bool
    none_is_error: bool

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, ...]:
        values = tuple(first_of(sample, n, missing_is_error=self.missing_is_error) for n in self.names)
        if self.none_is_error and any(value is None for value in values):
            raise ArgumentError(f"to_tuple: a part of sample {sample.get('__key__')!r} is None")
        return values


@dataclass(frozen=True)
class Rename:
    names: Mapping[str, tuple[str, ...]]
    keep: bool

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        gone = {old for names in self.names.values() for old in names}
        rest = {name: value for name, value in sample.items() if name not in gone} if self.keep else {}
        return {**rest, **{name: first_of(sample, old) for name, old in self.names.items()}}


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, p) or fnmatchcase(f".{name}", p) for p in patterns)


@dataclass(frozen=True)
class RenameKeys:
    patterns: tuple[tuple[str, str], ...]
    keep_unselected: bool
    must_match: bool
    duplicate_is_error: bool

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        matched = set()
        for old, value in sample.items():
            found = next(
                ((p, new) for p, new in reversed(self.patterns) if _matches(old.lower(), (p,))), None
            )
            if found is None:
                if self.keep_unselected:
                    result[old] = value
                continue
            matched.add(found[0])
            if found[1] not in result:
                result[found[1]] = value
            elif self.duplicate_is_error:
                raise ArgumentError(
                    f"rename_keys: two parts of {sample.get('__key__')!r} become {found[1]!r}"
                )
        missing = [p for p, _ in self.patterns if p not in matched]
        if self.must_match and missing:
            raise ArgumentError(f"rename_keys: nothing in {sample.get('__key__')!r} matches {missing[0]!r}")
        return result


@dataclass(frozen=True)
class ExtractKeys:
    patterns: tuple[tuple[str, ...], ...]
    duplicate_is_error: bool
    ignore_missing: bool

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, ...]:
        values = []
        for patterns in self.patterns:
            found = [name for name in sample if _matches(name, patterns)]
            if not found and not self.ignore_missing:
                raise ArgumentError(
                    f"extract_keys: nothing in {sample.get('__key__')!r} matches {';'.join(patterns)}"
                )
            if len(found) > 1 and self.duplicate_is_error:
                raise ArgumentError(
                    f"extract_keys: {', '.join(found)} in {sample.get('__key__')!r} "
                    f"match {';'.join(patterns)}"
                )
            values += [sample[name] for name in found[:1]]
        return tuple(values)


@dataclass(frozen=True)
class XDecode:
    """decoders: of a stream of bytes, by pattern; the last that matches decides, False leaves the bytes."""

    decoders: tuple[tuple[str, Callable[[Any], Any] | bool], ...]
    must_decode: bool

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        return {name: self._value(sample, name, value) for name, value in sample.items()}

    def _value(self, sample: dict[str, Any], name: str, value: Any) -> Any:
        if name.startswith("__"):
            return value
        last = name.rpartition("/")[2].lower()
        decode = next((d for pattern, d in reversed(self.decoders) if _matches(last, (pattern,))), None)
        if callable(decode):
            return decode(io.BytesIO(value) if isinstance(value, bytes) else value)
        if decode is None and self.must_decode:
            raise ArgumentError(
                f"xdecode: nothing decodes {name!r} of sample {sample.get('__key__')!r}; name a function for "
                "it, or must_decode=False"
            )
        return value


def as_bytes(stream: Any) -> bytes:
    data: bytes = stream.read()
    return data


def as_text(stream: Any) -> str:
    return as_bytes(stream).decode()


def unpickled(stream: Any) -> Any:
    return pickle.load(stream)


def refused_pickle(stream: Any) -> Any:
    raise RefusedError(
        "xdecode: 'pyd' is a pickle, and reading one runs whatever code it names. Where you trust who wrote "
        "it: xdecode(unsafe_pickle=True); else give it a function"
    )
