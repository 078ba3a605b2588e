"""Parquet files: a row is a sample, a column a part (see fields.py).

Keys are those of a text column ``__key__``, else the file's stem and the row, as in ``train-00000/00000017``.
Pages that say what they sum to (CRC-32 in their headers, which writers may leave out) are compared with it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pyimportance.errors import DataError
from pyimportance.io.meter import Meter
from pyimportance.io.storage import File, open_file
from pyimportance.io.urls import public
from pyimportance.shards.streams.stream import Sample, Samples, Stream, state_of, stem
from pyimportance.shards.streams.tables import check_columns, samples_of

_BATCH = 4 << 20  # bytes of rows at a time
_ROWS = 1024  # at most


def stream_of(files: Sequence[str]) -> Stream:
    """Each of these files as one unit."""
    return Stream(
        f"{public(files[0])!r}" + (f" and {len(files) - 1} more Parquet files" if len(files) > 1 else ""),
        tuple(
            Samples(stem(path), public(path), partial(_read, path), partial(state_of, path)) for path in files
        ),
    )


def _read(path: str, meter: Meter | None) -> Iterator[Sample]:
    """Memory: 4 MiB of rows, and what Arrow holds of the pages they are in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shown, prefix = public(path), stem(path)
    with open_file(path, meter, "origin") as file:
        try:
            data = pa.PythonFile(_Seekable(file), "r")
            table = pq.ParquetFile(
                data, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True
            )
            check_columns(table.schema_arrow.names, shown)
            row = 0
            for group in range(table.num_row_groups):
                found = table.metadata.row_group(group)
                fit = _BATCH // max(1, found.total_byte_size // max(1, found.num_rows))
                batches = table.iter_batches(
                    batch_size=min(max(fit, 1), _ROWS), row_groups=[group], use_threads=False
                )
                for batch in batches:
                    yield from samples_of(batch, shown, row, lambda at: f"{prefix}/{at:08d}")
                    row += len(batch)
        except DataError:
            raise
        except (pa.ArrowException, OSError, ValueError) as e:
            first = (str(e) or repr(e)).splitlines()[0]
            raise DataError(f"is no sound Parquet file ({first})", path=shown) from e


class _Seekable(io.RawIOBase):
    """A File as Arrow reads files."""

    def __init__(self, file: File) -> None:
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, nbytes: int = -1) -> Any:
        left = max(self._file.size - self._at, 0)
        data = self._file.pread(self._at, left if nbytes < 0 else min(nbytes, left))
        self._at += len(data)
        return data
