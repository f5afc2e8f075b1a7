"""Hyperparameter grids: members, seeds and invalid values."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest

from zoojax import Grid, ZoojaxError
from zoojax.presets import PRESETS


def test_same_seeds_in_every_cell():
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


def test_fresh_seeds_are_distinct():
    table = Grid(("tanh", "relu"), seeds=3, fresh_seeds=True).members(first_seed=5)
    assert table["seed"].to_list() == list(range(5, 11))


@pytest.mark.parametrize(("name", "count"), [("mnist-s-fixed", 2560), ("cifar10-l-fixed", 1280)])
def test_paper_grids(name, count):
    table = PRESETS[name].grid.members()
    assert len(table) == count
    cells = table.group_by(*table.columns[2:]).agg("seed")
    assert len(cells) == count // 10
    assert {tuple(seeds) for seeds in cells["seed"]} == {tuple(range(1, 11))}
    random = PRESETS[name.replace("fixed", "random")].grid.members()
    assert random["seed"].n_unique() == count
    assert random.drop("seed").equals(table.drop("seed"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activations": ("tan",)}, "no activation named 'tan'"),
        ({"inits": ("zeros",)}, "no initialization named 'zeros'"),
        ({"optimizers": ("lion",)}, "no optimizer named 'lion'"),
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
def test_invalid_grid(options, message):
    with pytest.raises(ZoojaxError, match=message):
        Grid(**options)


@pytest.mark.parametrize("field", ["activations", "inits", "optimizers", "learning_rates"])
def test_grid_without_members(field):
    with pytest.raises(ZoojaxError):
        replace(Grid(), **{field: ()}).members()


def test_seeds_out_of_range():
    assert Grid(seeds=2).members(2**32 - 2)["seed"].to_list() == [2**32 - 2, 2**32 - 1]
    for first in (-1, 2**32 - 1):
        with pytest.raises(ZoojaxError, match=f"seeds {first} to {first + 1}"):
            Grid(seeds=2).members(first)
