"""Items, batches, targets, normalization and augmentation of datasets."""

import pickle
import shutil
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.weight_zoos import random_zoo
from zoojax import WeightDataset, ZoojaxError, concat
from zoojax.weight_datasets import Batches, Draw, Flat, Tokens


def test_items_are_the_states_in_order(zoo, cache):
    dataset = WeightDataset(zoo, target="test_acc", cache=cache)
    assert len(dataset) == 120 and dataset.left_out == 0
    x, y = dataset[:]
    np.testing.assert_array_equal(x, np.concatenate([zoo.flat(epoch) for epoch in (0, 1, 2)]))
    np.testing.assert_array_equal(y, zoo.metrics.sort("epoch", "member")["test_acc"])
    table = dataset.table
    assert table["member"].to_list() == [*range(40)] * 3
    assert table["epoch"].to_list() == [0] * 40 + [1] * 40 + [2] * 40
    one, target = dataset[-1]
    np.testing.assert_array_equal(one, x[-1])
    assert target == y[-1] and target.dtype == np.float32
    batch = dataset[[5, -1, 5]]
    np.testing.assert_array_equal(batch[0], x[[5, -1, 5]])
    assert [a.shape for a, _ in dataset.__getitems__([3, 1])] == [(2464,)] * 2
    assert len(list(dataset)) == 120
    for wrong in (120, -121, [0, 120], Draw(0, 120)):
        with pytest.raises(IndexError, match="the dataset has 120"):
            dataset[wrong]
    for wrong in (1.0, [0.5], "0", None, [True], True, [[0]], [[0], [1, 2]], {}):
        with pytest.raises(IndexError, match=r"give whole numbers|give a list"):
            dataset[wrong]
    np.testing.assert_array_equal(dataset[y > y.mean()][0], x[y > y.mean()])
    np.testing.assert_array_equal(dataset[np.uint8(7)][0], x[7])
    assert dataset[[]][0].shape == (0, 2464) and dataset[5:5][1].shape == (0,)


def test_several_targets_and_columns_of_members(zoo, cache):
    names = ["epoch", "test_acc", "seed", "finite"]
    dataset = WeightDataset(zoo, "tokens", target=names, epochs=[2, 1], cache=cache)
    tokens, targets = dataset[[0, 79]]
    assert tokens.shape == (2, 48, 201)
    np.testing.assert_array_equal(targets[:, [0, 2, 3]], [[1, 1, 1], [2, 40, 1]])
    assert dataset.table.columns == ["zoo", "member", "epoch", "split", *names[1:]]


def test_torch_order_is_that_of_flat_vectors(zoo, cache):
    pytest.importorskip("torch")
    dataset = WeightDataset(zoo, Flat("torch"), epochs=2, cache=cache)
    np.testing.assert_array_equal(dataset[:], zoo.flat(2, "torch"))


def test_tokens_of_units(zoo, cache):
    """Token 8 is the first unit of conv2: its weights, then its bias."""
    dataset = WeightDataset(zoo, "tokens", epochs=1, cache=cache)
    layer, static = zoo.params(1)["conv2"], dataset.static
    values = np.append(layer["kernel"][3, ..., 0].ravel(), layer["bias"][3, 0])
    np.testing.assert_array_equal(dataset[3][8, : len(values)], values)
    assert not dataset[3][8, len(values) :].any()
    assert static["mask"][8].sum() == len(values)
    assert static["positions"][[0, 8, 13, 14, 47]].tolist() == [
        [0, 0, 0],
        [8, 1, 0],
        [13, 1, 5],
        [14, 2, 0],
        [47, 4, 9],
    ]


def test_windows_are_consecutive_tokens_and_cover_the_state(zoo, cache):
    whole = WeightDataset(zoo, Tokens("sane", size=32), epochs=1, cache=cache)
    dataset = WeightDataset(zoo, Tokens("sane", size=32, window=20), epochs=1, cache=cache)
    count, starts = len(whole[0]), set()
    for number in range(60):
        item = dataset[Draw(number, 4)]
        start = item["positions"][0, 0]
        at = slice(start, start + 20)
        np.testing.assert_array_equal(item["tokens"], whole[4][at])
        np.testing.assert_array_equal(item["mask"], whole.static["mask"][at])
        np.testing.assert_array_equal(item["positions"], whole.static["positions"][at])
        starts.add(int(start))
    assert len(starts) > 20 and min(starts) < 20 and max(starts) > count - 40
    long = WeightDataset(zoo, Tokens("sane", size=32, window=count - 1), epochs=1, cache=cache)
    items = [long[Draw(number, 4)] for number in range(20)]
    stacked = {name: np.stack([item[name] for item in items]) for name in items[0]}
    params = long.parameters(stacked)
    for name, leaf in zoo.member(4, 1)["fc1"].items():
        np.testing.assert_array_equal(params["fc1"][name][0], leaf)
    with pytest.raises(ZoojaxError, match="windows do not have token"):
        long.parameters({name: x[:1] for name, x in stacked.items()})


