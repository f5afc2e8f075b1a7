"""Optional columns of the members table: zoos that do not need them are the same as before."""

import pytest

from zoojax import Grid
from zoojax.hyperparameters.grid import OPTIONAL
from zoojax.hyperparameters.tables import with_defaults, without_defaults
from zoojax.presets import PRESETS
from zoojax.storage.zoo_config import ZooConfig, fingerprint

CONFIG = ZooConfig("any", "small", 1, 10, None, None, 3, 10, "member", 4)
GRID = Grid(
    activations=("tanh", "relu"),
    optimizers=("adam", "sgd"),
    learning_rates=(1e-3, 3e-4),
    weight_decays=(0.0, 1e-3),
    dropouts=(0.0, 0.5),
    seeds=2,
)
# Of the version that knew neither momentum nor schedules.
FINGERPRINTS = [
    (GRID, "d4582300cd562d3d2fa53f69c9556d9df2b0f5d8e83dc9cdf84bc1574b2cda96"),
    (
        PRESETS["usps-s-fixed"].grid,
        "d370324be5c01f559f21b24cce499a6d47d2c61fb247f26ea62d524557a916c0",
    ),
]
OTHERS = {
    "momentum": {"optimizers": ("sgd",), "momenta": (0.5,)},
    "schedule": {"schedules": ("cosine",)},
    "warmup": {"warmups": (0.1,)},
    "step_factor": {"schedules": ("step",), "step_factors": (0.5,)},
    "step_interval": {"schedules": ("step",), "step_intervals": (3,)},
    "batch_size": {"batch_sizes": (64,)},
    "init_std": {"inits": ("normal",), "init_stds": (0.05,)},
    "train_fraction": {"train_fractions": (0.5,)},
    "augmentation": {"augmentations": ("flip",)},
}


@pytest.mark.parametrize(("grid", "expected"), FINGERPRINTS, ids=["grid", "preset"])
def test_fingerprints_are_those_of_earlier_versions(grid, expected):
    assert fingerprint(CONFIG, grid.members()) == expected


def test_columns_exist_only_if_a_member_differs_from_the_default():
    assert OTHERS.keys() == {each.name for each in OPTIONAL}
    plain = {each.name for each in OPTIONAL} & set(GRID.members().columns)
    assert plain == set()
    fingerprints = {fingerprint(CONFIG, Grid().members())}
    for name, options in OTHERS.items():
        table = Grid(**options).members()
        assert name in table.columns
        fingerprints.add(fingerprint(CONFIG, table))
        assert without_defaults(with_defaults(table)).equals(table)
    assert len(fingerprints) == 1 + len(OTHERS)
