"""Folders that dataset cartography has logged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyimportance import ArgumentError, DataError, Dynamics, Scores, score
from pyimportance.cli.app import main
from pyimportance.score.reference import row_statistics


def write(folder: Path, epoch: int, records: list[Mapping[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"dynamics_epoch_{epoch}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def line(epoch: int, guid: Any, logits: list[float], gold: Any) -> dict[str, Any]:
    return {"guid": guid, f"logits_epoch_{epoch}": logits, "gold": gold}


def logged(folder: Path, rng: np.random.Generator) -> tuple[list[str], dict[str, npt.NDArray[np.float64]]]:
    """Guids in order of appearance, and p_true and correct by the oracle."""
    gold, guids = rng.integers(0, 3, 20), []
    names = [f"g{n}" if n % 2 else n for n in range(20)]  # some are integers
    history = {name: np.full((4, 20), np.nan) for name in ("p_true", "correct", "margin")}
    for epoch in range(4):
        there = rng.permutation(20)[: 20 if epoch == 3 else 14]
        z = rng.normal(size=(there.size, 3)).astype(np.float32) * 2
        write(folder, epoch, [line(epoch, names[n], row.tolist(), int(gold[n])) for n, row in zip(there, z)])  # noqa: B905
        guids += [str(names[n]) for n in there if str(names[n]) not in guids]
        for name, values in row_statistics(z, gold[there]).items():
            if name in history:
                history[name][epoch, [guids.index(str(names[n])) for n in there]] = values
    return guids, history


def test_what_was_logged_is_what_is_scored(tmp_path: Path, rng: np.random.Generator) -> None:
    guids, history = logged(tmp_path / "run", rng)
    dynamics = Dynamics.from_cartography(tmp_path / "run")
    assert dynamics.epochs == 4
    assert dynamics.keys == tuple(guids)
    np.testing.assert_array_equal(dynamics.count, (~np.isnan(history["p_true"])).sum(0))
    scores = score(dynamics, "confidence")
    np.testing.assert_allclose(scores.values, np.nanmean(history["p_true"], 0), rtol=1e-6)
    np.testing.assert_allclose(
        score(dynamics, "variability").values, np.nanstd(history["p_true"], 0), rtol=1e-5
    )
    np.testing.assert_allclose(score(dynamics, "aum").values, np.nanmean(history["margin"], 0), rtol=1e-5)
    np.testing.assert_array_equal(score(dynamics, "correctness").values, np.nansum(history["correct"], 0))
    assert scores.keys is not None
    assert scores.keys.to_pylist() == guids  # type: ignore[union-attr]
    assert dynamics.history is not None
    np.testing.assert_allclose(dynamics.history.array("p_true"), history["p_true"], rtol=1e-6)
    (tmp_path / "out").mkdir()
    (tmp_path / "run").rename(tmp_path / "out" / "training_dynamics")
    assert Dynamics.from_cartography(str(tmp_path / "out")).keys == tuple(guids)


def test_on_the_command_line(
    tmp_path: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    guids, history = logged(tmp_path / "run", rng)
    with pytest.raises(SystemExit) as ended:
        main(["score", str(tmp_path / "run"), "-o", str(tmp_path / "s.parquet"), "--measure", "confidence"])
    assert ended.value.code in (0, None), capsys.readouterr().err
    scores = Scores.load(tmp_path / "s.parquet")
    assert list(map(str, scores.keys or ())) == guids
    np.testing.assert_allclose(scores.values, np.nanmean(history["p_true"], 0), rtol=1e-6)


def test_epochs_from_above_zero_and_blank_lines_and_repeats(tmp_path: Path) -> None:
    path = write(
        tmp_path, 3, [line(3, "a", [0.0, 1.0], 1), line(3, "b", [0.0, 1.0], 0), line(3, "a", [9, 0], 1)]
    )
    path.write_text(path.read_text().replace("\n", "\r\n\n"))
    write(tmp_path, 4, [])
    (tmp_path / "dynamics_epoch_x.jsonl").write_text("no")
    dynamics = Dynamics.from_cartography(tmp_path)
    assert (dynamics.epochs, dynamics.keys) == (2, ("a", "b"))
    assert dynamics.count.tolist() == [1, 1]
    assert score(dynamics, "first_learned").values.tolist() == [0, np.inf]


GOOD = b'{"guid": "a", "logits_epoch_0": [0.5, 1.5], "gold": 1}\n'


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (b"{", "not JSON: "),
        (b"\xff\xfe{}", "not JSON: "),
        (b"[" * 200_000, "not JSON: "),
        (b"[1]", r"\[1\]; must be an object"),
        (b'{"guid": "b", "logits_epoch_1": [0, 1], "gold": 1}', "logits_epoch_0 is None; must be a list"),
        (b'{"guid": null, "logits_epoch_0": [0, 1], "gold": 1}', "guid is None; must be a string or an int"),
        (b'{"guid": true, "logits_epoch_0": [0, 1], "gold": 1}', "guid is True"),
        (b'{"guid": "b", "logits_epoch_0": [], "gold": 1}', r"logits_epoch_0 is \[\]"),
        (b'{"guid": "b", "logits_epoch_0": [0, "1"], "gold": 1}', "logits_epoch_0 holds '1'; must be finite"),
        (b'{"guid": "b", "logits_epoch_0": [0, NaN], "gold": 1}', "logits_epoch_0 holds nan"),
        (b'{"guid": "b", "logits_epoch_0": [0, 1e39], "gold": 1}', r"logits_epoch_0 holds 1e\+39"),
        (b'{"guid": "b", "logits_epoch_0": [1%b], "gold": 0}' % (b"0" * 400), "logits_epoch_0 holds 100000"),
        (b'{"guid": "b", "logits_epoch_0": [0, 1, 2], "gold": 1}', "3 logits; the samples before have 2"),
        (b'{"guid": "b", "logits_epoch_0": [0, 1], "gold": 2}', "gold is 2; must be an integer, 0 to 1"),
        (b'{"guid": "b", "logits_epoch_0": [0, 1], "gold": 1.0}', "gold is 1.0; must be an integer"),
        (b'{"guid": "a", "logits_epoch_0": [0, 1], "gold": 0}', "gold of 'a' is 0; before it was 1"),
    ],
)  # fmt: skip
def test_lines_that_are_something_else(tmp_path: Path, second: bytes, text: str) -> None:
    path = tmp_path / "dynamics_epoch_0.jsonl"
    path.write_bytes(GOOD + b"\n" + second + b"\n")
    with pytest.raises(DataError, match=f"dynamics_epoch_0.jsonl: line 3: {text}"):
        Dynamics.from_cartography(tmp_path)


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no dynamics_epoch_\*\.jsonl"):
        Dynamics.from_cartography(tmp_path)
    write(tmp_path, 0, [])
    with pytest.raises(DataError, match="holds no samples"):
        Dynamics.from_cartography(tmp_path)
    with pytest.raises(DataError, match="cannot be listed: No such file"):
        Dynamics.from_cartography(tmp_path / "none")
    write(tmp_path, 0, [line(0, "a", [0.0, 1.0], 1)])
    write(tmp_path, 2, [line(2, "a", [0.0, 1.0], 1)])
    with pytest.raises(DataError, match=r"there is no dynamics_epoch_1\.jsonl, but one of 2"):
        Dynamics.from_cartography(tmp_path)


def test_keys_of_dynamics() -> None:
    count = np.zeros(2, np.int32)
    for keys in (("a",), ("a", 3)):
        with pytest.raises(ArgumentError, match=r"keys: . of them; must be 2 strings"):
            Dynamics(0, count, keys=keys)  # type: ignore[arg-type]
