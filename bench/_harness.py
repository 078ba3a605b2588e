"""What the benches share: options, timing in turns, checks of every answer.

A bench is a script with ``run(options) -> Report`` and ``main(argv)``. Nothing is printed before all answers
that were timed have been checked; one that is wrong ends the bench with status 1.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from _report import Report, part_of, publish

from pyimportance import OutputError
from pyimportance.io.atomic import check_writable

WARM = 1  # rounds that are not measured
LEAST = 3  # measured rounds of a contender whose time is up
_BEGAN = time.perf_counter()


class WrongAnswerError(Exception):
    """What was timed is not what it should have been."""


def check(holds: object, problem: str) -> None:
    if not holds:
        raise WrongAnswerError(problem)


def check_close(
    what: str, got: npt.ArrayLike, right: npt.ArrayLike, *, rtol: float = 0.0, atol: float = 0.0
) -> None:
    """Raises WrongAnswerError, with the first entry where not |got - right| <= atol + rtol |right|.

    NaN is right where NaN is expected.
    """
    got, right = np.asarray(got), np.asarray(right)
    check(got.shape == right.shape, f"{what}: shape {list(got.shape)}; right is {list(right.shape)}")
    wrong = got != right if rtol == atol == 0 else ~np.isclose(got, right, rtol=rtol, atol=atol)
    wrong &= ~(np.isnan(got) & np.isnan(right))
    if wrong.any():
        at, count = int(wrong.argmax()), int(np.count_nonzero(wrong))
        raise WrongAnswerError(
            f"{what}: {got.flat[at]} at {at}; right is {right.flat[at]} ({count} of {wrong.size} are wrong)"
        )


def compare(
    contenders: Mapping[str, Callable[[int], Any]],
    rounds: int,
    examine: Callable[[str, int, Any], None],
    prepare: Callable[[int], None] = lambda _: None,
    before: Callable[[str], None] = lambda _: None,
    *,
    budget: float | None = None,
    along: Collection[str] = (),
) -> dict[str, list[float]]:
    """Seconds of ``rounds`` calls by name: the contenders in turn, round by round (A B A B), in this process.

    A machine that slows down so slows all of them, and seconds of one round may be compared. Each contender
    is called with the round's number, to take inputs of its own; the first WARM rounds are not measured.
    Outside the clock ``prepare`` is called before every round, ``before``, with the name, before every call,
    and ``examine``, with name, round and answer, after it: it raises WrongAnswerError.

    With a ``budget`` of seconds a contender has at least LEAST measured rounds, and more, up to ``rounds``,
    while its calls have taken less; those named in ``along`` are called as long as any other is. So every
    list begins with the same round, and the k-th seconds of two contenders are of one round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with ExitStack() as aside:
        for turn in range(rounds + WARM):
            due = {
                name
                for name, taken in seconds.items()
                if budget is None or _has_time(taken, min(LEAST, rounds), budget)
            }
            if not due:
                break
            prepare(turn)
            if turn == WARM:
                aside.enter_context(_kept_from_collector())
            for name, call in contenders.items():
                if name not in due and name not in along:
                    continue
                before(name)
                start = time.perf_counter()
                answer = call(turn)
                seconds[name].append(time.perf_counter() - start)
                examine(name, turn, answer)
                del answer
    return {name: taken[WARM:] for name, taken in seconds.items()}


@contextmanager
def _kept_from_collector() -> Iterator[None]:
    """What there is by now, of imports most of all, is not walked by Python's collector: it takes a tenth
    of a second, in the time of whom its full pass happens to fall upon."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _has_time(taken: Sequence[float], least: int, budget: float) -> bool:
    return len(taken) < WARM + least or sum(taken[WARM:]) < budget


def say(what: str) -> None:
    """How far the bench is: a line on standard error, with the seconds since it began."""
    print(f"[{time.perf_counter() - _BEGAN:4.0f} s] {what}", file=sys.stderr, flush=True)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets how many threads this package, torch and numba may use, the latter two where they are loaded."""
    torch, numba = sys.modules.get("torch"), sys.modules.get("numba")
    env, by_torch = os.environ.get("OMP_NUM_THREADS"), torch and torch.get_num_threads()
    by_numba = numba and numba.get_num_threads()
    _set_threads(str(count), torch, count, numba, count)
    try:
        yield
    finally:
        _set_threads(env, torch, by_torch, numba, by_numba)


def _set_threads(env: str | None, torch: Any, by_torch: Any, numba: Any, by_numba: Any) -> None:
    os.environ.pop("OMP_NUM_THREADS", None)
    if env is not None:
        os.environ["OMP_NUM_THREADS"] = env
    if torch:
        torch.set_num_threads(by_torch)
    if numba:
        numba.set_num_threads(by_numba)


class Parser(argparse.ArgumentParser):
    """Refuses bad options as pyimportance's own commands do: one line and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def options_parser(description: str) -> argparse.ArgumentParser:
    """The options that every bench has; add your own."""
    parser = Parser(description=description)
    parser.add_argument("--quick", action="store_true", help="small cases, 2 rounds: does it run at all?")
    parser.add_argument("--repeats", type=_positive, metavar="N", help="measured rounds of every case")
    parser.add_argument(
        "--json", metavar="PATH", help="write the report there as well ('-': to standard output, alone)"
    )
    return parser


def add_choice(
    parser: argparse.ArgumentParser,
    option: str,
    among: Collection[str],
    help: str,
) -> None:
    """An ``option`` that takes names, with commas between them; without it, all that are ``among`` them."""

    def names(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",")]
        for name in chosen:
            if name not in among:
                raise argparse.ArgumentTypeError(f"{name!r} is unknown; there are {', '.join(among)}")
        return chosen

    parser.add_argument(option, type=names, default=list(among), metavar="NAME,..", help=help)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be an integer of at least 1")
    return int(text)


def rounds(options: argparse.Namespace, usual: int) -> int:
    """What --repeats says, also beside --quick; else ``usual``, or 2 with --quick."""
    return options.repeats or (2 if options.quick else usual)


def run_main(
    run: Callable[[argparse.Namespace], Report], parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> int:
    """The body of a bench's ``main``: exit status 0, or 1 without a figure where an answer was wrong."""
    options = parser.parse_args(argv)
    try:
        if options.json not in {None, "-"}:
            check_writable(options.json)
        publish(run(options), options.json)
    except WrongAnswerError as wrong:
        if (part := part_of(options.json)) is not None:
            Path(part).unlink(missing_ok=True)
        print(f"{parser.prog}: an answer is wrong, so there are no figures: {wrong}", file=sys.stderr)
        return 1
    except OutputError as error:
        parser.error(str(error))
    return 0
