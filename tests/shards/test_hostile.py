"""What a tar, an index or a manifest of a stranger's may not do: name places outside, claim memory, run code.

Fields one by one are in `test_manifest.py`, names of members in `test_scan.py` and `test_claims.py`, damage
at random in `test_mutated_files.py`.
"""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import pyimportance
from pyimportance import (
    DataError,
    ImportanceDataset,
    Partition,
    PyimportanceError,
    ShardSet,
    compact,
    prune,
    repartition,
    write_shards,
)
from pyimportance._C import crc32c
from pyimportance.shards import offers
from pyimportance.shards.index_file import decode, encode
from pyimportance.shards.manifest import encode_pointer

Divide = Callable[..., Partition]
PACKAGE = Path(pyimportance.__file__).parent


@pytest.fixture
def shards(source: Path, divide: Divide, tmp_path: Path) -> ShardSet:
    return write_shards(source, divide(66, 2, 2), tmp_path / "out", shard_bytes=60_000)


def forge(shards: ShardSet, change: Callable[[dict[str, Any]], None]) -> None:
    """The manifest with other fields, and a pointer that fits it."""
    path = Path(shards.root) / "manifest-000000.json"
    fields = json.loads(path.read_text())
    change(fields)
    data = json.dumps(fields).encode()
    path.write_bytes(data)
    (Path(shards.root) / "manifest.json").write_bytes(encode_pointer(0, data))


def use_all(root: str, divide: Divide) -> list[str]:
    """Everything that is done with shards; what was said of them."""
    said: list[str] = []
    try:
        opened = ShardSet.open(root)
    except DataError as e:
        return [str(e)]
    for use in (
        lambda: [opened.index(w) for w in range(opened.workers)],
        opened.verify,
        lambda: opened.repair(partition=divide(66, 2, 2)),
        lambda: list(ImportanceDataset(opened, rank=0, world_size=1)),
        lambda: repartition(opened, divide(66, 2, 2, seed=1)),
        lambda: compact(opened),
        *(lambda format=format: opened.export(format) for format in ("dali", "webshart", "energon", "wids")),
        lambda: prune(ShardSet.open(root)),
    ):
        try:
            use()
        except PyimportanceError as e:  # noqa: PERF203
            said.append(str(e))
    return said


