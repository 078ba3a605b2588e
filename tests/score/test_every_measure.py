"""Every measure, from logits to scores, against the float64 oracle: logits of any dtype and layout, by any
instruction set; and on any number of threads the same bits.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyimportance import _C, measures, score
from pyimportance.score.measures import history as of_histories
from tests.score import running
from tests.score.conftest import KINDS
from tests.score.oracle import LAYOUTS, Logits, agree, recorded, variants
from tests.score.runs import bits

THREADS = (1, 2, 3, 5)


@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    repeat=st.booleans(),
    samples=st.integers(1, 40),
    classes=st.sampled_from([1, 2, 3, 10, 100, 160, 161]),
    seed=st.integers(0, 2**32 - 1),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    isa=st.sampled_from(_C.instruction_sets()),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    layout=st.sampled_from(LAYOUTS),
)
def test_every_measure_agrees_with_the_oracle(  # noqa: PLR0917 (hypothesis passes them by name)
    make_logits: Logits,
    kinds: list[str],
    repeat: bool,
    samples: int,
    classes: int,
    seed: int,
    missing: float,
    isa: str,
    dtype: str,
    layout: str,
) -> None:
    kinds = kinds[:1] * len(kinds) if repeat else kinds
    with running.instruction_set(isa), pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_histories, "_NUMBERS", 7)  # what threads share among them
        trained, history = recorded(
            make_logits, kinds, samples, classes, seed, missing, dtype, layout, THREADS
        )
        for name, options in variants(trained[0], classes):
            results = []
            for dynamics, count in zip(trained, THREADS, strict=True):
                with running.threads(count):
                    results.append(score(dynamics, name, **options).values)
            agree(name, results[0], history, **options)
            assert all(other.tobytes() == results[0].tobytes() for other in results), name
    assert all(bits(dynamics) == bits(trained[0]) for dynamics in trained)


def test_that_is_every_measure(make_logits: Logits) -> None:
    """But for tdds, which is of the probabilities of all classes: test_measures_of_history."""
    (dynamics,), _ = recorded(make_logits, ["normal"], 3, 4, seed=1, missing=0)
    assert {name for name, _ in variants(dynamics, 4)} == set(measures()) - {"tdds"}
