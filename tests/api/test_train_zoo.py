"""Training of dense zoos: invalid arguments, grids of several programs, and progress."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from tests.support import zoo_fixtures
from zoojax import (
    DataSpec,
    Grid,
    ZoojaxError,
    sparsify,
    train_zoo,
)
from zoojax.api.untrained import initial_variables
from zoojax.runtime import population
from zoojax.training.trainer import Progress

TWIN: dict[str, Any] = {"epochs": 1, "chunk": zoo_fixtures.CHUNK}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "-1 epochs"),
        ({"batch_size": 0}, "batch size 0"),
        ({"data_order": "random"}, "no data order named 'random'"),
        ({"chunk": 0}, "chunk 0"),
        ({"first_seed": -1}, "seeds -1"),
    ],
)
def test_invalid_training_arguments(tmp_path_factory, tmp_path, options, message):
    """Nothing is written."""
    with pytest.raises(ZoojaxError, match=message):
        zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", **options)
    assert not list(tmp_path.iterdir())


def test_unknown_architecture_and_image_set(tmp_path):
    with pytest.raises(ZoojaxError, match="no architecture named 'huge'"):
        train_zoo(None, tmp_path / "a", data="digits", architecture="huge", epochs=0)
    with pytest.raises(ZoojaxError, match=r"'digit'.*'digits'"):
        train_zoo(None, tmp_path / "b", data=DataSpec("digit"), epochs=0)
    assert not list(tmp_path.iterdir())


def test_image_size_that_the_architecture_does_not_take(tmp_path_factory, tmp_path):
    spec = replace(zoo_fixtures.spec(tmp_path_factory), size=32)
    with pytest.raises(ZoojaxError, match=r"28|32"):
        train_zoo(None, tmp_path / "a", data=spec, epochs=0, chunk=1)


def test_zero_epochs(tmp_path_factory, tmp_path):
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", epochs=0)
    assert zoo.epochs == [0]
    expected = initial_variables(zoo.config.shape, ["kaiming_uniform"] * 3, [1, 2, 3])["params"]
    assert zoo_fixtures.same_bits(zoo.params(), expected)
    assert zoo_fixtures.same_bits(zoo.params(), zoo_fixtures.dense(tmp_path_factory).params(0))


def check_grid(tmp_path_factory, tmp_path, grid: Grid, alone: list[int]):
    """A grid zoo and its twins; members `alone` have the same bits if trained alone."""
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "grid", grid, epochs=1)
    count = len(zoo)
    assert count == grid.combinations * grid.seeds
    pruned = zoo_fixtures.prune(tmp_path / "mp", zoo, [0.5], **TWIN)
    dropped = zoo_fixtures.train_variational(tmp_path / "vd", zoo, **TWIN)
    for each in (zoo, pruned, dropped):
        assert each.epochs == [0, 1]
        assert each.metrics["member"].to_list() == list(range(count)) * 2
        assert {len(leaf) for leaf in jax.tree.leaves(each.state())} == {count}
        assert each.metrics["finite"].all()
    initial = initial_variables(
        zoo.config.shape, zoo.members_table["init"].to_list(), zoo.members_table["seed"].to_list()
    )["params"]
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
            (pruned, zoo_fixtures.prune(own.with_name(f"{own.name}-mp"), member, [0.5], **TWIN)),
            (
                dropped,
                zoo_fixtures.train_variational(own.with_name(f"{own.name}-vd"), member, **TWIN),
            ),
        )
        for together, single in twins:
            state = population.take(together.state(), np.array([row["id"]]))
            assert zoo_fixtures.same_bits(single.state(), state)
            moments = population.take(
                together.optimizer_state()[row["optimizer"]], np.array([row["id"]])
            )
            assert zoo_fixtures.same_bits(single.optimizer_state(), {row["optimizer"]: moments})
            metrics = together.metrics.filter(member=row["id"]).drop("member")
            assert zoo_fixtures.same_bits(
                zoo_fixtures.bits(single.metrics.drop("member")), zoo_fixtures.bits(metrics)
            )


GRID = Grid(
    inits=("uniform", "kaiming_uniform"),
    optimizers=("adam", "sgd"),
    learning_rates=(1e-2,),
    weight_decays=(1e-3,),
)


def test_grid_of_several_programs(tmp_path_factory, tmp_path):
    """Optimizers alternate in the table, so that each program has members from all over it."""
    assert GRID.members()["optimizer"].to_list() == ["adam", "sgd"] * 2
    check_grid(tmp_path_factory, tmp_path, GRID, alone=[3])


@pytest.mark.slow
def test_grid_of_all_hyperparameters(tmp_path_factory, tmp_path):
    """16 programs per kind of zoo."""
    activations = ("tanh", "relu", "sigmoid", "gelu")
    grid = replace(GRID, activations=activations, dropouts=(0.0, 0.5), seeds=2)
    check_grid(tmp_path_factory, tmp_path, grid, alone=[0, 13, 22, 31, 47, 63])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 1}, "epochs=2, but 1 was requested"),
        ({"chunk": 1}, "chunk=4, but 1 was requested"),
        ({"batch_size": 5}, "batch_size=10, but 5 was requested"),
        ({"data_order": "shared"}, "data_order"),
        ({"first_seed": 2}, "other members"),
        ({"grid": replace(zoo_fixtures.GRID, seeds=2)}, "3 members, but 2 were requested"),
    ],
)
def test_other_arguments_for_an_existing_zoo(dense, tmp_path_factory, options, message):
    before = zoo_fixtures.contents(dense.path)
    with pytest.raises(ZoojaxError, match=message):
        zoo_fixtures.train(tmp_path_factory, dense.path, **options)
    assert zoo_fixtures.contents(dense.path) == before


def test_progress_counts_each_member_and_image_once(tmp_path_factory, tmp_path):
    seen = []
    zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", report=seen.append)
    total = 3 * 65 * 2
    assert [(p.epoch, p.epochs, p.done, p.total) for p in seen] == [
        (0, 2, 0, total),
        (1, 2, total // 2, total),
        (2, 2, total, total),
    ]


def test_interrupt_says_how_to_resume(tmp_path_factory, tmp_path):
    """In Python, where a traceback of ctrl-C is shown."""

    def stop(progress: Progress) -> None:
        if progress.epoch == 1 and progress.done:
            raise KeyboardInterrupt

    out = tmp_path / "zoo"
    with pytest.raises(KeyboardInterrupt) as caught:
        zoo_fixtures.train(tmp_path_factory, out, report=stop)
    advice = f"repeat the call to resume from the last complete epoch in {out}"
    assert caught.value.__notes__ == [f"zoojax: interrupted; {advice}"]
    resumed = zoo_fixtures.train(tmp_path_factory, out)
    zoo_fixtures.assert_same_zoo(resumed, zoo_fixtures.dense(tmp_path_factory))
    with pytest.raises(KeyboardInterrupt) as caught:
        sparsify(resumed, "magnitude-pruning", report=stop, **TWIN)
    (note,) = caught.value.__notes__
    assert note.endswith("the zoo was not saved; give out a folder to resume later")


def test_paths_may_be_text_with_a_home_folder(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    spec = zoo_fixtures.spec(tmp_path_factory)
    zoo = train_zoo(None, "~/dense", grid=zoo_fixtures.GRID, data=spec, epochs=0, data_dir="~")
    assert zoo.path == tmp_path / "dense"
    twins = (
        zoo_fixtures.prune("~/mp", zoo, [0.5], epochs=0),
        zoo_fixtures.train_variational(str(tmp_path / "vd"), zoo, epochs=0),
    )
    assert [twin.path for twin in twins] == [tmp_path / "mp", tmp_path / "vd"]
    with pytest.raises(ZoojaxError, match="~no-such-user"):
        zoo_fixtures.train_variational("~no-such-user/vd", zoo, epochs=0)
