"""The digits as WebDataset tars."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pyimportance import ArgumentError, PyimportanceError
from pyimportance.demo.config import DemoConfig
from pyimportance.demo.digits import TRAIN, digits_files, write_digits
from pyimportance.demo.run import MARK, run_demo


def read(tars: list[Path]) -> tuple[list[str], list[bytes], list[int]]:
    keys, images, labels = [], [], []
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                if member.name.endswith(".cls"):
                    keys.append(member.name[:-4])
                    labels.append(int(file.read()))
                else:
                    assert member.name == f"{keys[-1]}.png"
                    images.append(file.read())
    return keys, images, labels


def test_every_digit_once_with_its_label(tmp_path: Path) -> None:
    write_digits(tmp_path)
    train, test = (read(sorted(tmp_path.glob(f"{split}-*.tar"))) for split in ("train", "test"))
    assert len(train[0]) == TRAIN
    assert len(set(train[0] + test[0])) == 1797
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in train[1] + test[1]])
    images, labels = load_digits(return_X_y=True)
    ours = sorted(
        zip((pixels / (255 / 16)).round().reshape(-1, 64).tolist(), train[2] + test[2], strict=True)
    )
    assert ours == sorted(zip(images.tolist(), labels.tolist(), strict=True))
    assert set(test[2]) == set(range(10))


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_digits(tmp_path / name)
    tars = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert tars == [f"test-{i:03d}.tar" for i in range(2)] + [f"train-{i:03d}.tar" for i in range(6)]
    assert all((tmp_path / "a" / t).read_bytes() == (tmp_path / "b" / t).read_bytes() for t in tars)


def test_without_scikit_learn_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(PyimportanceError, match=r'pip install "pyimportance\[demo\]"'):
        write_digits(tmp_path / "digits")
    assert not (tmp_path / "digits").exists()


def test_the_demo_completes_digits_that_were_half_written(tmp_path: Path) -> None:
    write_digits(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == sorted(digits_files())
    data = tmp_path / "out" / "data"
    (tmp_path / "out" / MARK).parent.mkdir()
    (tmp_path / "out" / MARK).touch()
    write_digits(data)
    (data / "test-001.tar").unlink()  # the last that is written
    with pytest.raises(ArgumentError, match="workers=3: more than the 2 training samples"):
        run_demo(DemoConfig(workers=3), tmp_path / "out", samples=2)  # refused with the digits in place
    assert (data / "test-001.tar").read_bytes() == (tmp_path / "whole" / "test-001.tar").read_bytes()
