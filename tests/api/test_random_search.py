"""Zoos whose members draw their hyperparameters, and those that only some members need."""

import collections

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoojax
from tests.support import zoo_fixtures
from tests.support.torch_models import assert_trees_close
from zoojax import Choice, Grid, LogUniform, Uniform, ZoojaxError, functional, keys
from zoojax.api.untrained import initial_variables
from zoojax.presets import PRESETS, difference
from zoojax.storage.zoo_images import load_images

SEARCH = Grid(
    activations=Choice(("relu", "tanh")),
    inits=Choice(("kaiming_uniform", "normal")),
    optimizers=Choice(("adam", "sgd")),
    learning_rates=LogUniform(1e-4, 1e-2),
    dropouts=Uniform(0.0, 0.5),
    momenta=Uniform(0.1, 0.6),
    init_stds=LogUniform(0.01, 0.1),
    seeds=400,
)


def test_draws_follow_their_distributions():
    table = SEARCH.members()
    assert SEARCH.combinations == 1 and len(table) == 400
    logs = np.log10(table["learning_rate"].to_numpy())
    for values, low, high in ((logs, -4, -2), (table["dropout"].to_numpy(), 0, 0.5)):
        assert low <= values.min() and values.max() <= high
        counts, _ = np.histogram(values, bins=4, range=(low, high))
        assert counts.min() > 70  # 100 expected; 70 is 3.5 standard deviations below
    for name in ("activation", "optimizer", "init"):
        assert min(collections.Counter(table[name]).values()) > 160
    correlation = np.corrcoef(logs, table["dropout"].to_numpy())[0, 1]
    assert abs(correlation) < 0.2


def test_unused_numbers_keep_their_default():
    table = SEARCH.members()
    unused = table.filter(optimizer="adam")["momentum"]
    assert (unused == 0.9).all()
    drawn = table.filter(optimizer="sgd")["momentum"]
    assert drawn.is_between(0.1, 0.6).all() and drawn.n_unique() == len(drawn)
    assert (table.filter(init="kaiming_uniform")["init_std"] == 1.0).all()
    assert table.filter(init="normal")["init_std"].is_between(0.01, 0.1).all()