def test_states_without_values_are_left_out(tmp_path, cache):
    zoo = random_zoo(tmp_path / "zoo", members=4, epochs=1, diverged=(2, 1))
    dataset = WeightDataset(zoo, target="test_acc", cache=cache)
    assert len(dataset) == 7 and dataset.left_out == 1
    assert (2, 1) not in list(dataset.table.select("member", "epoch").iter_rows())
    with pytest.raises(ZoojaxError, match="none of the 6 states is finite and has the targets"):
        WeightDataset(zoo[[0, 1, 3]], target="diverged_epoch", cache=cache)


def test_permuted_states_compute_the_same_function(tmp_path_factory, cache):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    dataset = WeightDataset(zoo, "state", epochs=2, permute=True, cache=cache)
    images = np.random.default_rng(0).standard_normal((5, 28, 28, 1)).astype(np.float32)
    module, variables = zoo.module(1)
    permuted = dataset[Draw(3, 1)]
    assert not np.array_equal(permuted["params"]["fc1"]["bias"], variables["params"]["fc1"]["bias"])
    np.testing.assert_allclose(
        module.apply(permuted, images), module.apply(variables, images), rtol=1e-4, atol=1e-5
    )


def test_random_draws_depend_on_seed_pass_and_state_alone(zoo, cache):
    options = {"permute": True, "cache": cache}
    dataset = WeightDataset(zoo, **options)
    batch = dataset[Draw(2, [7, 3, 90])]
    np.testing.assert_array_equal(batch[1], dataset[Draw(2, 3)])
    # Item 90 is member 10 at epoch 2.
    later = WeightDataset(zoo[10:], epochs=2, **options)
    np.testing.assert_array_equal(batch[2], later[Draw(2, 0)])
    for other in (dataset[Draw(1, 3)], WeightDataset(zoo, seed=1, **options)[Draw(2, 3)]):
        assert not np.array_equal(batch[1], other)
    np.testing.assert_array_equal(np.sort(batch[1]), np.sort(zoo.flat(0)[3]))


