"""Which tars are trained on, which are tested on, and labels that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyimportance import ArgumentError, DataError
from pyimportance.demo.source import find_tars, parse_label


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tars a0, a1, b0, b1 in "data", the working directory being their parent."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    data.mkdir()
    for name in ("a0", "a1", "b0", "b1"):
        (data / f"{name}.tar").touch()
    return data


def names(tars: list[str]) -> list[str]:
    return [Path(tar).stem for tar in tars]


@pytest.mark.parametrize("test", ["data/b*.tar", "data/b{0..1}.tar", "./data/../data/b[01].tar"])
@pytest.mark.parametrize("absolute", [True, False])
def test_what_is_tested_on_is_not_trained_on(folder: Path, test: str, absolute: bool) -> None:
    data = folder if absolute else Path("data")
    trains, tests = find_tars(data, test if absolute else os.path.abspath(test))
    assert names(trains) == ["a0", "a1"]
    assert names(tests) == ["b0", "b1"]
    trains, tests = find_tars(data, test)
    assert (names(trains), names(tests)) == (["a0", "a1"], ["b0", "b1"])


def test_a_link_to_a_training_tar_is_that_tar(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.tar").symlink_to(folder / "b0.tar")
    assert names(find_tars(folder, "elsewhere.tar")[0]) == ["a0", "a1", "b1"]


def test_names_say_which_is_which(folder: Path) -> None:
    assert (names(find_tars(folder, None)[0]), find_tars(folder, None)[1]) == (["a0", "a1", "b0", "b1"], [])
    for name in ("train-0", "train-1", "test-0"):
        (folder / f"{name}.tar").touch()
    assert [names(tars) for tars in find_tars(folder, None)] == [["train-0", "train-1"], ["test-0"]]
    assert [names(tars) for tars in find_tars(folder, "data/b0.tar")] == [["train-0", "train-1"], ["b0"]]
    with pytest.raises(ArgumentError, match=r"test='data/t\*.tar': names .*train-0.tar, which is trained on"):
        find_tars(folder, "data/t*.tar")


def test_nothing_to_train_on(folder: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        find_tars(folder, "data/*.tar")
    with pytest.raises(ArgumentError, match="matches no file"):
        find_tars(folder, "data/c*.tar")


def test_labels_are_class_numbers_of_a_sensible_size() -> None:
    assert parse_label(b" 21840\n", "a.tar", "k.cls") == 21840
    with pytest.raises(DataError, match=r"a.tar, member 'k.cls': label 999999: must be below 32768"):
        parse_label(b"999999", "a.tar", "k.cls")
    with pytest.raises(DataError, match="must be a class number, got b'cat'"):
        parse_label(b"cat", "a.tar", "k.cls")
