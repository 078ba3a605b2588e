"""Imports run one way: a folder imports only from folders below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pyimportance"

# From the bottom up: each folder may import from itself and from what stands before it.
FLOORS = [
    "errors",
    "checks",
    "threads",
    "together",
    "_C",
    "_cuda",
    "io",
    "score",
    "order",
    "account",
    "shards",
    "load",
    "train",
    "demo",
    "cli",
    "__main__",
]


def imported(tree: ast.AST) -> set[str]:
    """The parts of pyimportance that a module imports, at the top or inside functions.

    Imports for type checkers alone do not count.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pyimportance":
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("pyimportance.")}
    return names


def upward(module: Path, source: str) -> set[str]:
    floor = FLOORS.index(module.relative_to(PACKAGE).parts[0].removesuffix(".py"))
    return {name for name in imported(ast.parse(source)) if name in FLOORS and FLOORS.index(name) > floor}


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py")


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(module: Path) -> None:
    assert upward(module, module.read_text()) == set()


def test_an_upward_import_is_seen() -> None:
    source = "def f():\n    from pyimportance.load.dataset import ImportanceDataset\n"
    assert upward(PACKAGE / "order" / "partition.py", source) == {"load"}


def test_an_import_for_type_checkers_is_none() -> None:
    source = "if TYPE_CHECKING:\n    from pyimportance.load.dataset import ImportanceDataset\n"
    assert upward(PACKAGE / "order" / "partition.py", source) == set()
