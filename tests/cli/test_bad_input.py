"""Bad input: exit status 2, one line that names what is wrong, and nothing half-written."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimportance import Scores, Tracker
from pyimportance.demo.run import MARK
from pyimportance.shards.index import index

N = 24


def failed(outcome: object, *words: str) -> None:
    outcome.refused(*words)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    Scores(np.arange(N, dtype=np.float32)).save(tmp_path / "scores.parquet")
    return tmp_path / "scores.parquet"


def test_usage_errors_are_one_line_too(cli: Callable) -> None:
    failed(cli("index"), "Missing argument")
    failed(cli("nonsense"), "nonsense")
    failed(cli("partition", "a", "-o", "b", "--workers", "many"), "--workers")


def test_a_missing_source(cli: Callable, tmp_path: Path) -> None:
    failed(cli("index", tmp_path / "no-*.tar", "-o", tmp_path / "i"), "no-*.tar")
    failed(cli("index", tmp_path / "no.tar", "-o", tmp_path / "i"), "no.tar")
    failed(
        cli("shard", tmp_path / "no.arrow", tmp_path / "out", "--partition", tmp_path / "p"), tmp_path / "p"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", ["end", "member", "payload"])
def test_a_truncated_tar_is_named_with_its_offset(
    cli: Callable, source: Path, scores: Path, tmp_path: Path, cut: str
) -> None:
    with tarfile.open(source / "train-1.tar") as tar:
        last = tar.getmembers()[-1]
    # "end": only the end-of-archive blocks are missing; "member": the last member is, too.
    end = {
        "end": last.offset_data + -(-last.size // 512) * 512,
        "member": last.offset,
        "payload": last.offset_data + 10,
    }[cut]
    path = source / "train-1.tar"
    path.write_bytes(path.read_bytes()[:end])
    outcome = cli("index", source, "-o", tmp_path / "index.arrow")
    failed(outcome, path, "offset", "truncated")
    assert "allow_missing_eof" not in outcome.err  # that is the library's word
    assert not (tmp_path / "index.arrow").exists()
    failed(cli("shard", source, tmp_path / "out", "--scores", scores, "--workers", 2), path, "offset")
    assert not (tmp_path / "out").exists()


def write_tar(path: Path, *names: str) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.cls", "b.cls", "a.txt"), ("'a'", "offset 1024", "adjacent")),
        (("a.cls", "a.txt", "a.cls"), ("'a.cls'", "offset 1024")),
        ((), ("bad.tar",)),
    ],
)
def test_tars_that_are_no_webdataset(
    cli: Callable, tmp_path: Path, names: tuple[str, ...], words: tuple[str, ...]
) -> None:
    write_tar(tmp_path / "bad.tar", *names)
    failed(cli("index", tmp_path / "bad.tar", "-o", tmp_path / "i"), tmp_path / "bad.tar", *words)
    (tmp_path / "bad.tar").write_bytes(b"")
    failed(cli("index", tmp_path / "bad.tar", "-o", tmp_path / "i"), tmp_path / "bad.tar", "is empty")
    (tmp_path / "folder").mkdir()
    failed(cli("index", tmp_path / "folder", "-o", tmp_path / "i"), tmp_path / "folder", "without *.tar")
    failed(
        cli("demo", "--data", tmp_path / "folder", "--out", tmp_path / "o"), tmp_path / "folder", "no *.tar"
    )
    assert not (tmp_path / "i").exists()


def test_keys_that_two_tars_share(cli: Callable, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tar(tmp_path / f"{name}.tar", "0.cls", "1.cls")
    Scores(np.arange(4, dtype=np.float32)).save(tmp_path / "s")
    command = ("shard", tmp_path / "{a,b}.tar", tmp_path / "out", "--scores", tmp_path / "s", "--workers", 2)
    outcome = cli(*command)
    failed(outcome, "key '", "a.tar", "b.tar", "--keys 'prefix'")
    assert not (tmp_path / "out").exists()
    assert cli(*command, "--keys", "prefix").status == 0


def test_scores_that_do_not_match_the_data(cli: Callable, source: Path, tmp_path: Path) -> None:
    Scores(np.zeros(N + 1, np.float32)).save(tmp_path / "more.parquet")
    outcome = cli("shard", source, tmp_path / "out", "--scores", tmp_path / "more.parquet", "--workers", 2)
    failed(outcome, "more.parquet", "do not match", "25 samples", "24")
    Scores(np.zeros(N, np.float32), np.arange(1, N + 1)).save(tmp_path / "shifted.parquet")
    outcome = cli("shard", source, tmp_path / "out", "--scores", tmp_path / "shifted.parquet", "--workers", 2)
    failed(outcome, "shifted.parquet", "other ids")
    keys = index(source).keys.to_pylist()
    keys[7] = "someone else"
    Scores(np.zeros(N, np.float32), keys=keys).save(tmp_path / "other.parquet")
    outcome = cli("shard", source, tmp_path / "out", "--scores", tmp_path / "other.parquet", "--workers", 2)
    failed(outcome, "sample 7", "'someone else'", "'0007'")
    cli("partition", tmp_path / "shifted.parquet", "-o", tmp_path / "p", "--workers", 2)
    failed(cli("shard", source, tmp_path / "out", "--partition", tmp_path / "p"), "24")
    assert not (tmp_path / "out").exists()


def test_an_output_folder_that_holds_something_else(
    cli: Callable, source: Path, scores: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    failed(cli("shard", source, out, "--scores", scores, "--workers", 2), out)
    failed(cli("demo", "--out", out), out, "something else")
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_all_scores_nan(cli: Callable, source: Path, tmp_path: Path) -> None:
    Scores(np.full(N, np.nan, np.float32)).save(tmp_path / "nan.parquet")
    outcome = cli("partition", tmp_path / "nan.parquet", "-o", tmp_path / "p", "--workers", 2)
    failed(outcome, f"{tmp_path / 'nan.parquet'}: all 24 are NaN")
    assert not (tmp_path / "p").exists()


def test_some_scores_nan_are_counted_in_a_warning(cli: Callable, tmp_path: Path) -> None:
    values = np.arange(N, dtype=np.float32)
    values[3:5] = np.nan
    Scores(values).save(tmp_path / "nan.parquet")
    outcome = cli("partition", tmp_path / "nan.parquet", "-o", tmp_path / "p", "--workers", 2)
    assert outcome.status == 0
    assert outcome.err.startswith("pyimportance: warning: 2 of 24 scores are NaN")


def test_settings_that_are_not_allowed(cli: Callable, source: Path, scores: Path, tmp_path: Path) -> None:
    p = tmp_path / "p"
    failed(cli("partition", scores, "-o", p), "--workers")
    failed(
        cli("partition", scores, "-o", p, "--workers", 2, "--policy", "magic"), "--policy 'magic'", "stripes"
    )
    failed(cli("partition", scores, "-o", p, "--workers", 2, "--k", 3), "'k'")
    failed(cli("partition", scores, "-o", p, "--workers", 0), "--workers 0: must be at least 1")
    failed(
        cli("partition", scores, "-o", p, "--workers", 2, "--policy", "balanced"),
        "--sizes:",
        "needs the bytes",
    )
    two = ("partition", scores, "-o", p, "--workers", 2)
    failed(cli(*two, "--capacity", "1;2"), "--capacity '1;2'", "must be numbers with commas between them")
    failed(cli(*two, "--capacity", "1,-2"), "--capacity: -2.0 of worker 1")
    np.save(tmp_path / "few.npy", np.arange(3))
    failed(
        cli("inspect", scores, "--classes", tmp_path / "few.npy"), "--sizes and --classes are of a partition"
    )
    cli("partition", scores, "-o", tmp_path / "two", "--workers", 2)
    failed(cli("inspect", tmp_path / "two", "--classes", tmp_path / "few.npy"), "classes: int64 of shape [3]")
    failed(cli("inspect", scores, "--shuffle", "shards"), "--shuffle: only shards are loaded")
    assert cli("shard", source, tmp_path / "set", "--scores", scores, "--workers", 2).status == 0
    for options, words in (
        (("--mix", "curriculum"), "--mix 'curriculum': must be stratified, sequential, or numbers with"),
        (("--mix", "1,2,3"), "--mix: 3 rates; "),
        (("--shuffle", "some"), "--shuffle 'some': must be True, False or 'shards'"),
        (("--keep", 0), "--keep 0.0: must be above 0 and at most 1"),
        (("--window-bytes", 0), "--window-bytes 0: must be at least 1"),
        (("--batch-size", 0), "--batch-size 0: must be at least 1"),
    ):
        failed(cli("inspect", tmp_path / "set", *options), words)
    index(source).save(tmp_path / "index.arrow")
    Scores(np.zeros(3, np.float32)).save(tmp_path / "three.parquet")
    wrong = (
        "partition",
        tmp_path / "three.parquet",
        "-o",
        p,
        "--workers",
        2,
        "--sizes",
        tmp_path / "index.arrow",
    )
    failed(cli(*wrong), "three.parquet", "index.arrow", "not of the same samples")
    failed(
        cli(*two, "--classes", tmp_path / "few.npy"), "--classes: int64 of shape [3]", "each of 24 samples"
    )
    failed(cli(*two, "--sizes", tmp_path / "few.npy"), "--sizes: int64 of shape [3]")
    failed(cli(*two, "--sizes", scores), scores, "not an array of numbers (.npy)")
    failed(cli(*two, "--classes", tmp_path / "none.npy"), tmp_path / "none.npy")
    failed(cli("shard", source, tmp_path / "out"), "--partition", "--scores")
    outcome = cli("shard", source, tmp_path / "out", "--scores", scores)
    failed(outcome, "--workers", "--scores")
    assert "--current" not in outcome.err  # which this command does not have
    divided = ("shard", source, tmp_path / "out", "--partition", tmp_path / "p")
    idle = {"--workers": 3, "--policy": "blocks", "--bins": 2, "--seed": 1, "--k": 4}
    for option, value in {
        **idle,
        "--tolerance": 0.1,
        "--capacity": "1,2",
        "--classes": tmp_path / "few.npy",
    }.items():
        failed(cli(*divided, option, value), option, "--partition is divided already")
    failed(cli("score", scores, "-o", p), scores)
    failed(cli("partition", scores, "-o", tmp_path / "no" / "p", "--workers", 2), tmp_path / "no" / "p")
    assert not p.exists()


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        ("luck", ("--measure 'luck' is unknown", "there are loss_mean, ")),
        ("rho", ("--measure 'rho' takes irreducible, from Python alone", "there are loss_mean, ")),
        ("dual", ("needs p_true, history", "which was not recorded (only loss)")),
    ],
)
def test_measures_that_this_command_cannot_compute(
    cli: Callable, tmp_path: Path, measure: str, words: tuple[str, ...]
) -> None:
    tracker = Tracker(N)
    tracker.observe_loss(np.arange(N), np.ones(N, np.float32))
    tracker.end_epoch()
    tracker.dynamics().save(tmp_path / "d.npz")
    outcome = cli("score", tmp_path / "d.npz", "-o", tmp_path / "s", "--measure", measure)
    failed(outcome, tmp_path / "d.npz" if measure != "dual" else "", *words)
    assert {"rho,", "ifd", "tdds", "aum,"}.isdisjoint(outcome.err.partition(" are ")[2].split())
    assert not (tmp_path / "s").exists()


def test_files_that_are_something_else(cli: Callable, source: Path, scores: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    failed(cli("inspect", tmp_path / "text"), tmp_path / "text", "is no index")
    failed(cli("inspect", tmp_path / "missing"), tmp_path / "missing")
    failed(cli("inspect", source), source)
    failed(cli("verify", source), source)
    failed(cli("verify", tmp_path / "missing"), tmp_path / "missing")
    failed(cli("partition", tmp_path / "text", "-o", tmp_path / "p", "--workers", 2), tmp_path / "text")
    failed(cli("repartition", source, "--partition", scores), source)


def test_damage_is_found_by_verify(cli: Callable, source: Path, scores: Path, tmp_path: Path) -> None:
    cli("shard", source, tmp_path / "out", "--scores", scores, "--workers", 2)
    shard = next((tmp_path / "out").glob("worker-001/*.tar"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    failed(cli("verify", tmp_path / "out"), shard.name)


def images(folder: Path, name: str, samples: dict[str, bytes], extension: str = "png") -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, label in samples.items():
            picture = io.BytesIO()
            Image.new("L", (8, 8)).save(picture, "PNG")
            for ext, data in (("cls", label), (extension, picture.getvalue())):
                member = tarfile.TarInfo(f"{key}.{ext}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_data_the_demo_cannot_train_on(cli: Callable, source: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "images"
    failed(cli("demo", "--out", out, "--data", tmp_path / "missing"), tmp_path / "missing")
    failed(cli("demo", "--out", out, "--data", source), "train-0.tar", "has no image")
    images(data, "a.tar", {f"{i}": b"%d" % (i % 2) for i in range(20)} | {"last": b"cat"})
    failed(cli("demo", "--out", out, "--data", data), "a.tar", "last.cls", "cat")
    images(data, "a.tar", {f"{i}": b"%d" % (i % 2) for i in range(20)})
    failed(cli("demo", "--out", out, "--data", data, "--workers", 19), "--workers 19: more than the 18")
    failed(cli("demo", "--out", out, "--data", data, "--samples", 100), "--samples 100: must be 1 to 18")
    assert not (out / "report.json").exists()


def test_a_tar_that_was_written_again_since_it_was_indexed(
    cli: Callable, source: Path, scores: Path, tmp_path: Path
) -> None:
    assert cli("index", source, "-o", tmp_path / "index.arrow").status == 0
    path = source / "train-1.tar"
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in members[::-1]:
            tar.addfile(member, io.BytesIO(data))
    outcome = cli("shard", tmp_path / "index.arrow", tmp_path / "out", "--scores", scores, "--workers", 2)
    failed(outcome, path, "member '00", "offset", "; found ", "index it again")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--epochs", 1), "--epochs 1: must be at least --warmup 2"),
        (("--batch-size", 0), "--batch-size 0: must be at least 1"),
        (("--warmup-on", "cloud"), "--warmup-on 'cloud': allowed are"),
        (("--lr", 0), "--lr 0.0: must be a finite number > 0"),
        (("--workers", 10**6), "--workers 1000000: each takes 300 MB of memory, and "),
        (("--lr", "1e308"), "--lr 1e+308: must be at most 3.403e+38"),
        (("--policy", "luck"), "--policy 'luck' is unknown"),
        (("--policy", "vanilla, sticky(k=0)"), "--policy 'sticky(k=0)': k=0: must be at least 1"),
        (("--policy", "vanilla,vanilla"), "--policy 'vanilla' is named twice"),
        (("--measure", "luck"), "--measure 'luck' is unknown; possible here are loss_mean"),
        (("--measure", "rho"), "--measure 'rho' takes irreducible, from Python alone"),
        (("--measure", "tdds"), "--measure 'tdds' needs the probabilities of all classes"),
        (("--measure", "dual"), "is asked for after 2 (--warmup 2)"),
        (("--measure", "dual(window=3)"), "with window=3 needs 3 observations"),
    ],
)
def test_what_the_demo_refuses_it_refuses_before_it_touches_anything(
    cli: Callable, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    (tmp_path / MARK).touch()
    (tmp_path / "report.json").write_text("an earlier demo's")
    failed(cli("demo", "--out", tmp_path, *options), words)
    assert {path.name for path in tmp_path.iterdir()} == {MARK, "report.json"}
