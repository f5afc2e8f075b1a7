"""Making zoos: grids, twins, and what is refused."""

import functools
import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import (
    DataSpec,
    Grid,
    Zoo,
    ZoojaxError,
    open_zoo,
    prune_zoo,
    train_variational_dropout,
    train_zoo,
)
from zoojax.api.dense import initial_params
from zoojax.presets import PRESETS
from zoojax.runtime import population

TWIN: dict[str, Any] = {"epochs": 1, "chunk": zoo_fixtures.CHUNK}


@pytest.fixture
def dense(tmp_path_factory) -> Zoo:
    return zoo_fixtures.dense(tmp_path_factory)


def test_fixed_seeds_are_the_same_in_every_cell():
    grid = Grid(("tanh", "relu"), optimizers=("adam", "sgd"), dropouts=(0.0, 0.5), seeds=3)
    table = grid.members(first_seed=5)
    assert table.columns == [
        *("id", "seed", "activation", "dropout", "init", "optimizer"),
        *("learning_rate", "weight_decay"),
    ]
    assert table["id"].to_list() == list(range(24))
    assert table["seed"].to_list() == [5, 6, 7] * 8
    cells = table.select("activation", "dropout", "optimizer").rows()
    assert Counter(cells) == dict.fromkeys(
        itertools.product(("tanh", "relu"), (0.0, 0.5), ("adam", "sgd")), 3
    )


def test_fresh_seeds_are_all_distinct():
    table = Grid(("tanh", "relu"), seeds=3, fresh_seeds=True).members(first_seed=5)
    assert table["seed"].to_list() == list(range(5, 11))


@pytest.mark.parametrize(("name", "count"), [("mnist-s-fixed", 2560), ("cifar10-l-fixed", 1280)])
def test_grids_of_the_paper(name, count):
    table = PRESETS[name].grid.members()
    assert len(table) == count
    cells = table.group_by(*table.columns[2:]).agg("seed")
    assert len(cells) == count // 10
    assert {tuple(seeds) for seeds in cells["seed"]} == {tuple(range(1, 11))}
    random = PRESETS[name.replace("fixed", "random")].grid.members()
    assert random["seed"].n_unique() == count
    assert random.drop("seed").equals(table.drop("seed"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"activations": ("tan",)}, "no activation named 'tan'"),
        ({"inits": ("zeros",)}, "no initialization named 'zeros'"),
        ({"optimizers": ("lion",)}, "no optimiser named 'lion'"),
        ({"seeds": 0}, "0 members"),
        ({"seeds": -1}, "-1 members"),
        ({"learning_rates": (1e-3, 0.0)}, "learning rate 0"),
        ({"learning_rates": (-1.0,)}, "learning rate -1"),
        ({"learning_rates": (float("nan"),)}, "learning rate nan"),
        ({"learning_rates": (float("inf"),)}, "learning rate inf"),
        ({"weight_decays": (-1e-3,)}, "weight decay -0.001"),
        ({"weight_decays": (float("nan"),)}, "weight decay nan"),
        ({"dropouts": (1.0,)}, "dropout rate 1"),
        ({"dropouts": (-0.5,)}, "dropout rate -0.5"),
        ({"dropouts": (float("nan"),)}, "dropout rate nan"),
    ],
)
def test_grids_that_cannot_be(options, named):
    with pytest.raises(ZoojaxError, match=named):
        Grid(**options)


@pytest.mark.parametrize("field", ["activations", "inits", "optimizers", "learning_rates"])
def test_a_grid_of_nothing_is_refused(field):
    """Rather than a zoo without members."""
    with pytest.raises(ZoojaxError):
        replace(Grid(), **{field: ()}).members()


def test_seeds_out_of_range():
    assert Grid(seeds=2).members(2**32 - 2)["seed"].to_list() == [2**32 - 2, 2**32 - 1]
    for first in (-1, 2**32 - 1):
        with pytest.raises(ZoojaxError, match=f"seeds {first} to {first + 1}"):
            Grid(seeds=2).members(first)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": -1}, "-1 epochs"),
        ({"batch_size": 0}, "batch size 0"),
        ({"data_order": "random"}, "no data order named 'random'"),
        ({"chunk": 0}, "chunk 0"),
        ({"first_seed": -1}, "seeds -1"),
    ],
)
def test_training_that_cannot_be(tmp_path_factory, tmp_path, options, named):
    """Nothing is created."""
    with pytest.raises(ZoojaxError, match=named):
        zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", **options)
    assert not list(tmp_path.iterdir())


def test_unknown_architecture_and_images(tmp_path):
    with pytest.raises(ZoojaxError, match="no architecture named 'huge'"):
        train_zoo(tmp_path / "a", "x", Grid(), "huge", DataSpec("digits"), epochs=0)
    with pytest.raises(ZoojaxError, match=r"'digit'.*'digits'"):
        train_zoo(tmp_path / "b", "x", Grid(), "small", DataSpec("digit"), epochs=0)
    assert not list(tmp_path.iterdir())