HUGE = """
import json, resource, sys
from pyimportance import ImportanceDataset, Partition, PyimportanceError
from pyimportance import ShardSet, compact, prune, repartition
root, parts = sys.argv[1:]
parts = Partition.load(parts)
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + (1 << 30),) * 2)
shards = ShardSet.open(root)
for use in (
    lambda: shards.index(0), lambda: shards.worker_of([1]), lambda: shards.export("energon"),
    lambda: compact(shards), lambda: repartition(shards, parts), lambda: prune(shards),
    lambda: ImportanceDataset(shards, rank=0, world_size=2), lambda: shards.repair(partition=parts),
):
    try:
        use()
    except PyimportanceError as e:
        print(e)
assert not shards.verify().ok
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc here")
@pytest.mark.parametrize("claim", [1 << 40, 1 << 60])
def test_a_manifest_that_claims_huge_sizes_allocates_nothing(
    claim: int, shards: ShardSet, divide: Divide, tmp_path: Path
) -> None:
    def change(fields: dict[str, Any]) -> None:
        for index in fields["indexes"]:
            index["samples"] = index["bytes"] = claim
        for shard in fields["shards"]:
            shard["samples"] = shard["live"] = shard["bytes"] = claim // 16
        for index, worker in zip(fields["indexes"], range(2), strict=True):
            index["samples"] = sum(s["live"] for s in fields["shards"] if s["worker"] == worker)
        fields["samples"] = fields["id_bound"] = sum(index["samples"] for index in fields["indexes"])

    forge(shards, change)
    divide(66, 2, 2, seed=1).save(tmp_path / "p")
    command = [sys.executable, "-c", HUGE, shards.root, str(tmp_path / "p")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("lists other shards than the manifest") >= 5, ended.stdout


def rewritten(data: bytes, **options: Any) -> bytes:
    """The same index, as Arrow writes it with these options."""
    sink, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.open_file(data) as reader, pa.ipc.new_file(sink, reader.schema, options=options) as writer:
        for i in range(reader.num_record_batches):
            writer.write_batch(reader.get_batch(i))
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_an_index_that_is_compressed_is_refused(compression: str, shards: ShardSet) -> None:
    """Arrow would allocate what each buffer says it holds: of the forged one 2 ** 50 bytes."""
    data = encode(shards.index(0))
    assert decode(rewritten(data), "name").digest == decode(data, "name").digest  # it is not the rewriting
    honest = rewritten(data, compression=compression)
    with pa.ipc.open_file(honest) as reader:
        said = (8 * reader.get_batch(0).num_rows).to_bytes(8, "little")  # before the first buffer, the ids
    assert said in honest
    for forged in (honest, honest.replace(said, (1 << 50).to_bytes(8, "little"))):
        with pytest.raises(DataError, match=r"^name, offset \d+: holds compressed buffers, which no index"):
            decode(forged, "name")


@pytest.mark.parametrize(
    "files",
    [
        "[" * 100_000,
        "1" * 5000,
        "[[1e999, 1]]",
        '[["a", 1e999]]',
        '{"a": 1}',
        '[["a", true]]',
        '[["a", 1.5]]',
        '[["a", "7"]]',
        "[[[], 1]]",
        "[[]]",
    ],
)
def test_metadata_of_an_index_is_anything(files: str, shards: ShardSet) -> None:
    with pa.ipc.open_file(encode(shards.index(0))) as reader:
        table = reader.read_all()
    metadata = table.schema.metadata | {b"files": files.encode()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"metadata 'files' is not \[\[path, bytes\]|batches for 1 files"):
        decode(sink.getvalue().to_pybytes(), "name")


NAMES = [
    "../up.tar",
    "/etc/passwd",
    "worker-000/../../up.tar",
    "worker-000/./g.tar",
    "..",
    "a\\..\\b",
    "a\0b",
]


@pytest.mark.parametrize("name", NAMES)
def test_no_path_of_a_manifest_or_an_index_leaves_the_folder(
    name: str, shards: ShardSet, divide: Divide, tmp_path: Path
) -> None:
    (tmp_path / "up.tar").write_bytes(Path(shards.path_of(shards.shards[0].path)).read_bytes())
    outside = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    own, info = shards.index(0), shards.manifest.indexes[0]
    names = (name, *offers.relative(shards, own)[1:])
    with suppress(PyimportanceError):  # what an honest index may not hold, a forged one does not either
        data = encode(replace(own, files=names))
        Path(shards.path_of(info.path)).write_bytes(data)
        sums = {"bytes": len(data), "crc32c": crc32c(data)}
        forge(shards, lambda fields: fields["indexes"][0].update(sums))
        assert any("lists other shards than the manifest" in text for text in use_all(shards.root, divide))
    for field in ("shards", "indexes"):
        forge(shards, lambda fields, field=field: fields[field][0].update(path=name))  # type: ignore[misc]
        (said,) = use_all(shards.root, divide)
        assert "must be a relative path without '.' or '..'" in said
        forge(shards, lambda fields, field=field: fields[field][0].update(  # type: ignore[misc]
            path=(shards.shards if field == "shards" else shards.manifest.indexes)[0].path))  # fmt: skip
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == outside


def test_no_link_leads_out(shards: ShardSet, divide: Divide, tmp_path: Path) -> None:
    worker, outside = Path(shards.root) / "worker-000", tmp_path / "outside"
    worker.rename(outside)
    worker.symlink_to(outside)
    before = {p.name: p.read_bytes() for p in outside.iterdir()}
    said = use_all(shards.root, divide)
    assert len(said) >= 5
    assert all("leads out of" in text or "is a link" in text or "is not compact" in text for text in said), (
        said
    )
    assert {p.name: p.read_bytes() for p in outside.iterdir()} == before


@pytest.mark.parametrize("kind", ["..", "/", "link", "hard link", "device"])
def test_no_member_of_a_tar_leads_out(kind: str, tmp_path: Path, divide: Divide) -> None:
    names = {"..": "../../up.txt", "/": str(tmp_path / "up.txt")}
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo(names.get(kind, "k.txt"))
        info.linkname = "/etc/passwd"
        types = {"link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE}
        info.type = types.get(kind, tarfile.REGTYPE)
        info.size = 0 if kind in types else 4
        tar.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(DataError):
        write_shards(tmp_path / "a.tar", divide(1, 1), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


# No file is run as code. numba compiles what users wrote as measures, by source that stands there; the
# drop-in for webdataset unpickles where it is told to, by `unsafe_pickle=True`; `tests/load` has its tests.
# What a job's own processes send each other is pickled, as by torch's DataLoader.
ABLE = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "copyreg", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "__import__"}
EXEMPT = {("score/measures/compiled.py", "exec"), ("load/sending.py", "pickle")}
EXEMPT |= {(f"load/webdataset/{name}.py", "pickle") for name in ("decoders", "functions")}
EXEMPT |= {("load/webdataset/decoders.py", "torch.load")}  # where unsafe_pickle=True asks for it


def running_code(source: str) -> list[str]:
    """What in a module could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        found += [name for name in names if name.split(".")[0] in ABLE]
        if not isinstance(node, ast.Call):
            continue
        call, options = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        found += [call] if call in CALLS else []
        found += [f"{call}({k})" for k in ("shell", "allow_pickle") if options.get(k, "False") != "False"]
        if call == "torch.load" and options.get("weights_only") != "True":
            found.append(call)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    assert [what for what in running_code(path.read_text()) if (name, what) not in EXEMPT] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
        "eval(text)",
    ],
)
def test_that_test_can_fail(line: str) -> None:
    assert len(running_code(line)) == 1
