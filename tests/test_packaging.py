"""A source distribution holds all that a build needs, and a wheel made of it works where nothing else is.

Made with what is installed, without a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILT = shutil.ignore_patterns("*.so", "__pycache__")  # and not what a build needs


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Runs without CUDA, whose build belongs to tests/test_build.py; returns standard output."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYIMPORTANCE_CUDA": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def ours(*folders: str) -> set[str]:
    """Files of the work tree that somebody wrote."""
    paths = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(p.relative_to(ROOT)) for p in paths if p.suffix not in (".so", ".pyc", ".md")}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made of a copy: an earlier build's list of files (egg-info) would hide that one is forgotten."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("csrc", "pyimportance"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=BUILT)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    (tree / "pyimportance-demo").mkdir()  # as the README's first command leaves it
    (tree / "pyimportance-demo" / "notes.py").touch()
    run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tree / "made", cwd=tree)
    (made,) = (tree / "made").iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pip", reason="wheels are made by pip")
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "-q", "--no-cache-dir", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", out, sdist, cwd=out)
    (made,) = out.iterdir()
    return made


def test_a_source_distribution_holds_what_a_build_needs(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    needed = ours("csrc", "pyimportance") | {"setup.py", "pyproject.toml", "README.md"}
    kinds = {"".join(Path(name).suffixes) for name in needed}
    assert {".h", ".cpp", ".cu", ".cuda.cc", ".py", ".pyi", ".typed"} <= kinds
    assert "pyimportance/LICENSE" in needed
    assert needed - names == set()
    assert not any("pyimportance-demo" in name for name in names)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        everything = archive.namelist()
    names = {name for name in everything if ".dist-info/" not in name}
    assert [name for name in everything if name.endswith(".dist-info/licenses/pyimportance/LICENSE")]
    (extension,) = names - ours("pyimportance")
    assert extension.startswith("pyimportance/_C.")
    assert ours("pyimportance") <= names


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
    run(*pip, "install", "--no-index", "--no-deps", "--target", target, wheel, cwd=tmp_path)
    code = (
        "import pyimportance as p; [getattr(p, name) for name in p.__all__];"
        "print(p.__file__); print(*p.argsort([0.5, 2, 1]))"
    )
    where, order = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target)).splitlines()
    assert Path(where) == target / "pyimportance" / "__init__.py"
    assert order == "1 2 0"
    said = run(target / "bin" / "pyimportance", "--version", cwd=tmp_path, PYTHONPATH=str(target))
    assert "pyimportance._cuda is not built" in said