def test_images_of_another_size_than_the_architecture_takes(tmp_path_factory, tmp_path):
    spec = replace(zoo_fixtures.spec(tmp_path_factory), size=32)
    with pytest.raises(ZoojaxError, match=r"28|32"):
        train_zoo(tmp_path / "a", "x", Grid(), "small", spec, epochs=0, chunk=1)


def test_no_epochs_save_the_untrained(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", epochs=0)
    assert zoo.epochs == [0]
    expected = initial_params(zoo.config.shape, ["kaiming_uniform"] * 3, [1, 2, 3])
    assert zoo_fixtures.same_bits(zoo.params(), expected)
    assert zoo_fixtures.same_bits(zoo.params(), zoo_fixtures.dense(tmp_path_factory).params(0))


def check_grid(tmp_path_factory, tmp_path, grid: Grid, alone: list[int]):
    """A grid zoo and its twins; members `alone` are trained in zoos of their own too."""
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "grid", grid, epochs=1)
    count = len(zoo)
    assert count == grid.combinations * grid.seeds
    pruned = prune_zoo(tmp_path / "mp", zoo, [0.5], **TWIN)
    dropped = train_variational_dropout(tmp_path / "vd", zoo, **TWIN)
    for each in (zoo, pruned, dropped):
        assert each.epochs == [0, 1]
        assert each.metrics["member"].to_list() == list(range(count)) * 2
        assert {len(leaf) for leaf in jax.tree.leaves(each.state())} == {count}
        assert each.metrics["finite"].all()
    initial = initial_params(
        zoo.config.shape, zoo.members_table["init"].to_list(), zoo.members_table["seed"].to_list()
    )
    assert zoo_fixtures.same_bits(zoo.params(0), initial)
    assert zoo_fixtures.same_bits(dropped.params(0), zoo.params(1))
    for row in zoo.members_table.filter(zoo.members_table["id"].is_in(alone)).iter_rows(named=True):
        grid = Grid(
            (row["activation"],),
            (row["init"],),
            (row["optimizer"],),
            (row["learning_rate"],),
            (row["weight_decay"],),
            (row["dropout"],),
        )
        own = tmp_path / f"own-{row['id']}"
        member = zoo_fixtures.train(tmp_path_factory, own, grid, first_seed=row["seed"], epochs=1)
        twins = (
            (zoo, member),
            (pruned, prune_zoo(own.with_name(f"{own.name}-mp"), member, [0.5], **TWIN)),
            (dropped, train_variational_dropout(own.with_name(f"{own.name}-vd"), member, **TWIN)),
        )
        for together, single in twins:
            state = population.take(together.state(), np.array([row["id"]]))
            assert zoo_fixtures.same_bits(single.state(), state)
            moments = population.take(
                together.optimizer_state()[row["optimizer"]], np.array([row["id"]])
            )
            assert zoo_fixtures.same_bits(single.optimizer_state(), {row["optimizer"]: moments})
            mine = together.metrics.filter(member=row["id"]).drop("member")
            assert zoo_fixtures.same_bits(
                zoo_fixtures.bits(single.metrics.drop("member")), zoo_fixtures.bits(mine)
            )


GRID = Grid(
    inits=("uniform", "kaiming_uniform"),
    optimizers=("adam", "sgd"),
    learning_rates=(1e-2,),
    weight_decays=(1e-3,),
)


def test_a_grid_of_several_programs_is_one_zoo(tmp_path_factory, tmp_path):
    """Optimisers interleaved in the table, so that positions are not those of a program."""
    assert GRID.members()["optimizer"].to_list() == ["adam", "sgd"] * 2
    check_grid(tmp_path_factory, tmp_path, GRID, alone=[3])


@pytest.mark.slow
def test_a_grid_of_everything_is_one_zoo(tmp_path_factory, tmp_path):
    """16 programs a kind."""
    activations = ("tanh", "relu", "sigmoid", "gelu")
    grid = replace(GRID, activations=activations, dropouts=(0.0, 0.5), seeds=2)
    check_grid(tmp_path_factory, tmp_path, grid, alone=[0, 13, 22, 31, 47, 63])


