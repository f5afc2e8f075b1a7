"""PyTorch's DataLoader: order, content and imports of its workers."""

import time

import numpy as np
import pytest

from tests.support.loader_worker import Caching, Changing, Reporting
from tests.support.weight_zoos import random_zoo
from zoojax import WeightDataset
from zoojax.weight_datasets import Tokens, worker_memory

data = pytest.importorskip("torch.utils.data")


def loader(dataset, workers: int, size: int = 8, wrapper: type = Reporting):
    options = {"persistent_workers": True, "multiprocessing_context": "spawn"} if workers else {}
    return data.DataLoader(
        wrapper(dataset),
        sampler=dataset.batches(size, seed=5),
        batch_size=None,
        num_workers=workers,
        **options,
    )


def test_workers_return_the_same_without_jax(zoo, cache):
    """Two passes with permutations and windows, in two spawned workers and in this process."""
    dataset = WeightDataset(zoo, "tokens", target="test_acc", permute=True, cache=cache)
    here, workers = loader(dataset, 0), loader(dataset, 2)
    passes = []
    for _ in range(2):
        first = []
        for (own, _), (theirs, loaded) in zip(here, workers, strict=True):
            assert loaded == []
            for ours, other in zip(own, theirs, strict=True):
                np.testing.assert_array_equal(ours.numpy(), other.numpy())
            first.append(own[0].numpy())
        passes.append(np.concatenate(first))
    # Each pass has its own order and its own permutations.
    first, second = passes
    assert not np.array_equal(first, second)
    # As multisets of states, too: they are permuted differently.
    one, other = (np.sort(x.reshape(len(x), -1), axis=0) for x in passes)
    assert not np.array_equal(one, other)


def test_workers_keep_batches_that_are_in_use(zoo, cache):
    """More batches than a worker has segments, kept while the others are freed and reused."""
    view = Tokens("neuron", window=5)
    dataset = WeightDataset(zoo, view, target="test_acc", permute=True, cache=cache)
    expected = [item for item, _ in loader(dataset, 0, size=2)]
    assert len(expected) > 2 * worker_memory._SEGMENTS + 20
    kept = []
    for number, (item, _) in enumerate(loader(dataset, 1, size=2)):
        _assert_same(item, expected[number])
        if number % 2:
            kept.append((number, item))
    for number, item in kept:
        _assert_same(item, expected[number])


def _assert_same(ours, theirs):
    (x, y), (other_x, other_y) = ours, theirs
    assert x.keys() == other_x.keys()
    for one, other in zip((*x.values(), y), (*other_x.values(), other_y), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_batches_changed_in_a_worker(zoo, cache):
    """Views and results of batches are copied, and their memory is free afterwards."""
    dataset = WeightDataset(zoo, "flat", permute=True, cache=cache)
    here, worker = (loader(dataset, n, size=2, wrapper=Changing) for n in (0, 1))
    for ours, theirs in zip(here, list(worker), strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_batches_kept_in_a_worker(zoo, cache):
    """A worker sends batches again after the main process has freed them."""
    dataset = WeightDataset(zoo, "flat", permute=True, cache=cache)
    here, worker = (loader(dataset, n, size=2, wrapper=Caching) for n in (0, 1))
    for ours, theirs in zip(here, worker, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_default_loading_of_single_items(zoo, cache):
    """Without a sampler of ours: PyTorch's own shuffling and batches."""
    torch = pytest.importorskip("torch")
    dataset = WeightDataset(zoo, "graph", target=["test_acc", "epoch"], cache=cache)
    torch.manual_seed(0)
    batches = list(data.DataLoader(dataset, batch_size=50, shuffle=True))
    assert [x["edges"].shape for x, _ in batches] == [(50, 360, 25)] * 2 + [(20, 360, 25)]
    assert batches[0][1].shape == (50, 2)
    assert (
        sorted(torch.cat([y for _, y in batches])[:, 1].tolist()) == [0] * 40 + [1] * 40 + [2] * 40
    )


@pytest.mark.slow
def test_two_workers_are_faster_than_one(tmp_path):
    """The second pass of persistent workers, with permutations; needs two idle cores."""
    zoo = random_zoo(tmp_path / "zoo", members=1000, epochs=25)
    dataset = WeightDataset(
        zoo, "tokens", target="test_acc", permute=True, cache=tmp_path / "cache"
    )
    seconds = []
    for workers in (1, 2):
        batches = loader(dataset, workers, size=256)
        elapsed = 0.0
        for _ in range(2):
            start = time.perf_counter()
            assert sum(len(y) for (_, y), loaded in batches if not loaded) == len(dataset)
            elapsed = time.perf_counter() - start
        seconds.append(elapsed)
    assert seconds[0] / seconds[1] >= 1.5, seconds


@pytest.mark.slow
def test_speed_on_one_core(tmp_path):
    """At least 50,000 vectors and 20,000 sequences of tokens per second of one core."""
    zoo = random_zoo(tmp_path / "zoo", members=1000, epochs=25)
    for view, least in (("flat", 50_000), ("tokens", 20_000)):
        dataset = WeightDataset(zoo, view, cache=tmp_path / "cache")
        batches = dataset.batches(256)
        speed = 0.0
        for _ in range(2):  # The first pass reads the file from disk.
            start = time.process_time()
            items = sum(len(dataset[draw]) for draw in batches)
            speed = items / (time.process_time() - start)
        assert speed >= least, view
