"""Arrow tables -> samples, a column to a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyimportance.errors import DataError
from pyimportance.shards.streams.fields import KEY, key_of, parts_of
from pyimportance.shards.streams.stream import Sample


def check_columns(names: list[str], where: str) -> None:
    """Raises DataError where no column could be a part, or two have one name."""
    if not [name for name in names if not (name.startswith("__") and name.endswith("__"))]:
        listed = ", ".join(names) or "none"
        raise DataError(f"has no column that could be a part (columns: {listed})", path=where)
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"has {names.count(twice[0])} columns named {twice[0]!r}", path=where)


def samples_of(
    table: Any,
    where: str,
    first: int,
    key: Callable[[int], str],
    open_path: Callable[[str], bytes] | None = None,
) -> Iterator[Sample]:
    """The rows of a table or record batch, the first of which is row ``first`` of ``where``.

    Keys are those of a column ``__key__``, else ``key(row)``.
    """
    names = table.schema.names
    columns = [column.to_pylist() for column in table.columns]
    for at, values in enumerate(zip(*columns, strict=True)):
        row = dict(zip(names, values, strict=True))
        try:
            yield (key_of(row) if KEY in row else key(first + at)), parts_of(row, open_path)
        except DataError as e:
            raise DataError(f"row {first + at}: {e.problem}", path=e.path or where) from None