def test_a_pruned_twin(tmp_path_factory, dense):
    """Ratio 0 included: it prunes nothing, epoch 0 is the parent."""
    twin = zoo_fixtures.pruned(tmp_path_factory)
    assert twin.members_table["ratio"].to_list() == [0.0, 0.5, 0.9] * 3
    assert twin.members_table["seed"].to_list() == sorted([1, 2, 3] * 3)
    parent = population.take(dense.params(), np.repeat(np.arange(3), 3))
    sizes = 2416
    for epoch in twin.epochs:
        state = twin.state(epoch)
        assert zoo_fixtures.same_bits(state["mask"], twin.state(0)["mask"])
        kept = np.zeros(9, int)
        for layer, mask in state["mask"].items():
            kernel = state["params"][layer]["kernel"]
            assert (kernel[~mask] == 0).all()
            assert (kernel[mask] != 0).all()
            kept += mask.reshape(9, -1).sum(1)
            if epoch == 0:
                np.testing.assert_array_equal(kernel, np.where(mask, parent[layer]["kernel"], 0.0))
                assert zoo_fixtures.same_bits(state["params"][layer]["bias"], parent[layer]["bias"])
        pruned = [0, round(0.5 * sizes), round(0.9 * sizes)] * 3
        assert (sizes - kept).tolist() == pruned
        sparsity = twin.metrics.filter(epoch=epoch)["sparsity"].to_numpy()
        np.testing.assert_allclose(sparsity, np.array(pruned) / sizes, rtol=1e-6)
    layers = [k.reshape(9, -1) for k in (np.abs(parent[x]["kernel"]) for x in sorted(parent))]
    masks = [twin.state(0)["mask"][x].reshape(9, -1) for x in sorted(parent)]
    magnitudes, kept = np.concatenate(layers, 1), np.concatenate(masks, 1)
    for i in range(9):
        if not kept[i].all():
            assert magnitudes[i][~kept[i]].max() <= magnitudes[i][kept[i]].min()


