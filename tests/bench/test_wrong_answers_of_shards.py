"""A wrong answer of the bench of shards, ours or a peer's, in whichever round: status 1, no figure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pyimportance
from pyimportance.shards.shard_set import ShardSet
from pyimportance.shards.verify import VerifyReport
from tests.bench.mutants import Mutants, from_call, traded

mutant = Mutants()


def damaged(root: Path) -> None:
    """One byte of one image changes."""
    tar = sorted(root.glob("worker-*/*.tar"))[-1]
    data = bytearray(tar.read_bytes())
    data[3 * 512 + 100] ^= 1  # headers of .cls, its byte, header of .jpg
    tar.write_bytes(data)


@mutant("shards", "index + write_shards, group 63: sample")
def a_byte_changes(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.write_shards

    def wrong(*args: Any, **options: Any) -> Any:
        shards = right(*args, **options)
        damaged(Path(shards.root))
        return shards

    patch.setattr(module, "write_shards", from_call(3, right, wrong))  # the second writes zstd


@mutant("shards", "index + write_shards, group 0: sample")
def samples_go_elsewhere(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.write_shards
    patch.setattr(module, "write_shards", lambda i, parts, *a, **o: right(i, traded(parts), *a, **o))


@mutant("shards", "index, score, shard, group 63: sample")
def a_byte_changes_by_command(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.command

    def wrong(*arguments: Any) -> None:
        right(*arguments)
        if arguments[0] == "shard":
            damaged(arguments[2])

    patch.setattr(module, "command", wrong)


@mutant("shards", "pyimportance shard ended with status 2")
def a_command_fails(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.command
    patch.setattr(
        module, "command", lambda name, *more: right(name, *more, *["--bins", 0] * (name == "shard"))
    )


@mutant("shards", "webdataset read + ShardWriter, group")
def webdataset_leaves_a_sample_out(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.ShardWriter.write
    patch.setattr(module.ShardWriter, "write", from_call(501, right, lambda *_: 0))


@mutant("shards", "cp: other bytes")
def cp_changes_a_byte(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, turn: int) -> None:
        module.shutil.copytree(Path(self.source[0]).parent, self.folder_of(module.CP))
        (self.folder_of(module.CP) / Path(self.source[0]).name).write_bytes(b"?")

    patch.setattr(module.Case, "copy", wrong)


@mutant("shards", "headers, by pread: other members")
def headers_are_passed_over(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.members_in
    patch.setattr(module, "members_in", lambda tars, threads: right(tars, threads) - 1)


@mutant("shards", "read + CRC32C: other sums")
def sums_are_of_something_else(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module.Case, "sum", lambda self, turn: [0])


@mutant("shards", "index + write_shards, zstd, group 0: sample")
def frames_hold_other_samples(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Case.write_compressed

    def wrong(self: Any, turn: int) -> None:
        self.parts, parts = traded(self.parts), self.parts
        right(self, turn)
        self.parts = parts

    patch.setattr(module.Case, "write_compressed", wrong)


@mutant("shards", "larger tars than those of webdataset")
def tars_are_larger(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.size_of
    patch.setattr(
        module, "size_of", lambda folder, *p: right(folder, *p) * (1 + 9 * ("out-0" in str(folder)))
    )


@mutant("shards", "compact, group 0: sample")
def compact_of_another_partition(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    right = module.Case.__init__

    def wrong(self: Any, *args: Any) -> None:
        right(self, *args)
        self.groups_next = [ids[::-1] for ids in self.groups_next]

    patch.setattr(module.Case, "__init__", wrong)


@mutant("shards", "of which index: other keys")
def an_index_is_short(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Any, turn: int) -> Any:
        return pyimportance.index(self.source, limit=len(self.right.samples) - 1)

    patch.setattr(module.Case, "index", wrong)


@mutant("shards", "repartition (7 of 8 move): worker 0 has other samples")
def nothing_moves(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(module, "repartition", lambda shards, *_, **__: shards)


@mutant("shards", "verify: read 0 bytes")
def verify_reads_nothing(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    def wrong(self: ShardSet, **_: Any) -> VerifyReport:
        return VerifyReport(len(self.shards), self.num_samples, sum(s.nbytes for s in self.shards), ())

    patch.setattr(ShardSet, "verify", wrong)


@pytest.mark.parametrize("name", mutant)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_figures_of_wrong_answers(name: str, no_figures: Callable[..., None]) -> None:
    no_figures(*mutant[name])
