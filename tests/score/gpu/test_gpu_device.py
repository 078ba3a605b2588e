"""What only a device can show: large tensors, many blocks at once, streams, graphs, ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyimportance import ArgumentError, Tracker

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _device(device: Any) -> Iterator[None]:
    yield
    torch.cuda.empty_cache()


def batch(
    rows: int, classes: int, samples: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    ids = torch.randint(samples, (rows,), device="cuda")
    return (
        ids,
        torch.randn(rows, classes, device="cuda").to(dtype) * 3,
        torch.randint(classes, (rows,), device="cuda"),
    )


def losses(tracker: Tracker) -> Any:
    tracker.end_epoch()
    return tracker.dynamics().loss_mean


def on_the_host(samples: int, *batches: tuple[torch.Tensor, ...]) -> Any:
    tracker = Tracker(samples)
    for ids, z, y in batches:
        tracker.observe(ids, z, y)
    return losses(tracker)


@pytest.mark.parametrize(("rows", "classes"), [(300_000, 10), (50_000, 200), (20_000, 1000), (600, 128_256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_many_blocks_at_once(rows: int, classes: int, dtype: torch.dtype) -> None:
    """With ids so few that blocks race for them."""
    samples = rows // 3
    one = batch(rows, classes, samples, dtype)
    tracker = Tracker(samples, device="cuda")
    tracker.observe(*one)
    np.testing.assert_allclose(losses(tracker), on_the_host(samples, one), rtol=2e-6)


def test_element_offsets_beyond_32_bits() -> None:
    rows, classes = 2**31 // 50257 + 9, 50257
    if torch.cuda.mem_get_info()[0] < 3 * rows * classes * 2:
        pytest.skip("the device has too little free memory")
    z = torch.zeros(rows, classes, dtype=torch.bfloat16, device="cuda")
    _, last, y = batch(8, classes, 8, torch.bfloat16)
    z[-8:] = last
    targets = torch.zeros(rows, dtype=torch.int64, device="cuda")
    targets[-8:] = y
    tracker = Tracker(rows, device="cuda")
    tracker.observe(torch.arange(rows, device="cuda"), z, targets)
    got = losses(tracker)
    np.testing.assert_allclose(got[-8:], on_the_host(8, (torch.arange(8), last, y)), rtol=2e-6)
    np.testing.assert_allclose(got[:-8], np.log(classes), rtol=1e-6)


def test_sequences_beyond_32_bits() -> None:
    """As many elements, by sequences that lie apart: their last token is not part of them."""
    length, classes = 2049, 50257
    sequences = 2**31 // (length * classes) + 2
    if torch.cuda.mem_get_info()[0] < 3 * sequences * length * classes * 2:
        pytest.skip("the device has too little free memory")
    z = torch.zeros(sequences, length, classes, dtype=torch.bfloat16, device="cuda")
    _, last, y = batch(length, classes, 8, torch.bfloat16)
    z[-1] = last
    targets = torch.zeros(sequences, length - 1, dtype=torch.int64, device="cuda")
    targets[-1] = y[:-1]
    tracker = Tracker(sequences, device="cuda")
    tracker.observe(torch.arange(sequences, device="cuda"), z[:, :-1], targets)
    got = losses(tracker)
    want = torch.nn.functional.cross_entropy(last[:-1].double(), y[:-1]).item()
    np.testing.assert_allclose(got, [np.log(classes)] * (sequences - 1) + [want], rtol=2e-6)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_nothing_is_waited_for() -> None:
    tracker, of_tokens = Tracker(1000, device="cuda"), Tracker(1000, device="cuda")
    ids, z, y = batch(512, 100, 1000)
    tokens, labels = z.view(4, 128, 100)[:, :-1], y.view(4, 128)[:, 1:]
    mask, ids32 = torch.ones(512, dtype=torch.bool, device="cuda"), ids.int()
    torch.cuda.set_sync_debug_mode("error")
    try:
        tracker.observe(ids, z, y)
        tracker.observe(ids32, z.half(), y.int(), mask=mask, nonfinite="skip")
        of_tokens.observe(ids[:4], tokens, labels, mask=mask[:4], ignore_index=7)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # Nor does any call of the extension: it returns while the device is at something else.
    torch.cuda._sleep(1_000_000_000)
    done = torch.cuda.Event()
    tracker.observe(ids, z, y)
    of_tokens.observe(ids[:4], tokens, labels, ignore_index=7)
    done.record()
    assert not done.query()


def test_the_callers_stream() -> None:
    side, samples = torch.cuda.Stream(), 5000
    ids, z, y = batch(4096, 64, samples)
    late = torch.full_like(z, torch.nan)
    tracker = Tracker(samples, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        torch.cuda._sleep(50_000_000)
        late.copy_(z)  # who reads before this reads NaN
        tracker.observe(ids, late, y)
    torch.cuda.current_stream().wait_stream(side)
    np.testing.assert_allclose(losses(tracker), on_the_host(samples, (ids, z, y)), rtol=2e-6)


def test_a_graph_observes_what_its_inputs_hold_when_it_is_replayed() -> None:
    samples = 4000
    tracker = Tracker(samples, device="cuda")
    batches = [batch(1024, 40, samples), batch(1024, 40, samples)]
    batches[1] = (batches[1][0].roll(77) // 2, -batches[1][1], batches[1][2].flip(0))
    ids, z, y = (part.clone() for part in batches[0])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # once before it is captured: so kernels are loaded, but not for no rows
        tracker.observe(ids[:1], z[:1], y[:1], mask=torch.zeros(1, dtype=torch.bool, device="cuda"))
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tracker.observe(ids, z, y)
    for _ in range(2):  # two epochs
        for one in batches:
            for to, part in zip((ids, z, y), one, strict=True):
                to.copy_(part)
            graph.replay()
        torch.cuda.synchronize()
        assert tracker.state_dict()["open"]
        tracker.end_epoch()
        assert not tracker.state_dict()["open"]
    want = Tracker(samples)
    for _ in range(2):
        for one in batches:
            want.observe(*one)
        want.end_epoch()
    got, right = tracker.dynamics(), want.dynamics()
    np.testing.assert_array_equal(got.count, right.count)
    np.testing.assert_allclose(got.loss_mean, right.loss_mean, rtol=2e-6)
    ids[5] = samples
    graph.replay()
    with pytest.raises(ArgumentError, match=f"ids: {samples} at position 5"):
        tracker.end_epoch()


def test_logits_on_a_device_and_a_state_on_the_host() -> None:
    ids, z, y = batch(100, 7, 50)
    tracker = Tracker(50)
    tracker.observe(ids, z.requires_grad_(), y)
    np.testing.assert_array_equal(losses(tracker), on_the_host(50, (ids.cpu(), z.detach().cpu(), y.cpu())))


def test_ranks_on_one_device(tmp_path: Path) -> None:
    body = """
import sys
import numpy as np, torch, torch.distributed as dist
from pyimportance import Tracker
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
rng = np.random.default_rng(0)
z, y = rng.standard_normal((90, 7)).astype(np.float32), rng.integers(0, 7, 90)
ours, hosts = Tracker(90, device="cuda"), Tracker(90)
for tracker in (ours, hosts):
    for epoch in range(2):
        ids = np.append(np.arange(rank + epoch, 90, 3), 5)
        tracker.observe(ids, z[ids] * (1 + rank), y[ids])
        tracker.end_epoch()
a, b = ours.dynamics(), hosts.dynamics()
np.testing.assert_array_equal(a.count, b.count)
np.testing.assert_allclose(a.loss_mean, b.loss_mean, rtol=2e-6)
np.save(f"{folder}/{rank}.npy", a.loss_mean)
dist.barrier()
dist.destroy_process_group()
"""
    script = tmp_path / "rank.py"
    script.write_text(body)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ranks = [
        subprocess.Popen([sys.executable, str(script), str(rank), str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    np.testing.assert_array_equal(np.load(tmp_path / "0.npy"), np.load(tmp_path / "1.npy"))
