"""Fields: a JSON object that anybody may have written, taken apart with a check for each value."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any, Final

from pyimportance.errors import DataError

FORMAT: Final = "pyimportance-shards"
VERSION: Final = 1
VERSION_COMPRESSED: Final = 2
"""Of manifests of compressed shards, for releases that would take these for tars to refuse them."""

_PATH = re.compile(r"worker-\d+/(?!\.)[\w.-]+", re.ASCII)
_LIMIT = 1 << 62  # no honest count or size comes near; sums of a few stay within int64


class Fields:
    """A JSON object whose fields are taken out one by one, each with its check."""

    def __init__(self, data: bytes | dict[str, Any], path: str, where: str = "") -> None:
        self.path, self.where = path, where
        if isinstance(data, dict):
            self.fields = data
            return
        try:
            fields: Any = json.loads(str(data, "utf-8"))  # of bytes it takes halves of characters, and UTF-16
        except (ValueError, RecursionError) as e:
            raise DataError(f"is no JSON ({e})", path=path) from None
        try:
            if b"\\u" in data:  # halves of characters, which are in no name of a file
                json.dumps(fields, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DataError("holds text that is not UTF-8", path=path) from None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise DataError(f"is no manifest of pyimportance (no 'format': {FORMAT!r})", path=path)
        got = fields.get("version")
        if type(got) is not int or got not in (VERSION, VERSION_COMPRESSED):  # True is 1 elsewhere
            allowed = f"{VERSION} and {VERSION_COMPRESSED}"
            raise DataError(f"has format version {got!r}; this release reads {allowed}", path=path)
        self.fields = fields

    def fail(self, name: str, problem: str) -> None:
        got = repr(self.fields.get(name))
        got = got if len(got) <= 80 else got[:77] + "..."
        raise DataError(f"field {self.where + name!r}: {problem}; got {got}", path=self.path)

    def get(self, name: str) -> Any:
        if name not in self.fields:
            raise DataError(f"field {self.where + name!r} is missing", path=self.path)
        return self.fields[name]

    def integer(self, name: str, low: int = 0, high: int = _LIMIT) -> int:
        value = self.get(name)
        if type(value) is not int or not low <= value <= high:
            self.fail(name, f"must be an integer from {low} to {high}")
        return int(value)

    def number(self, name: str) -> float | None:
        value = self.get(name)
        if value is None:
            return None
        number = math.nan
        with suppress(OverflowError):  # of an integer of hundreds of digits
            number = float(value) if type(value) in (int, float) else number
        if not math.isfinite(number):
            self.fail(name, "must be a finite number or null")
        return number

    def text(self, name: str, pattern: re.Pattern[str] | None = None) -> str:
        value = self.get(name)
        if not isinstance(value, str) or (pattern is not None and not pattern.fullmatch(value)):
            self.fail(name, "must be text" + (f" like {pattern.pattern}" if pattern else ""))
        return str(value)

    def flag(self, name: str) -> bool:
        if not isinstance(self.get(name), bool):
            self.fail(name, "must be true or false")
        return bool(self.get(name))

    def relative_path(self, name: str) -> str:
        """Of a file in a worker's directory: of letters that mean nothing to a shell, a URL or a terminal."""
        path = self.text(name)
        if not _PATH.fullmatch(path):
            self.fail(name, "must be a relative path without '.' or '..', like worker-000/index-000000.arrow")
        return path

    def strings(self, name: str) -> list[str]:
        values = self.get(name)
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            self.fail(name, "must be a list of texts")
        return list(values)

    def item(self, name: str) -> Fields:
        value = self.get(name)
        if not isinstance(value, dict):
            self.fail(name, "must be an object")
        return Fields(value, self.path, f"{self.where}{name}.")

    def items(self, name: str) -> list[Fields]:
        values = self.get(name)
        if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
            self.fail(name, "must be a list of objects")
        return [Fields(v, self.path, f"{self.where}{name}[{i}].") for i, v in enumerate(values)]
