"""Zoos whose members differ in optimizer, momentum and schedule; resume and twins."""

import shutil

import jax
import numpy as np
import pytest

import zoojax
from tests.support import zoo_fixtures
from tests.support.torch_models import assert_trees_close
from zoojax import Grid, ZoojaxError, functional, open_zoo
from zoojax.hyperparameters.grid import HYPERPARAMETERS
from zoojax.storage.zoo_images import load_images

EPOCHS = 3
GRID = Grid(
    inits=("kaiming_uniform",),
    optimizers=("rmsprop", "nesterov"),
    learning_rates=(3e-3,),
    momenta=(0.5, 0.8),
    schedules=("one_cycle",),
    warmups=(0.2,),
)
EXTRA = ["momentum", "schedule", "warmup"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Three members in two programs, trained for three epochs."""
    out = tmp_path_factory.mktemp("schedules") / "zoo"
    return zoo_fixtures.train(tmp_path_factory, out, GRID, epochs=EPOCHS)


def test_members_table(zoo):
    rows = zoo.members_table.select("optimizer", *EXTRA).rows()
    assert rows == [
        ("rmsprop", 0.9, "one_cycle", 0.2),
        ("nesterov", 0.5, "one_cycle", 0.2),
        ("nesterov", 0.8, "one_cycle", 0.2),
    ]
    assert sorted(zoo.optimizer_state()) == ["nesterov", "rmsprop"]


def test_resume_from_the_middle_gives_the_same_bits(tmp_path_factory, tmp_path, zoo):
    copy = zoo_fixtures.copied(zoo, tmp_path / "zoo")
    shutil.rmtree(copy / "states" / "3")
    assert open_zoo(copy).epochs == [0, 1, 2]
    resumed = zoo_fixtures.train(tmp_path_factory, copy, GRID, epochs=EPOCHS)
    zoo_fixtures.assert_same_zoo(resumed, zoo)


def test_functions_of_one_member_train_like_a_zoo(tmp_path_factory, zoo):
    part = load_images(zoo, None).train

    @jax.jit
    def train(momentum):
        options = {"momentum": momentum, "schedule": "one_cycle", "epochs": EPOCHS, "warmup": 0.2}
        member = functional.init("small", 1, init="kaiming_uniform", optimizer="nesterov")
        for _ in range(2):
            member, _ = functional.train_epoch(member, part.images, part.labels, 3e-3, **options)
        return member.params

    assert_trees_close(train(0.5), zoo.member(1, 2), rtol=0, atol=1e-5)
    difference = np.abs(zoo.member(1, 2)["fc2"]["bias"] - zoo.member(2, 2)["fc2"]["bias"])
    assert difference.max() > 1e-4


def test_members_with_other_batch_sizes(tmp_path_factory, tmp_path):
    """Each size is a program; the member with the zoo's own size is as in a zoo without others."""
    zoo = zoo_fixtures.train(
        tmp_path_factory, tmp_path / "zoo", zoo_fixtures.GRID, members=1, batch_size=(10, 33)
    )
    assert zoo.members_table["batch_size"].to_list() == [10, 33]
    dense = zoo_fixtures.dense(tmp_path_factory)
    assert_trees_close(zoo.member(0), dense.member(0), rtol=0, atol=1e-5)
    assert np.abs(zoo.member(1)["fc2"]["bias"] - dense.member(0)["fc2"]["bias"]).max() > 1e-3
    one = zoojax.train_zoo("digits-s-seed", members=1, epochs=0, batch_size=(33,), quiet=True)
    assert one.config.batch_size == 33 and "batch_size" not in one.members_table.columns
    twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
    assert twin.members_table["batch_size"].to_list() == [10, 33]


def test_twins_have_a_constant_learning_rate(zoo):
    """They keep the optimizer and its momentum."""
    twin = zoojax.sparsify(zoo, zoojax.MagnitudePruning((0.5,)), epochs=0, quiet=True)
    assert twin.members_table["momentum"].to_list() == [0.9, 0.5, 0.8]
    assert not {"schedule", "warmup"} & set(twin.members_table.columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lion"}, "no optimizer named 'lion'; there are: adam, adamw, sgd"),
        ({"schedule": "linear"}, "no schedule named 'linear'; there are: constant, cosine"),
        ({"optimizer": "sgd", "momentum": 1.0}, "momentum 1 is not in [0, 1)"),
        ({"momentum": 0.5}, "momentum has no effect here; it is used with optimizer sgd or nest"),
        ({"warmup": (0.1, -0.1)}, "warm-up -0.1 is not in [0, 1)"),
        ({"schedule": "step", "step_factor": 0}, "step factor 0 is not a positive number"),
        ({"schedule": "step", "step_interval": 0}, "step interval 0 is not in [1, 1e+06)"),
        ({"schedule": "step", "step_interval": 1.5}, "step interval is 1.5; give a whole number"),
        ({"step_interval": 5}, "step interval has no effect here; it is used with schedule step"),
        ({"learning_rate": "fast"}, "learning rate is 'fast'; give a number"),
        ({"learning_rate": 10**400}, "learning rate inf is not a positive number"),
        ({"warmup": None, "schedule": ()}, "no schedule given; give one or more"),
        ({"momentum": True, "optimizer": "sgd"}, "momentum is True; give a number"),
        ({"batch_size": (10, 0)}, "batch size 0 is not in [1, 2.14748e+09)"),
        ({"batch_size": ()}, "no batch size given; give one or more"),
    ],
)
def test_invalid_values(options, message):
    with pytest.raises(ZoojaxError) as caught:
        zoojax.train_zoo("digits-s-seed", members=1, epochs=0, quiet=True, **options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_every_hyperparameter_of_a_zoo_is_an_argument_of_one_member():
    taken = functional.train_epoch.__annotations__ | functional.init.__annotations__
    assert {each.name for each in HYPERPARAMETERS} <= taken.keys()


@pytest.mark.parametrize("options", [{"schedule": "cosine"}, {"warmup": 0.1}])
def test_schedules_with_a_horizon_need_the_number_of_epochs(options):
    member = functional.init("small", 1)
    images, labels = np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, np.int32)
    with pytest.raises(ZoojaxError, match=r"give epochs$"):
        functional.train_epoch(member, images, labels, 1e-3, **options)
