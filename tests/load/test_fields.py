"""Parts of one size as ready tensors."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pyimportance import ArgumentError, DataError, ImportanceDataset, index, write_shards

N = 50
FIELDS = {"x": ("uint8", (8, 5, 3)), "y": ("bfloat16", (30_000,)), "cls": ("int64", (1,))}


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_tar, divide):
    """(shards of two workers, arrays by field, all as bytes [N, nbytes])"""
    folder, r = tmp_path_factory.mktemp("fields"), np.random.default_rng(3)
    arrays = {"x": r.bytes(N * 120), "y": r.bytes(N * 60_000), "cls": np.arange(N).tobytes()}
    parts = {e: np.frombuffer(data, np.uint8).reshape(N, -1) for e, data in arrays.items()}
    samples = [
        (f"{i:03d}", {e: data[i].tobytes() for e, data in parts.items()} | {"txt": b"%d" % i})
        for i in range(N)
    ]
    write_tar(folder / "source.tar", samples)
    return write_shards(index(folder / "source.tar"), divide([23, 27], 2), folder / "set"), parts


def check(batches, parts, size):
    seen = []
    for batch in batches:
        ids = np.asarray(batch["__index__"])
        for extension, (dtype, shape) in FIELDS.items():
            tensor = batch[extension]
            assert (tensor.dtype, tensor.shape) == (getattr(torch, dtype), (len(ids), *shape))
            assert (tensor.reshape(len(ids), -1).view(torch.uint8).numpy() == parts[extension][ids]).all()
        assert batch["txt"] == [b"%d" % i for i in ids]
        assert list(batch) == ["__key__", "__url__", "__index__", "__weight__", "__pad__", "txt", *FIELDS]
        assert len(ids) <= size
        seen += ids.tolist()
    assert sorted(seen) == list(range(N))


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("window_bytes", [1, 2**18, 2**25])
def test_tensors_hold_what_was_written(made, processes, window_bytes):
    shards, parts = made
    dataset = ImportanceDataset(
        shards, batch_size=7, batched=True, fields=FIELDS, window_bytes=window_bytes, rank=0, world_size=1
    )
    check(DataLoader(dataset, batch_size=None, num_workers=processes, collate_fn=dict), parts, 7)


@pytest.mark.parametrize("window_bytes", [1, 2**18, 2**25])
def test_a_batch_is_its_owners(made, window_bytes):
    """What one writes to a batch shows in no other, nor in samples that are repeated; and no batch that is
    kept changes while others are read."""
    shards, parts = made
    dataset = ImportanceDataset(
        shards, batch_size=7, batched=True, fields=FIELDS, window_bytes=window_bytes, rank=0, world_size=2
    )
    kept, pads = [], 0
    for epoch in range(6):
        dataset.set_epoch(epoch)
        for n, batch in enumerate(dataset):
            ids = batch["__index__"]
            pads += int(batch["__pad__"].sum())
            for extension in FIELDS:
                got = batch[extension].reshape(len(ids), -1).view(torch.uint8)
                assert (got.numpy() == parts[extension][ids]).all()
                if n % 3:
                    got.zero_()
            if n % 3 == 0:
                kept.append(batch)
    assert pads == 6 * 4
    for batch in kept:
        for extension in FIELDS:
            got = batch[extension].reshape(len(batch["__index__"]), -1).view(torch.uint8)
            assert (got.numpy() == parts[extension][batch["__index__"]]).all()


def test_some_fields_are_tensors_and_the_rest_is_bytes(made):
    shards, parts = made
    fields = {"x": FIELDS["x"]}
    for batch in ImportanceDataset(shards, batch_size=9, batched=True, fields=fields, rank=0, world_size=1):
        assert (batch["x"].reshape(len(batch["y"]), -1).numpy() == parts["x"][batch["__index__"]]).all()
        assert batch["y"] == [parts["y"][i].tobytes() for i in batch["__index__"]]


def test_a_part_of_another_size(made):
    shards, _ = made
    fields = {"txt": ("uint8", (2,))}
    dataset = ImportanceDataset(shards, batch_size=9, batched=True, fields=fields, rank=0, world_size=1)
    with pytest.raises(
        DataError, match=r"part 'txt' has 1 bytes; fields says uint8 \[2\], 2 bytes"
    ) as caught:
        list(dataset)
    assert caught.value.path in {file for w in range(2) for file in shards.index(w).files}
    assert int(caught.value.member) < 10


def test_a_part_that_is_missing(made):
    dataset = ImportanceDataset(
        made[0], batch_size=9, batched=True, fields={"z": ("uint8", (2,))}, rank=0, world_size=1
    )
    with pytest.raises(DataError, match="has no part 'z'; fields says uint8"):
        list(dataset)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fields": {"x": ("uint8", (1,))}}, "give batched=True"),
        ({"fields": {"x": "uint8"}, "batched": True}, "must be {extension"),
        ({"fields": {"x": ("bool", (1,))}, "batched": True}, "dtype 'bool'; allowed are uint8"),
        ({"fields": {"x": ("uint8", (0,))}, "batched": True}, "shape"),
        ({"fields": 3, "batched": True}, "must be {extension"),
        ({"pin_memory": True}, "no fields to be pinned"),
        ({"on_error": "ignore"}, "on_error='ignore': allowed are raise, skip"),
        ({"max_skipped": -1}, "max_skipped"),
    ],
)
def test_options_that_are_not_allowed(made, options, problem):
    with pytest.raises(ArgumentError, match=problem):
        ImportanceDataset(made[0], batch_size=4, rank=0, world_size=1, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_pinned_memory_needs_cuda(made):
    with pytest.raises(ArgumentError, match="no CUDA device"):
        ImportanceDataset(
            made[0], batch_size=4, batched=True, fields=FIELDS, pin_memory=True, rank=0, world_size=1
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA")
def test_pinned_memory(made):
    shards, parts = made
    dataset = ImportanceDataset(
        shards, batch_size=7, batched=True, fields=FIELDS, pin_memory=True, rank=0, world_size=1
    )
    batches = list(dataset)
    assert all(batch["x"].is_pinned() for batch in batches)
    check(batches, parts, 7)