def test_layers_pruned_by_themselves(dense, tmp_path):
    twin = prune_zoo(
        tmp_path / "mp", dense, [0.5], scope="layer", epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert twin.config.scope == "layer"
    for column in twin.metrics.select("^sparsity.*$"):
        assert column.to_list() == [0.5] * 3


def test_a_dropped_out_twin(tmp_path_factory, dense):
    """Starts as its parent with all log sigma squared at -10."""
    twin = zoo_fixtures.dropped_out(tmp_path_factory)
    state = twin.state(0)
    assert zoo_fixtures.same_bits(state["params"], dense.params())
    variational = {k: sorted(v) for k, v in state["log_sigma2"].items()}
    conv, fc = ["bias", "kernel"], ["kernel"]
    assert variational == {"conv1": conv, "conv2": conv, "conv3": conv, "fc1": fc, "fc2": fc}
    for layer, leaves in state["log_sigma2"].items():
        for name, leaf in leaves.items():
            assert leaf.shape == state["params"][layer][name].shape
            assert (leaf == -10).all()
    assert not zoo_fixtures.same_bits(twin.state(2)["log_sigma2"], state["log_sigma2"])
    assert twin.config.variant == "released"


def test_the_corrected_variant_has_no_variational_bias(dense, tmp_path):
    twin = train_variational_dropout(
        tmp_path / "vd", dense, variant="corrected", epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert {tuple(v) for v in twin.state()["log_sigma2"].values()} == {("kernel",)}


def test_twins_learn_at_their_own_rate_or_another(dense, tmp_path):
    for make in (train_variational_dropout, lambda out, zoo, **o: prune_zoo(out, zoo, [0.5], **o)):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        own = make(out, dense, epochs=0, chunk=zoo_fixtures.CHUNK)
        assert own.members_table["learning_rate"].to_list() == [1e-2] * 3
        other = make(out.with_name(f"{out.name}-b"), dense, learning_rate=5e-6, epochs=0, chunk=4)
        assert other.members_table["learning_rate"].to_list() == [5e-6] * 3
        for rate in (0.0, -1.0, float("nan")):
            with pytest.raises(ZoojaxError, match="learning rate"):
                make(tmp_path / "c", dense, learning_rate=rate)


def test_a_twin_of_another_epoch(dense, tmp_path):
    twin = train_variational_dropout(
        tmp_path / "vd", dense, epoch=1, epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert twin.config.parent is not None
    assert twin.config.parent.epoch == 1
    assert zoo_fixtures.same_bits(twin.params(), dense.params(1))
    with pytest.raises(ZoojaxError, match="no epoch 9"):
        train_variational_dropout(tmp_path / "other", dense, epoch=9)


def test_twins_of_the_first_members_alone(tmp_path_factory, dense, tmp_path):
    """Each as it is among all."""
    prune = functools.partial(prune_zoo, ratios=[0.0, 0.5, 0.9])
    for make, whole, rows in (
        (train_variational_dropout, zoo_fixtures.dropped_out(tmp_path_factory), 2),
        (prune, zoo_fixtures.pruned(tmp_path_factory), 6),
    ):
        twin = make(
            tmp_path / whole.config.kind, dense, members=2, epochs=1, chunk=zoo_fixtures.CHUNK
        )
        assert twin.members_table["parent_id"].unique().to_list() == [0, 1]
        assert zoo_fixtures.same_bits(twin.state(1), population.take(whole.state(1), np.s_[:rows]))
        for members in (0, 4):
            with pytest.raises(ZoojaxError, match=f"{members} members asked for; .* has 3"):
                make(tmp_path / "other", dense, members=members)


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_a_twin_of_a_twin_is_refused(tmp_path_factory, tmp_path, kind):
    twin = zoo_fixtures.KINDS[kind](tmp_path_factory)
    with pytest.raises(ZoojaxError, match=f"{twin.path} is itself a twin"):
        prune_zoo(tmp_path / "a", twin, [0.5])
    with pytest.raises(ZoojaxError, match=f"{twin.path} is itself a twin"):
        train_variational_dropout(tmp_path / "b", twin)
    assert not list(tmp_path.iterdir())


def test_an_unfinished_parent_is_refused_unless_an_epoch_is_named(dense, tmp_path):
    path = zoo_fixtures.copied(dense, tmp_path / "dense")
    file = path / "zoo.json"
    file.write_text(file.read_text().replace('"epochs": 2', '"epochs": 3'))
    parent = open_zoo(path)
    assert parent.config.epochs == 3
    for make in (train_variational_dropout, lambda out, zoo, **o: prune_zoo(out, zoo, [0.5], **o)):
        with pytest.raises(ZoojaxError, match=r"epoch 2 of 3.*--epoch 2"):
            make(tmp_path / "twin", parent, **TWIN)
    assert not (tmp_path / "twin").exists()
    twin = train_variational_dropout(
        tmp_path / "twin", parent, epoch=2, epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert zoo_fixtures.same_bits(twin.params(), dense.params(2))


def test_other_images_than_the_parents_are_refused(dense, tmp_path_factory, tmp_path):
    """At the same path: recognised by their hash."""
    path = zoo_fixtures.copied(dense, tmp_path / "dense")
    file, name = path / "zoo.json", str(zoo_fixtures.images(tmp_path_factory))
    file.write_text(
        file.read_text().replace(name, str(zoo_fixtures.other_images(tmp_path_factory)))
    )
    with pytest.raises(ZoojaxError, match=r"other\.npz holds other images"):
        prune_zoo(tmp_path / "mp", open_zoo(path), [0.5], **TWIN)
    with pytest.raises(ZoojaxError, match=r"other\.npz holds other images"):
        train_variational_dropout(tmp_path / "vd", open_zoo(path), **TWIN)


@pytest.mark.parametrize(
    ("ratios", "options", "named"),
    [
        ([], {}, "ratios"),
        ([0.5, 0.5], {}, "each once"),
        ([0.5, 1.0], {}, "pruning ratio 1 "),
        ([-0.1], {}, "pruning ratio -0.1"),
        ([float("nan")], {}, "pruning ratio nan"),
        ([0.5], {"scope": "channel"}, "no pruning scope named 'channel'"),
        ([0.5], {"epochs": -1}, "-1 epochs"),
        ([0.5], {"chunk": 0}, "chunk 0"),
    ],
)
def test_pruning_that_cannot_be(dense, tmp_path, ratios, options, named):
    with pytest.raises(ZoojaxError, match=named):
        prune_zoo(tmp_path / "mp", dense, ratios, **options)
    assert not list(tmp_path.iterdir())


def test_a_variant_that_cannot_be(dense, tmp_path):
    with pytest.raises(ZoojaxError, match="no variant named 'improved'"):
        train_variational_dropout(tmp_path / "vd", dense, variant="improved")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"epochs": 3}, "epochs 2, not 3"),
        ({"chunk": 1}, "chunk 4, not 1"),
        ({"batch_size": 5}, "batch_size 10, not 5"),
        ({"data_order": "shared"}, "data_order"),
        ({"first_seed": 2}, "other members"),
        ({"grid": replace(zoo_fixtures.GRID, seeds=4)}, "3, not 4"),
    ],
)
def test_other_options_on_a_begun_zoo(dense, tmp_path_factory, options, named):
    before = zoo_fixtures.contents(dense.path)
    with pytest.raises(ZoojaxError, match=named):
        zoo_fixtures.train(tmp_path_factory, dense.path, **options)
    assert zoo_fixtures.contents(dense.path) == before


def test_progress_counts_every_member_and_image_once(tmp_path_factory, tmp_path):
    """From where the run begins to the end."""
    seen = []
    zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", report=seen.append)
    total = 3 * 65 * 2
    assert [(p.epoch, p.epochs, p.done, p.total) for p in seen] == [
        (0, 2, 0, total),
        (1, 2, total // 2, total),
        (2, 2, total, total),
    ]
