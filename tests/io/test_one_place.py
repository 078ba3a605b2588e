"""Only pyimportance/io opens files, so that every byte is counted."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pyimportance"

# Calls that open a file by its name, as the source writes them.
OPENERS = {
    "open", "io.open", "os.open", "os.fdopen", "np.load", "np.fromfile", "np.memmap", "pa.memory_map",
    "pa.OSFile", "pq.read_table", "pq.ParquetFile", "torch.load", "torch.save", "tarfile.open",
}  # fmt: skip
IN_MEMORY = ("BytesIO", "PythonFile", "buffer", "BufferReader", "sink", "data")  # in the first argument
EXEMPT = {"score/kept.py"}  # maps the tracker's own state, which nobody reads as data
OURS = ("", "atomic", "output")  # modules of pyimportance.io
METHODS = {"read_bytes", "read_text", "write_bytes", "write_text", "tofile"}  # of Path and arrays


def openers(source: str) -> list[str]:
    """What in a module opens files, but for pyimportance.io's own functions and in-memory files."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        argument = ast.unparse(node.args[0]) if node.args else ""
        in_memory = any(word in argument for word in IN_MEMORY)
        owner, _, method = name.rpartition(".")
        if (name in OPENERS and not in_memory) or (method in METHODS and owner not in OURS):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


# Where data passes. demo and cli stand on top: they read their own settings, and what the machine is.
FOLDERS = ("score", "order", "account", "shards", "load", "train")
MODULES = sorted(
    path
    for folder in FOLDERS
    for path in (PACKAGE / folder).rglob("*.py")
    if str(path.relative_to(PACKAGE)) not in EXEMPT
)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_opens_nothing(path: Path) -> None:
    assert openers(path.read_text()) == []


@pytest.mark.parametrize(
    "line", ["open('x')", "os.open('x', 0)", "Path('x').read_bytes()", "pq.read_table(path)", "np.load('x')"]
)
def test_the_test_can_fail(line: str) -> None:
    assert len(openers(line)) == 1


def test_what_is_allowed() -> None:
    assert openers("open_file(path)\natomic.write_bytes(path, b'')\nnp.load(io.BytesIO(data))") == []
