"""A value of a sample -> a part: its extension and its bytes.

    bytes                    as they are; the extension is the field's name
    text                     UTF-8, .txt
    an integer               decimal, .cls
    {"bytes", "path"}        the bytes (so Hugging Face stores images and audio); the extension is the field's
                             name and the path's own
    anything else            JSON as Python writes it (NaN and Infinity included), .json
    None                     no part

A field's name that does not end so already is put before: a text "caption" becomes caption.txt, an integer
"label" label.cls; "txt" and "cls" stay as they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from pyimportance.errors import DataError

KEY: Final = "__key__"
_FILE: Final = {"bytes", "path"}


def parts_of(sample: Mapping[str, Any], open_path: Callable[[str], bytes] | None = None) -> dict[str, bytes]:
    """The parts of a sample by extension. ``__x__`` fields are the reader's own and left out.

    open_path  reads a file that is named and not contained; None: that is an error

    Raises DataError naming the field, for a value that is none of the above, for fields that come to the
    same extension, and where nothing is left.
    """
    parts: dict[str, bytes] = {}
    for name, value in sample.items():
        if not isinstance(name, str):
            raise DataError(f"a field is named {name!r}; names are text")
        if value is None or (name.startswith("__") and name.endswith("__")):
            continue
        extension, data = _part(name, value, open_path)
        if extension in parts:
            raise DataError(f"field {name!r}: another one has the extension {extension!r} already")
        parts[extension] = data
    if not parts:
        raise DataError(f"has no parts (fields are {', '.join(map(repr, sample)) or 'none'})")
    return parts


def extended(name: str, kind: str) -> str:
    """``name`` with the extension ``kind``, in lower case; once if it ends so already."""
    name, kind = name.lower(), kind.lower()
    return name if name == kind or name.endswith(f".{kind}") else f"{name}.{kind}"


def _part(name: str, value: Any, open_path: Callable[[str], bytes] | None) -> tuple[str, bytes]:
    if isinstance(value, bytes | bytearray | memoryview):
        return name.lower(), bytes(value)
    if isinstance(value, str):
        return extended(name, "txt"), _utf8(name, value)
    if isinstance(value, Mapping) and set(value) == _FILE:
        return _file(name, value["bytes"], value["path"], open_path)
    value = value.tolist() if hasattr(value, "tolist") else value  # NumPy's and torch's
    if isinstance(value, int) and not isinstance(value, bool):
        return extended(name, "cls"), str(value).encode()
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as e:
        raise DataError(
            f"field {name!r} is a {type(value).__name__} that is no JSON ({e}); give its bytes"
        ) from None
    return extended(name, "json"), _utf8(name, text)


def _file(name: str, data: Any, path: Any, open_path: Callable[[str], bytes] | None) -> tuple[str, bytes]:
    kind = os.path.splitext(path)[1][1:] if isinstance(path, str) else ""
    extension = extended(name, kind) if kind else name.lower()
    if isinstance(data, bytes):
        return extension, data
    if isinstance(path, str) and open_path is not None:
        return extension, open_path(path)
    raise DataError(f"field {name!r} holds no bytes, only the path {path!r}")


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as e:
        raise DataError(f"field {name!r} is text that is no UTF-8 ({e.reason})") from None


def _plain(value: Any) -> Any:
    """What json does not know: dates and times as ISO 8601, exact numbers as text, arrays as lists."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    if type(value).__module__ in ("decimal", "uuid", "fractions"):
        return str(value)
    raise TypeError(f"it holds a {type(value).__name__}")


def key_of(sample: Mapping[str, Any]) -> str:
    """Raises DataError for a sample without a key."""
    key = sample.get(KEY)
    if not isinstance(key, str) or not key:
        raise DataError(f"has {KEY!r} {key!r}; a text that is not empty is needed")
    return key
