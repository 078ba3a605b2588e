"""Ensembles, as only a device can show them: many blocks at once, large tensors, streams, graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from pyimportance import ArgumentError, Ensemble
from tests.score.gpu.test_gpu_ensembles import agree, agree_without_targets

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _device(device: Any) -> Iterator[None]:
    yield
    torch.cuda.empty_cache()


def member(rows: int, classes: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return (torch.randn(rows, classes, device="cuda") * 3).to(dtype)


@pytest.mark.parametrize(("rows", "classes"), [(300_000, 10), (30_000, 200), (9000, 1000), (200, 50_257)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_many_blocks_at_once(rows: int, classes: int, dtype: torch.dtype) -> None:
    """Whole, and in batches whose rows are those of samples all over."""
    ours, hosts = Ensemble(rows, classes, device="cuda"), Ensemble(rows, classes)
    targets = torch.randint(classes, (rows,), device="cuda")
    for seed in range(2):
        z = member(rows, classes, dtype, seed)
        hosts.add(logits=z, targets=targets)
        if seed:
            for ids in torch.randperm(rows, device="cuda").split(rows // 3):
                ours.add_batch(ids, logits=z[ids], targets=targets[ids])
            ours.end_member()
        else:
            ours.add(logits=z, targets=targets)
    agree(ours, hosts)


def test_duplicates_across_blocks() -> None:
    """Whichever block comes first, the lowest position stands."""
    samples, rows = 1000, 200_000
    z = member(rows, 5, torch.float32)
    ids = torch.randint(samples, (rows,), device="cuda")
    ours, hosts = Ensemble(samples, 5, device="cuda"), Ensemble(samples, 5)
    ours.add_batch(ids, logits=z)
    ours.end_member()
    first = np.unique(ids.cpu().numpy(), return_index=True)[1]
    hosts.add_batch(ids[first], logits=z[first])
    hosts.end_member()
    with pytest.raises(ArgumentError, match=f"once in a member .*the first of {rows - len(first)}; "):
        ours.scores("variation_ratio")
    agree_without_targets(ours, hosts)


def test_element_offsets_beyond_32_bits() -> None:
    """Of the logits and of the sums."""
    classes = 65_537
    rows = 2**31 // classes + 9
    if torch.cuda.mem_get_info()[0] < rows * classes * 13:  # bfloat16, and the sums
        pytest.skip("the device has too little free memory")
    z = torch.zeros(rows, classes, dtype=torch.bfloat16, device="cuda")
    last = member(8, classes, torch.bfloat16)
    z[-8:] = last
    ours, hosts = Ensemble(rows, classes, device="cuda"), Ensemble(8, classes)
    ours.add(logits=z)
    del z
    hosts.add(logits=last)
    for name in ("ensemble_entropy", "variation_ratio"):
        got: npt.NDArray[np.float32] = ours.scores(name).values
        np.testing.assert_allclose(got[-8:], hosts.scores(name).values, rtol=1e-6)
        np.testing.assert_allclose(got[:-8], np.log(classes) if name == "ensemble_entropy" else 0, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_is_waited_for() -> None:
    ours = Ensemble(512, 100, device="cuda")
    z, y = member(512, 100, torch.float16), torch.randint(100, (512,), device="cuda")
    ids = torch.randperm(512, device="cuda", dtype=torch.int32)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ours.add(logits=z, targets=y)
        ours.add_batch(ids, logits=z[:, ::2].repeat(1, 2), targets=y.int(), temperature=2)
        ours.end_member()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda._sleep(1_000_000_000)
    done = torch.cuda.Event()
    ours.add(logits=z, targets=y)
    ours.add_batch(ids, logits=z, targets=y)
    ours.end_member()
    done.record()
    assert not done.query()
    assert ours.members == 4


def test_the_callers_stream() -> None:
    side, z = torch.cuda.Stream(), member(5000, 64, torch.float32)
    late = torch.full_like(z, torch.nan)
    ours, hosts = Ensemble(5000, 64, device="cuda"), Ensemble(5000, 64)
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(z)  # who reads before this reads NaN
        ours.add(logits=late)
    torch.cuda.current_stream().wait_stream(side)
    hosts.add(logits=z)
    agree_without_targets(ours, hosts)


def test_a_graph_adds_what_its_inputs_hold_when_it_is_replayed() -> None:
    """Batches of members: that they end is said between replays."""
    ours, hosts = Ensemble(1000, 40, device="cuda"), Ensemble(1000, 40)
    z, ids = member(500, 40, torch.float32), torch.arange(500, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # once before it is captured: so kernels are loaded, but not for no rows
        Ensemble(1000, 40, device="cuda").add_batch(ids, logits=z)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours.add_batch(ids, logits=z)
    for seed in range(3):
        ours.add_batch(ids[:0], logits=z[:0])  # that a member begins, and ends, no graph can say
        for half in torch.randperm(1000, device="cuda").split(500):
            z.copy_(member(500, 40, torch.float32, seed))
            ids.copy_(half)
            graph.replay()
            hosts.add_batch(half, logits=z)
        ours.end_member()
        hosts.end_member()
    agree_without_targets(ours, hosts)
    ours.add_batch(ids[:0], logits=z[:0])
    ids[5] = 1000
    graph.replay()
    ours.end_member()
    with pytest.raises(ArgumentError, match="ids: 1000 at row 5 of its batch"):
        ours.mean_probs()
