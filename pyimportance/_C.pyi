"""Stub of the compiled module; sections mirror csrc/."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypedDict, TypeVar, overload

import numpy as np
import numpy.typing as npt

_Sortable = TypeVar("_Sortable", np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64)

def use_every_thread(on: bool) -> bool: ...
def parallel_for(n: int, threads: int, f: Callable[[int, int], object]) -> None: ...
def parallel_pieces(n: int, threads: int, least: int, f: Callable[[int, int], object]) -> None: ...

# order
@overload
def argsort(
    values: npt.NDArray[_Sortable],
    *,
    descending: bool,
    threads: int,
    wide: bool = False,
    compact: Literal[False] = False,
    carried: npt.NDArray[np.uint32 | np.int64] | None = None,
    sorted: Literal[False] = False,
) -> npt.NDArray[np.int64]: ...
@overload
def argsort(
    values: npt.NDArray[_Sortable],
    *,
    descending: bool,
    threads: int,
    wide: bool = False,
    compact: Literal[True],
    carried: npt.NDArray[np.uint32 | np.int64] | None = None,
    sorted: Literal[False] = False,
) -> npt.NDArray[np.uint32]: ...
@overload
def argsort(
    values: npt.NDArray[_Sortable],
    *,
    descending: bool,
    threads: int,
    wide: bool = False,
    compact: bool = False,
    carried: npt.NDArray[np.uint32 | np.int64] | None = None,
    sorted: Literal[True],
) -> tuple[npt.NDArray[np.uint32] | npt.NDArray[np.int64], npt.NDArray[_Sortable]]: ...
def select_ranks(
    values: npt.NDArray[np.float32], start: int, stop: int, *, descending: bool, threads: int
) -> npt.NDArray[np.uint32] | npt.NDArray[np.int64]: ...
def balance(
    sizes: npt.NDArray[np.int64],
    edges: npt.NDArray[np.int64],
    shares: npt.NDArray[np.int64],
) -> npt.NDArray[np.int32]: ...
def cheapest_flow(
    from_: npt.NDArray[np.int32],
    to: npt.NDArray[np.int32],
    capacity: npt.NDArray[np.int64],
    cost: npt.NDArray[np.int64],
    supply: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], int]: ...

# observe
row_dtype: np.dtype[np.void]

def observe_logits(
    ids: npt.NDArray[np.int64],
    logits: npt.NDArray[Any],
    features: npt.NDArray[Any] | None,
    targets: npt.NDArray[np.int64],
    mask: npt.NDArray[np.bool_] | None,
    skip_nonfinite: bool,
    scratch: npt.NDArray[np.void],
    epoch: npt.NDArray[np.void],
    threads: int,
) -> int: ...
def observe_tokens(
    ids: npt.NDArray[np.int64],
    logits: npt.NDArray[Any],
    targets: npt.NDArray[np.int64],
    live: npt.NDArray[np.bool_],
    mask: npt.NDArray[np.bool_] | None,
    skip_nonfinite: bool,
    scratch: npt.NDArray[np.void],
    epoch: npt.NDArray[np.void],
    threads: int,
) -> int: ...
def observe_losses(
    ids: npt.NDArray[np.int64],
    losses: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_] | None,
    skip_nonfinite: bool,
    scratch: npt.NDArray[np.void],
    epoch: npt.NDArray[np.void],
    threads: int,
) -> int: ...
def commit_rows(
    ids: npt.NDArray[np.int64], rows: npt.NDArray[np.void], epoch: npt.NDArray[np.void], threads: int
) -> None: ...
def fold(
    columns: dict[str, npt.NDArray[Any]], rows: npt.NDArray[np.void], epoch: int, threads: int
) -> None: ...
def reduce(
    columns: dict[str, npt.NDArray[Any]],
    history: dict[str, npt.NDArray[Any]],
    epochs: int,
    samples: int,
    most_el2n: float,
    threads: int,
) -> bool: ...
def ensemble_add(
    p_sum: npt.NDArray[np.float64],
    votes: npt.NDArray[np.uint16],
    entropy_sum: npt.NDArray[np.float64],
    count: npt.NDArray[np.int32],
    wrong: npt.NDArray[np.int32],
    seen: npt.NDArray[np.bool_],
    predictions: npt.NDArray[Any],
    probabilities: bool,
    sharpness: float,
    ids: npt.NDArray[np.int64] | None,
    targets: npt.NDArray[np.int64] | None,
    threads: int,
) -> None: ...
def ensemble_entropy(
    p_sum: npt.NDArray[np.float64],
    votes: npt.NDArray[np.uint16],
    entropy_sum: npt.NDArray[np.float64],
    count: npt.NDArray[np.int32],
    wrong: npt.NDArray[np.int32],
    seen: npt.NDArray[np.bool_],
    threads: int,
) -> npt.NDArray[np.float64]: ...
def score_histories(
    address: int, arrays: Sequence[npt.NDArray[np.float64]], threads: int
) -> tuple[npt.NDArray[np.float64], int]: ...
def score_rows(
    address: int, logits: npt.NDArray[np.float32], targets: npt.NDArray[np.int64], threads: int
) -> tuple[npt.NDArray[np.float64], int]: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...

# tar
class _Ahead(Protocol):
    def result(self) -> Any: ...

class _Remote(Protocol):
    def fetch(self, offset: int, nbytes: int, /) -> Any: ...
    def begin(self, offset: int, nbytes: int, /) -> _Ahead: ...

_Handle: TypeAlias = int | _Remote

class TarColumns(TypedDict):
    key_offsets: npt.NDArray[np.int64]
    key_text: npt.NDArray[np.uint8]
    offset: npt.NDArray[np.int64]
    nbytes: npt.NDArray[np.int64]
    part_start: npt.NDArray[np.int64]
    part_ext: npt.NDArray[np.int32]
    part_offset: npt.NDArray[np.int64]
    part_size: npt.NDArray[np.int64]
    part_crc32c: npt.NDArray[np.uint32] | None
    extensions: list[str]
    bytes_read: int
    requests: int

def crc32c(data: Any, crc: int = 0, *, hardware: bool = True) -> int: ...
def crc32c_of_file(handle: _Handle, size: int) -> tuple[int, int, int]: ...
def tar_scan(
    files: Sequence[tuple[_Handle, int, str]], allow_missing_eof: bool, limit: int, checksums: bool = False
) -> tuple[TarColumns, npt.NDArray[np.int64]]: ...
def tar_sum_and_scan(
    files: Sequence[tuple[_Handle, int, str]], allow_missing_eof: bool = False, checksums: bool = False
) -> list[tuple[int, int, int, TarColumns | None, tuple[str, str | None, int | None] | None]]: ...
def index_is_sound(
    file_bytes: npt.NDArray[np.int64],
    key_offsets: npt.NDArray[np.int64],
    key_text: npt.NDArray[np.uint8],
    extensions: Sequence[str],
    ids: npt.NDArray[np.int64],
    file: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    nbytes: npt.NDArray[np.int64],
    part_start: npt.NDArray[np.int64],
    part_ext: npt.NDArray[np.int32],
    part_offset: npt.NDArray[np.int64],
    part_size: npt.NDArray[np.int64],
    threads: int,
) -> bool: ...
def in_storage_order(
    bin: npt.NDArray[np.int32], file: npt.NDArray[np.int32], offset: npt.NDArray[np.int64]
) -> bool: ...
def block_starts(
    order: npt.NDArray[np.int64] | None,
    bin: npt.NDArray[np.int32],
    file: npt.NDArray[np.int32],
    offset: npt.NDArray[np.int64],
    frame: npt.NDArray[np.int32] | None,
    nbytes: npt.NDArray[np.int64],
    block_bytes: int,
) -> npt.NDArray[np.int64]: ...
def first_key_leading_out(key_offsets: npt.NDArray[np.int64], key_text: npt.NDArray[np.uint8]) -> int: ...
def first_repeated_key(
    key_offsets: npt.NDArray[np.int64], key_text: npt.NDArray[np.uint8]
) -> tuple[int, int]: ...
def tar_header_sizes(
    key_offsets: npt.NDArray[np.int64],
    key_text: npt.NDArray[np.uint8],
    extensions: Sequence[str],
    part_start: npt.NDArray[np.int64],
    part_ext: npt.NDArray[np.int32],
    part_size: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]: ...
def tar_headers(
    key_offsets: npt.NDArray[np.int64],
    key_text: npt.NDArray[np.uint8],
    extensions: Sequence[str],
    part_start: npt.NDArray[np.int64],
    part_ext: npt.NDArray[np.int32],
    part_size: npt.NDArray[np.int64],
) -> tuple[bytes, npt.NDArray[np.int64]]: ...
def tar_check(
    source: tuple[_Handle, int, str],
    ours: bool,
    data: bytes,
    base: int,
    rows: npt.NDArray[np.int64],
    key_offsets: npt.NDArray[np.int64],
    key_text: npt.NDArray[np.uint8],
    extensions: Sequence[str],
    offset: npt.NDArray[np.int64],
    part_start: npt.NDArray[np.int64],
    part_ext: npt.NDArray[np.int32],
    part_size: npt.NDArray[np.int64],
    part_offset: npt.NDArray[np.int64],
) -> None: ...

class TarCopier:
    def __init__(
        self, sources: Sequence[tuple[_Handle, int, str, str]], canonical: bool, threads: int
    ) -> None: ...
    def begin(
        self,
        out: int,
        key_offsets: npt.NDArray[np.int64],
        key_text: npt.NDArray[np.uint8],
        extensions: Sequence[str],
        part_start: npt.NDArray[np.int64],
        part_ext: npt.NDArray[np.int32],
        part_size: npt.NDArray[np.int64],
        file: npt.NDArray[np.int32],
        offset: npt.NDArray[np.int64],
        part_offset: npt.NDArray[np.int64],
        part_crc32c: npt.NDArray[np.uint32] | None,
        window: int,
        sync: bool,
    ) -> int: ...
    def begin_sum(self, handle: _Handle, size: int) -> int: ...
    def wait(self, number: int) -> tuple[int, int, int, int]: ...
    def ended(self, number: int) -> bool: ...
    def forget(self, number: int) -> None: ...
    def close(self) -> None: ...

# load
def mix_taken(
    sizes: npt.NDArray[np.int64], seeds: npt.NDArray[np.uint64], start: npt.NDArray[np.int64], total: int
) -> npt.NDArray[np.int64]: ...
def mix_merge(
    sizes: npt.NDArray[np.int64],
    seeds: npt.NDArray[np.uint64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]: ...
def mix_shuffle(random: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...

class LoadColumns:
    def __init__(
        self,
        key_offsets: npt.NDArray[np.int64],
        key_text: npt.NDArray[np.uint8],
        extensions: Sequence[str],
        ids: npt.NDArray[np.int64],
        file: npt.NDArray[np.int32],
        offset: npt.NDArray[np.int64],
        nbytes: npt.NDArray[np.int64],
        part_start: npt.NDArray[np.int64],
        part_ext: npt.NDArray[np.int32],
        part_offset: npt.NDArray[np.int64],
        part_size: npt.NDArray[np.int64],
        files: Sequence[str],
        fields: Sequence[tuple[str, int, str]],
        views: bool,
        part_begin: npt.NDArray[np.int64] | None = None,
        name_offsets: npt.NDArray[np.int64] | None = None,
        name_text: npt.NDArray[np.uint8] | None = None,
    ) -> None: ...

class LoadMemory:
    def __init__(self, columns: LoadColumns, nbytes: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class LoadBlock:
    def __buffer__(self, flags: int, /) -> memoryview: ...

class LoadRegion:
    nbytes: ClassVar[int]
    def __init__(self, fd: int, begin: int, own: bool) -> None: ...
    def room(self) -> int: ...
    def read_into(self) -> None: ...
    def write(self, object: object) -> tuple[list[tuple[int, int]], list[Any]] | None: ...
    def read(self, handles: Sequence[tuple[int, int]], others: list[Any]) -> Any: ...
    def take_back(self, handles: Sequence[tuple[int, int]]) -> None: ...
    def send(self, address: int) -> tuple[int, int, int] | None: ...
    def receive(self, block: int, serial: int) -> LoadBlock: ...

class ReadAhead:
    def __init__(self, threads: int, spare: int = 0) -> None: ...
    def close(self) -> None: ...

class LoadWindow:
    def __init__(
        self,
        ahead: ReadAhead,
        columns: LoadColumns,
        rows: npt.NDArray[np.int64],
        pad: npt.NDArray[np.bool_],
        seats: Sequence[tuple[npt.NDArray[np.int64], Sequence[npt.NDArray[np.uint8]]]],
        join: int,  # what lies between: -1 is not read, 0 if it has no whole page, n if less than n bytes too
    ) -> None: ...
    def __len__(self) -> int: ...
    def read(self, sources: Sequence[tuple[int, Any, int, str]]) -> None: ...
    def give_up(self, file: int, problem: str, path: str, member: str | None, offset: int | None) -> None: ...
    def spans(self, file: int) -> list[tuple[int, int]]: ...
    def wait(self) -> None: ...
    def count(self) -> tuple[int, int]: ...
    def errors(self) -> list[tuple[int, str, str, str, int]]: ...
    def replace(self, sample: int, by: int) -> None: ...
    def settle(self) -> None: ...
    def samples(self, begin: int, end: int) -> list[dict[str, Any]]: ...
    def fill(
        self,
        begin: int,
        slots: npt.NDArray[np.int64],
        lists: dict[str, list[Any]],
        index: npt.NDArray[np.int64],
        pad: npt.NDArray[np.bool_],
    ) -> None: ...
