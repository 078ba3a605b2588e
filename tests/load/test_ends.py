"""How loaders end: at once on Ctrl-C, and without a process, thread, file or shared memory left of them."""

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from pyimportance import ImportanceDataset, WebDataset

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
ROOT = Path(__file__).parents[2]

READS_FOR_EVER = """
import sys, time
from torch.utils.data import DataLoader
from pyimportance import ImportanceDataset

def large(samples):
    return [sample["__key__"].encode() + bytes(2**22) for sample in samples]

def main(root, processes, method, size):
    dataset = ImportanceDataset(root, batch_size=2, window_bytes=4096)
    how = {"num_workers": processes, "multiprocessing_context": method if processes else None}
    loader = DataLoader(dataset, 2, collate_fn=large if size == "large" else list, **how)
    try:
        for epoch in range(10**9):
            dataset.set_epoch(epoch)
            for batch in loader:
                print("reads", flush=True)
                while processes and size == "small":
                    time.sleep(60)  # its processes wait for it, with batches in their hands
    except KeyboardInterrupt:
        print("interrupted", flush=True)

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("processes", "method", "size"),
    [
        (0, "fork", "small"),
        (2, "fork", "small"),
        (2, "fork", "large"),  # whose processes are in the midst of sending, and the loop of receiving
        (1, "spawn", "small"),
        pytest.param(2, "spawn", "small", marks=pytest.mark.slow),
        pytest.param(2, "spawn", "large", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_a_loader_and_all_of_its_processes_at_once(shard_set, tmp_path, processes, method, size):
    (tmp_path / "job.py").write_text(READS_FOR_EVER)
    root = shard_set((40, 40))[0].root
    command = [sys.executable, tmp_path / "job.py", root, str(processes), method, size]
    job = subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True, env=environment()
    )
    try:
        assert job.stdout.readline() == b"reads\n"
        began = time.monotonic()
        os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to the loader processes as well
        assert job.stdout.read().endswith(b"interrupted\n")  # until the last of them has closed it
        assert job.wait(timeout=60) == 0
        assert time.monotonic() - began < 15  # a second or so, and the machine may have other things to do
        while is_there(job.pid) and time.monotonic() < began + 30:
            time.sleep(0.02)  # what multiprocessing starts beside spawned processes ends after them
        assert not is_there(job.pid)
        assert [name for name in os.listdir("/dev/shm") if f"_{job.pid}_" in name] == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.communicate()


def is_there(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in (str(ROOT), *sys.path))}


def held():
    """What this process has of files, shared memory and threads, by name."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
    mapped = [line.split(maxsplit=5)[5:] for line in Path("/proc/self/maps").read_text().splitlines()]
    ours = [name for name in [*names, *(n[0].strip() for n in mapped if n)] if "memfd:pyimportance" in name]
    return sorted(ours), sorted(t.name for t in threading.enumerate()), len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize(
    ("method", "processes", "given_up"),
    [
        *((method, 2, given_up) for method in ("fork", "forkserver") for given_up in (False, True)),
        ("spawn", 1, True),
        *(pytest.param("spawn", 2, given_up, marks=pytest.mark.slow) for given_up in (False, True)),
    ],
)
def test_nothing_is_left_of_a_loader(shard_set, open_below, method, processes, given_up):
    shards, _ = shard_set((40, 40))

    def use():
        for dataset in (
            ImportanceDataset(shards.root, batch_size=4, window_bytes=4096),
            WebDataset(shards.root, batch_size=4).shuffle(10),
        ):
            loader = DataLoader(
                dataset,
                4,
                num_workers=processes,
                collate_fn=list,
                multiprocessing_context=method,
                persistent_workers=True,
            )
            for _ in loader:
                if given_up:
                    break
        assert held()[0] != before[0]  # the test can see it

    multiprocessing.get_context(method).Process(target=gc.collect).start()  # a server of processes stays
    gc.collect()  # what other tests left
    before = held()
    use()
    gc.collect()
    until = time.monotonic() + 30
    while (held() != before or multiprocessing.active_children()) and time.monotonic() < until:
        time.sleep(0.05)  # threads of DataLoader's queues end by themselves
    assert held() == before
    assert multiprocessing.active_children() == []
    assert open_below(shards.root) == []