@pytest.mark.parametrize("normalize", ["layer", "parameter"])
def test_statistics_are_those_of_the_training_states(zoo, cache, normalize):
    train = WeightDataset(zoo, split="train", normalize=normalize, cache=cache)
    test = WeightDataset(zoo, split="test", normalize=normalize, cache=cache)
    raw = WeightDataset(zoo, split="train", cache=cache)[:].astype(np.float64)
    assert train.statistics is not None and test.statistics is not None
    for ours, theirs in zip(train.statistics, test.statistics, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    if normalize == "parameter":
        np.testing.assert_allclose(train.statistics.mean, raw.mean(0), atol=1e-6)
        np.testing.assert_allclose(train.statistics.std, raw.std(0), rtol=1e-5)
    else:
        first = raw[:, :208]  # conv1
        np.testing.assert_allclose(train.statistics.mean[:208], first.mean(), atol=1e-6)
        np.testing.assert_allclose(train.statistics.std[:208], first.std(), rtol=1e-5)
    rows = test.table["member"].to_numpy() + 40 * test.table["epoch"].to_numpy()
    states = np.concatenate([zoo.flat(epoch) for epoch in range(3)])[rows]
    expected = (states - train.statistics.mean) / train.statistics.std
    np.testing.assert_array_equal(test[:], expected)
    back = test.parameters(test[:3])
    np.testing.assert_allclose(
        back["fc1"]["bias"], zoo.unflatten(states[:3])["fc1"]["bias"], atol=1e-5
    )


def test_constant_parameters_are_not_divided_by_zero(tmp_path, cache):
    zoo = random_zoo(tmp_path / "zoo", members=3, epochs=0)
    dataset = WeightDataset(
        zoo[[1]], normalize="parameter", fractions=(1, 0, 0), split="train", cache=cache
    )
    assert dataset.statistics is not None
    assert not dataset[:].any() and (dataset.statistics.std == 1).all()


def test_batches_cover_all_items_in_an_order_of_their_own():
    batches, same = Batches(10, 4, seed=3), Batches(10, 4, seed=3)
    passes = [list(batches) for _ in range(3)]
    for number, draws in enumerate(passes):
        assert [draw.number for draw in draws] == [number] * 3
        assert sorted(np.concatenate([draw.items for draw in draws])) == [*range(10)]
    orders = [tuple(np.concatenate([draw.items for draw in draws])) for draws in passes]
    assert len(set(orders)) == 3
    same.number = 2
    assert [d.items.tolist() for d in same] == [d.items.tolist() for d in passes[2]]
    assert len(Batches(10, 4, drop_last=True)) == 2
    assert [*next(iter(Batches(3, 2, shuffle=False))).items] == [0, 1]
    for arguments in ((0, 4), (3, 0), (3, 4, 0)):
        with pytest.raises(ZoojaxError):
            Batches(*arguments, drop_last=len(arguments) == 3)


def test_pickles_hold_no_arrays(zoo, cache):
    dataset = WeightDataset(
        zoo, "graph", target="test_acc", permute=True, normalize="layer", cache=cache
    )
    _, before = dataset[[0, 1]], dataset.static
    content = pickle.dumps(dataset)
    assert len(content) < 4000 and before
    again = pickle.loads(content)
    for ours, theirs in zip(dataset[Draw(4, [9, 1])], again[Draw(4, [9, 1])], strict=True):
        if isinstance(ours, dict):
            for name in ours:
                np.testing.assert_array_equal(ours[name], theirs[name])
        else:
            np.testing.assert_array_equal(ours, theirs)


def test_removed_and_damaged_files_are_named_and_created_again(zoo, tmp_path):
    cache = tmp_path / "cache"
    dataset = WeightDataset(zoo, cache=cache)
    content = pickle.dumps(dataset)
    shutil.rmtree(cache)
    with pytest.raises(ZoojaxError, match="removed or is damaged; create the WeightDataset again"):
        pickle.loads(content)[0]
    first = WeightDataset(zoo, cache=cache)[0]
    for file in cache.iterdir():
        if file.suffix in (".npy", ".npz"):
            file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(ZoojaxError, match="is damaged"):
        pickle.loads(content)[0]
    np.testing.assert_array_equal(WeightDataset(zoo, cache=cache)[0], first)


def test_changed_states_are_read_again(tmp_path, cache):
    """Files belong to the content of states, not to the path of a zoo."""
    zoo = random_zoo(tmp_path / "zoo", members=2, epochs=0)
    before = WeightDataset(zoo, cache=cache)[0]
    shutil.rmtree(tmp_path / "zoo")
    changed = random_zoo(tmp_path / "zoo", members=2, epochs=1)
    np.testing.assert_array_equal(WeightDataset(changed, epochs=0, cache=cache)[0], before)
    assert not np.array_equal(WeightDataset(changed, epochs=1, cache=cache)[0], before)


def test_views_and_twins_are_data_sets(zoo, twin, cache):
    both = concat([zoo[:2], zoo[5:6]])
    np.testing.assert_array_equal(
        WeightDataset(both, epochs=1, cache=cache)[:], zoo.flat(1)[[0, 1, 5]]
    )
    mixed = WeightDataset([zoo, twin], epochs=0, cache=cache)
    np.testing.assert_array_equal(mixed[[41, 3]], [twin.flat(0)[1], zoo.flat(0)[3]])


def test_parquet_holds_the_items(zoo, cache, tmp_path):
    dataset = WeightDataset(zoo, target="test_acc", split="val", cache=cache)
    file = dataset.to_parquet(tmp_path / "out")
    assert file.name == "val.parquet"
    table = pl.read_parquet(file)
    np.testing.assert_array_equal(table["weights"].to_numpy(), dataset[:][0])
    assert table.drop("weights").equals(dataset.table)
    with pytest.raises(ZoojaxError, match="exists"):
        dataset.to_parquet(tmp_path / "out")
    graph = WeightDataset(zoo, "graph", epochs=1, cache=cache)
    table = pl.read_parquet(graph.to_parquet(tmp_path / "out"))
    np.testing.assert_array_equal(table["edges"].to_numpy(), graph[:]["edges"])
    state = WeightDataset(zoo, "state", epochs=1, split="test", cache=cache)
    table = pl.read_parquet(state.to_parquet(tmp_path / "out"))
    kernel = table["params/conv1/kernel"].to_numpy()
    np.testing.assert_array_equal(kernel, state[:]["params"]["conv1"]["kernel"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view": "images"}, "no view images; there are: state, flat, tokens, graph"),
        ({"view": 3}, "no view 3"),
        ({"view": Flat("keras")}, "no layout keras"),
        ({"view": Tokens(window=99)}, "a window of 99 tokens is longer than the 48 tokens"),
        ({"split": "dev"}, "no split dev"),
        ({"split": "val", "fractions": (1, 0, 0)}, "the split val has none of the 40 members"),
        ({"fractions": (0.5, 0.5)}, "three numbers"),
        ({"fractions": (0.5, 0.6, 0.1)}, "their sum must be 1"),
        ({"fractions": (2, -1, 0)}, "their sum must be 1"),
        ({"fractions": (float("nan"), 0, 1)}, "their sum must be 1"),
        ({"fractions": None}, "three numbers"),
        ({"target": "accuracy"}, "no column accuracy to predict; it has member, epoch"),
        ({"target": "optimizer"}, "targets are numbers"),
        ({"target": 3}, "names of columns"),
        ({"target": []}, "each column once"),
        ({"target": ["epoch", "epoch"]}, "each column once"),
        ({"epochs": 9}, "has no epoch 9"),
        ({"epochs": []}, "empty list"),
        ({"epochs": "1"}, "list of epochs"),
        ({"epochs": [1.5]}, "whole number"),
        ({"seed": -1}, "from 0 to"),
        ({"seed": "a"}, "whole number"),
        ({"normalize": "batch"}, "no normalization batch; there are: layer, parameter"),
        ({"normalize": "layer", "fractions": (0, 0, 1)}, "no training states"),
        ({"cache": 3}, "cache"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(zoo, cache, arguments, message):
    with pytest.raises(ZoojaxError, match=message) as caught:
        WeightDataset(zoo, **{"cache": cache, **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", [{"kind": "word"}, {"size": 0}, {"window": 0}, {"size": 1.5}])
def test_invalid_tokens_are_refused(tokens):
    with pytest.raises(ZoojaxError):
        Tokens(**tokens)


def test_zoos_that_do_not_fit_are_refused(zoo, cache, tmp_path):
    other = random_zoo(tmp_path / "other", "mlp-4", members=2, epochs=2)
    for view in ("flat", "tokens", "graph", "state"):
        with pytest.raises(
            ZoojaxError, match=r"\(small\) and .* \(mlp-4\) have items of different"
        ):
            WeightDataset([zoo, other], view, cache=cache)
    with pytest.raises(ZoojaxError, match="no common statistics"):
        WeightDataset([zoo, other], Tokens("sane", window=3), normalize="layer", cache=cache)
    windows = WeightDataset([zoo, other], Tokens("sane", window=3), epochs=0, cache=cache)
    assert windows[[0, 41]]["tokens"].shape == (2, 3, 64)
    several: Any = ([], None, 3, [3])
    for wrong in several:
        with pytest.raises(ZoojaxError):
            WeightDataset(wrong, cache=cache)
    dataset = WeightDataset(zoo, cache=cache)
    with pytest.raises(ZoojaxError, match="not items of the view flat"):
        dataset.parameters("weights")
    with pytest.raises(ZoojaxError, match="there is no zoo 1"):
        dataset.parameters(dataset[:1], zoo=1)


def test_a_module_without_description_has_no_graph(tmp_path, cache, monkeypatch):
    import flax.linen as nn

    from zoojax import register_architecture
    from zoojax.architectures import LinenArchitecture, registry

    class Net(nn.Module):
        classes: int

        @nn.compact
        def __call__(self, images):
            hidden = nn.Dense(4)(images.reshape(len(images), -1))
            return nn.Dense(self.classes)(nn.tanh(hidden))

    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register_architecture("net", lambda c, n: LinenArchitecture("net", 8, c, n, Net(n)))
    zoo = random_zoo(tmp_path / "zoo", "net", members=2, epochs=0)
    with pytest.raises(ZoojaxError, match="net does not describe the hidden units between its"):
        WeightDataset(zoo, "graph", cache=cache)
    tokens = WeightDataset(zoo, "tokens", permute=True, cache=cache)
    np.testing.assert_array_equal(
        tokens.parameters(tokens[:])["Dense_1"]["bias"], zoo.params(0)["Dense_1"]["bias"]
    )