def test_a_draw_depends_on_seed_and_name_alone():
    """More members, other ones in front, or another combination do not change it."""
    few = Grid(dropouts=Uniform(0, 0.5), seeds=3).members(first_seed=5)
    drawn = Uniform(0, 0.5)
    many = Grid(
        dropouts=drawn, weight_decays=drawn, activations=("tanh", "relu"), seeds=20
    ).members()
    for seed, dropout in few.select("seed", "dropout").iter_rows():
        assert many.filter(seed=seed)["dropout"].to_list() == [dropout, dropout]
    assert (many["dropout"] != many["weight_decay"]).all()
    assert Uniform(0, 1).draw("dropout", 7) == pytest.approx(0.44354522)  # As in earlier versions.


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e6), st.floats(0, 1))
def test_log_uniform_quantiles(low, ratio, fraction):
    high = low * ratio
    value = LogUniform(low, high).at(fraction)
    assert low <= value <= high
    expected = np.log(low) + fraction * np.log(ratio)
    np.testing.assert_allclose(np.log(value), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rates": LogUniform(1e-4, 1e-2), "seeds": 0}, "0 members requested"),
        ({"dropouts": Uniform(0.0, 1.5)}, "dropout rate 1.5 is not in [0, 1)"),
        ({"activations": Uniform(0.0, 1.5)}, "activation takes no range; give Choice"),
        ({"batch_sizes": Uniform(1, 9)}, "batch size takes no range; give Choice"),
        ({"activations": Choice(("relu", "rely"))}, "no activation named 'rely'"),
        ({"momenta": Uniform(0, 0.5)}, "momentum has no effect here; it is used with optimizer"),
        (
            {"optimizers": Choice(("adam",)), "momenta": (0.5,)},
            "momentum has no effect here; it is used with optimizer",
        ),
        ({"train_fractions": (0.0,)}, "fraction of training images 0 is not above 0 and at most"),
        ({"train_fractions": (1.5,)}, "fraction of training images 1.5 is not above 0 and at"),
        ({"init_stds": (0.1,)}, "standard deviation of initial weights has no effect here"),
    ],
)
def test_invalid_grids(arguments, message):
    with pytest.raises(ZoojaxError) as caught:
        Grid(**arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(1, 1), "the bounds 1 and 1 are not ascending"),
        (lambda: Uniform("a", 1), "a bound is 'a'; give a number"),  # type: ignore[arg-type]
        (lambda: LogUniform(0, 1), "the bound 0 is not positive"),
        (lambda: Uniform(0, float("inf")), "a bound is inf; give a number"),
        (lambda: Choice(()), "there are no values to choose from"),
        (lambda: Choice("relu"), "choices are relu; give a tuple"),  # type: ignore[arg-type]
    ],
)
def test_invalid_distributions(make, message):
    with pytest.raises(ZoojaxError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_search_zoo_and_its_twin(tmp_path_factory, tmp_path):
    options = {
        "learning_rate": LogUniform(1e-3, 1e-2),
        "train_fraction": Choice((0.25, 1.0)),
        "members": 4,
        "epochs": 1,
    }
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", Grid(), **options)
    assert zoo.members_table["learning_rate"].n_unique() == 4
    assert set(zoo.members_table["train_fraction"]) == {0.25, 1.0}
    again = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", Grid(), **options)
    assert again.fingerprint == zoo.fingerprint
    twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
    assert twin.members_table["train_fraction"].equals(zoo.members_table["train_fraction"])


@pytest.mark.parametrize("order", ["member", "shared"])
def test_fraction_of_the_training_images(tmp_path_factory, tmp_path, order):
    """A member of a quarter of the images is trained as on these images alone."""
    zoo = zoo_fixtures.train(
        *(tmp_path_factory, tmp_path / "zoo", zoo_fixtures.GRID),
        **{"members": 1, "epochs": 2, "train_fraction": (0.25, 1.0), "data_order": order},
    )
    part = load_images(zoo, None).train
    seed = 1 if order == "member" else 0
    count = len(part.labels)
    orders = [np.asarray(keys.training_order(seed, epoch, count, 0.25)) for epoch in (1, 2)]
    assert len(orders[0]) == count // 4 and set(orders[0]) == set(orders[1])
    assert orders[0].tolist() != orders[1].tolist()
    # The other images do not matter.
    images = np.full_like(part.images, np.nan)
    images[orders[0]] = part.images[orders[0]]
    if order == "member":
        member = functional.init("small", 1, init="kaiming_uniform")
        rate, metrics = zoo_fixtures.LEARNING_RATE, {}
        for _ in range(2):
            member, metrics = jax.jit(
                lambda m: functional.train_epoch(m, images, part.labels, rate, train_fraction=0.25)
            )(member)
        assert_trees_close(member.params, zoo.member(0), rtol=0, atol=1e-5)
        assert np.isfinite(metrics["train_loss"])
    assert np.abs(zoo.member(0)["fc2"]["bias"] - zoo.member(1)["fc2"]["bias"]).max() > 1e-4


def test_standard_deviation_of_initial_weights(tmp_path_factory, tmp_path):
    grid = Grid(inits=("normal", "orthogonal"), init_stds=(0.5, 0.05))
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", grid, epochs=0)
    assert zoo.members_table.select("init", "init_std").rows() == [
        ("normal", 0.5),
        ("normal", 0.05),
        ("orthogonal", 1.0),
    ]
    shape = zoo.config.shape
    for row, (init, std) in enumerate([("normal", 0.5), ("normal", 0.05), ("orthogonal", 1.0)]):
        plain = initial_variables(shape, [init], [1])["params"]
        for layer, leaves in plain.items():
            scaled = zoo.member(row)[layer]
            expected = np.float32(std) * leaves["kernel"][0]
            np.testing.assert_array_equal(scaled["kernel"], expected)
            np.testing.assert_array_equal(scaled["bias"], leaves["bias"][0])
    member = functional.init("small", 1, init="normal", init_std=0.05)
    assert_trees_close(member.params, zoo.member(1), rtol=1e-6, atol=0)
    with pytest.raises(ZoojaxError, match="init_std has no effect with initialization orthogonal"):
        functional.init("small", 1, init="orthogonal", init_std=0.05)


def test_a_preset_with_draws_is_recognized():
    preset = PRESETS["mnist-gap-search"]
    table = Grid(**{**vars(preset.grid), "seeds": 5}).members(first_seed=3)

    class Stub:
        members_table = table
        config = zoojax.storage.zoo_config.ZooConfig(
            *("any", preset.architecture, 1, 10, preset.data, "0" * 64, preset.epochs),
            *(preset.batch_size, preset.data_order, 4, "mnist-gap-search"),
        )

    assert difference(Stub()) is None  # type: ignore[arg-type]
    Stub.members_table = table.with_columns(pl.lit(1e-3).alias("learning_rate"))
    assert "hyperparameters" in (difference(Stub()) or "")  # type: ignore[arg-type]
