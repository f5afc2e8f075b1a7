"""A member's result does not depend on the population's size, order, other members or devices."""

import functools
import math
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from zoojax.api.untrained import INIT_BATCH_SIZE, initial_variables
from zoojax.architectures import parameters
from zoojax.architectures.cnn import small_cnn
from zoojax.datasets import loading
from zoojax.runtime import population
from zoojax.sparsifiers import score_pruning, variational_dropout
from zoojax.sparsifiers.allocation import num_pruned
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.training import loop, programs, task_programs

ARCHITECTURE = small_cnn(1, 10)
POOL = 33
CHUNK = zoo_fixtures.CHUNK


SPARSIFIERS = {
    "dense": Dense(),
    "mp": MagnitudePruning().shared(),
    "vd": VariationalDropout().shared(),
}


# Numbers that differ between members in runs with a schedule.
VARIED = ("momentum", "warmup")


class Run(NamedTuple):
    """How a population is trained; most fields are those of a `ProgramSpec`."""

    kind: str = "dense"
    optimizer: str = "adam"
    dropout: bool = False
    order: str = "member"
    chunk: int = CHUNK
    devices: int = 2
    schedule: str = "constant"

    @property
    def spec(self) -> programs.ProgramSpec:
        return programs.ProgramSpec(
            SPARSIFIERS[self.kind],
            ARCHITECTURE,
            "tanh",
            self.optimizer,
            self.dropout,
            10,
            self.order,
            schedule=self.schedule,
            varied=VARIED if self.schedule != "constant" else (),
            epochs=3,
        )

    @property
    def mesh(self) -> jax.sharding.Mesh:
        return population.make_mesh(jax.local_devices()[: self.devices])


KINDS = [
    Run("dense", "adam"),
    Run("dense", "nesterov", schedule="one_cycle"),
    pytest.param(Run("dense", "adam", dropout=True), marks=pytest.mark.slow),
    Run("mp", "adam"),
    Run("vd", "adam", dropout=True),
]
by_kind = pytest.mark.parametrize(
    "run", KINDS, ids=lambda r: f"{r.kind}-{r.optimizer}" + "-dropout" * r.dropout
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> programs.Splits:
    return programs.splits(loading.load(zoo_fixtures.spec(tmp_path_factory)))


@functools.cache
def untrained(kind: str) -> tuple[dict, dict]:
    """(trainable, fixed) of POOL members; tests train some of them."""
    params = initial_variables(ARCHITECTURE, ["uniform"] * POOL, list(range(POOL)))["params"]
    if kind == "mp":
        shapes = {k: w.shape[1:] for k, w in parameters.kernels(params).items()}
        counts = [num_pruned(i / POOL, shapes, "global")["all"] for i in range(POOL)]
        return jax.device_get(
            jax.vmap(score_pruning.init_pruned)(params, {"all": jnp.array(counts, jnp.int32)})
        )
    if kind == "vd":
        # Far above the initial value of a twin, so that the noise exceeds rounding errors.
        log_sigma2 = jax.tree.map(
            lambda x: np.asarray(x) + 6, variational_dropout.init_log_sigma2(params, "released")
        )
        return {"params": params, "log_sigma2": log_sigma2}, {}
    return {"params": params}, {}


def hyperparams(members: np.ndarray, run: Run) -> loop.Hyperparams:
    """Hyperparameters that differ between members."""
    varied = {
        "momentum": (0.1 * (5 + members % 4)).astype(np.float32),
        "warmup": (0.1 * (members % 3)).astype(np.float32),
    }
    return loop.Hyperparams(
        members.astype(np.uint32),
        (1e-3 * (1 + members % 3)).astype(np.float32),
        (1e-3 * (members % 2)).astype(np.float32),
        (0.1 * (members % 5)).astype(np.float32),
        {name: varied[name] for name in run.spec.varied},
    )


def train(run: Run, sets, members, epochs=2, seeds=None, change=lambda state, hyper: None):
    """Trains some members of the pool and returns their states and metrics.

    Args:
        run: How they are trained.
        sets: The images.
        members: Positions in the pool, in the order of training.
        epochs: Number of epochs.
        seeds: Replaces the members' own seeds.
        change: Changes states and hyperparameters (NumPy, stacked by member) before training.
    """
    members, mesh = np.asarray(members), run.mesh
    states = jax.tree.map(
        np.array,
        jax.jit(jax.vmap(lambda t, f: loop.init_state(t, f, run.optimizer)))(
            *population.take(untrained(run.kind), members)
        ),
    )
    hyper = hyperparams(members, run)
    if seeds is not None:
        hyper = hyper._replace(seed=np.asarray(seeds, np.uint32))
    change(states, hyper)
    step = jax.jit(task_programs.epoch(run.spec, mesh), donate_argnums=0)
    replicated, results = population.replicate(sets, mesh), []
    for block in population.blocks(np.arange(len(members)), run.chunk, mesh):
        state, block_hyper = population.shard_members(population.take((states, hyper), block), mesh)
        metrics = []
        for epoch in range(1, epochs + 1):
            state, epoch_metrics = step(state, block_hyper, replicated, jnp.int32(epoch))
            metrics.append(jax.device_get(epoch_metrics))
        results.append(jax.device_get((state, metrics)))
    padded = population.concatenate(results)
    return population.take(padded, np.s_[: len(members)])


@pytest.fixture(scope="module")
def pool(sets):
    """A cached function that trains the whole pool in order."""
    return functools.cache(lambda run, epochs=2: train(run, sets, np.arange(POOL), epochs))


@by_kind
def test_training_changes_every_member(run, pool):
    """Otherwise, a loop that does nothing would pass the other tests."""
    state, metrics = pool(run)
    before = untrained(run.kind)[0]
    for member in range(POOL):
        assert not zoo_fixtures.same_bits(
            population.take(state.trainable, member), population.take(before, member)
        )
    assert len(np.unique(metrics[1]["train_loss"])) == POOL
    assert (metrics[1]["train_loss"] != metrics[0]["train_loss"]).all()


@by_kind
@pytest.mark.parametrize(
    "members",
    [
        [7],
        [30, 3, 7, 1, 12],
        list(range(16, -1, -1)),
        list(np.random.RandomState(0).permutation(POOL)),
    ],
    ids=lambda m: f"{len(m)}-members",
)
def test_result_is_independent_of_size_order_and_other_members(run, sets, pool, members):
    """Compares states, moments and the metrics of both epochs."""
    expected = population.take(pool(run), np.array(members))
    assert zoo_fixtures.same_bits(train(run, sets, members), expected)


def test_result_is_independent_of_other_members_with_shared_order(sets, pool):
    """All members see the images in the same order."""
    run = Run(order="shared")
    expected = population.take(pool(run), np.array([5, 20, 2]))
    assert zoo_fixtures.same_bits(train(run, sets, [5, 20, 2]), expected)


@pytest.mark.parametrize(("order", "equal"), [("shared", True), ("member", False)])
def test_order_depends_on_the_seed_unless_it_is_shared(sets, order, equal):
    """Without noise, two members with the same weights differ only by the order of images."""
    state, _ = train(Run(order=order), sets, [4, 4], seeds=[1, 2])
    one, other = (population.take(state.trainable, i) for i in (0, 1))
    assert zoo_fixtures.same_bits(one, other) is equal


def _preset_rate(state, hyper):
    hyper.learning_rate[:] = 3e-4


@pytest.mark.parametrize(
    ("optimizer", "chunk"),
    [
        ("adam", 1),
        pytest.param("sgd", 16, marks=pytest.mark.slow),
        pytest.param("sgd", 1, marks=pytest.mark.slow),
        pytest.param("adam", 16, marks=pytest.mark.slow),
    ],
)
def test_chunk_sizes_agree_up_to_rounding(sets, optimizer, chunk):
    """Matrix products of other shapes are summed in another order.

    Trains for one epoch at the learning rate of the seed zoos. (Adam divides a gradient by its
    magnitude. If that consists of rounding errors, so does a step of up to the learning rate.)
    """
    run, members = Run(optimizer=optimizer), np.arange(16)
    expected, _ = train(run, sets, members, epochs=1, change=_preset_rate)
    state, _ = train(run._replace(chunk=chunk), sets, members, epochs=1, change=_preset_rate)
    pairs = zip(jax.tree.leaves(state.trainable), jax.tree.leaves(expected.trainable), strict=True)
    for actual, desired in pairs:
        np.testing.assert_allclose(actual, desired, rtol=1e-5, atol=1e-5)


def _nan_weights(state, hyper):
    for leaf in jax.tree.leaves(state.trainable):
        leaf[1] = np.nan


def _infinite_rate(state, hyper):
    hyper.learning_rate[1] = 3e38


@by_kind
@pytest.mark.parametrize(
    "change", [_nan_weights, pytest.param(_infinite_rate, marks=pytest.mark.slow)]
)
def test_diverged_member_does_not_affect_others(run, sets, pool, change):
    """Member 1 of a block of eight diverges and is marked as not finite."""
    members = np.arange(10)
    result = train(run, sets, members, change=change)
    others = np.delete(members, 1)
    assert zoo_fixtures.same_bits(
        population.take(result, others), population.take(pool(run), others)
    )
    _, metrics = result
    assert not metrics[-1]["finite"][1]
    assert metrics[-1]["finite"][others].all()


def test_initial_weights_depend_only_on_the_member():
    """They do not depend on other members, their schemes or the order."""
    many = untrained("dense")[0]["params"]
    few = initial_variables(ARCHITECTURE, ["uniform", "kaiming_normal", "uniform"], [11, 0, 3])[
        "params"
    ]
    for position, seed in ((0, 11), (2, 3)):
        assert zoo_fixtures.same_bits(population.take(few, position), population.take(many, seed))
    assert not zoo_fixtures.same_bits(population.take(few, 1), population.take(many, 0))
    assert not zoo_fixtures.same_bits(population.take(many, 3), population.take(many, 11))
    seeds = list(range(INIT_BATCH_SIZE + 2))[::-1]
    more = initial_variables(ARCHITECTURE, ["uniform"] * len(seeds), seeds)["params"]
    assert zoo_fixtures.same_bits(
        population.take(more, slice(-POOL, None)), population.take(many, slice(None, None, -1))
    )


@given(
    size=st.integers(1, 70),
    chunk=st.integers(1, 20),
    devices=st.integers(1, 2),
    offset=st.integers(0, 1000),
)
def test_blocks_contain_every_member_once_and_are_padded(size, chunk, devices, offset):
    """All blocks have the same size, and the last one is padded with its last member."""
    mesh = population.make_mesh(jax.local_devices()[:devices])
    members = np.arange(offset, offset + size)
    blocks = population.blocks(members, chunk, mesh)
    assert {len(b) for b in blocks} == {chunk * devices}
    flat = np.concatenate(blocks)
    np.testing.assert_array_equal(flat[:size], members)
    assert (flat[size:] == members[-1]).all()
    assert len(flat) - size < chunk * devices


@given(st.integers(1, 5000), st.sampled_from(["xla", "kernel"]))
def test_default_chunk_needs_little_padding(members, engine):
    """No device is idle, and blocks are within the limit."""
    mesh = population.make_mesh()
    chunk = population.default_chunk(members, mesh, engine)
    limit, lanes = {"xla": (8, 1), "kernel": (64, 16)}[engine]
    assert 1 <= chunk <= limit
    blocks = population.blocks(np.arange(members), chunk, mesh)
    assert len(blocks) == math.ceil(math.ceil(members / mesh.size) / limit)
    assert sum(map(len, blocks)) - members < len(blocks) * mesh.size * lanes
    assert engine == "xla" or len(blocks) == 1 or chunk % lanes == 0


@pytest.mark.parametrize(
    ("parameters", "limit"), [(2464, 64), (11_000, 64), (25_000, 32), (55_050, 16), (10**9, 16)]
)
def test_default_chunk_of_large_members_fits_the_cache(parameters, limit):
    mesh = population.make_mesh(jax.local_devices()[:1])
    assert population.default_chunk(640, mesh, "kernel", parameters) == limit
    # On XLA, members of more than a million parameters are fewer: memory is the limit.
    assert population.default_chunk(640, mesh, "xla", parameters) == (
        1 if parameters > 10**8 else 8
    )


def test_stack_take_concatenate_round_trip():
    """Members of a stacked pytree."""
    members = [{"a": np.full((2,), i), "b": {"c": np.array(i)}} for i in range(4)]
    stacked = population.stack(members)
    assert stacked["a"].shape == (4, 2)
    assert zoo_fixtures.same_bits(population.take(stacked, 2), members[2])
    halves = [population.take(stacked, np.s_[:1]), population.take(stacked, np.s_[1:])]
    assert zoo_fixtures.same_bits(population.concatenate(halves), stacked)


@pytest.mark.parametrize("size", [1, 5])
def test_padding_is_not_saved(tmp_path_factory, tmp_path, size):
    """Trains one or five members in blocks of four."""
    grid = replace(zoo_fixtures.GRID, seeds=size)
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", grid, epochs=1)
    for tree in (zoo.state(0), zoo.state(1), zoo.optimizer_state()):
        assert {len(leaf) for leaf in jax.tree.leaves(tree)} == {size}
    assert zoo.members["id"].to_list() == list(range(size))
    for epoch in (0, 1):
        assert zoo.metrics.filter(epoch=epoch)["member"].to_list() == list(range(size))


def test_saved_member_is_bit_identical_in_another_zoo(tmp_path_factory, tmp_path):
    """The member is trained in a zoo of one and in a zoo of three."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    grid = replace(zoo_fixtures.GRID, seeds=1)
    single = zoo_fixtures.train(tmp_path_factory, tmp_path / "alone", grid, first_seed=3)
    for epoch in zoo.epochs:
        assert zoo_fixtures.same_bits(
            single.state(epoch), population.take(zoo.state(epoch), np.array([2]))
        )
    moments = population.take(zoo.optimizer_state()["adam"], np.array([2]))
    assert zoo_fixtures.same_bits(single.optimizer_state()["adam"], moments)


def test_diverged_member_is_saved_and_marked(tmp_path_factory, tmp_path):
    """The table has its first non-finite epoch; the other members are as in another zoo."""
    grid = replace(zoo_fixtures.GRID, learning_rates=(1e-2, 3e38))
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", grid)
    assert zoo.members["diverged_epoch"].to_list() == [None] * 3 + [1] * 3
    for epoch in zoo.epochs:
        finite = zoo.metrics.filter(epoch=epoch)["finite"].to_list()
        assert finite == [True] * 3 + [epoch == 0] * 3
        others = population.take(zoo.state(epoch), np.s_[:3])
        assert zoo_fixtures.same_bits(others, zoo_fixtures.dense(tmp_path_factory).state(epoch))
    assert len(zoo.params()["fc2"]["bias"]) == 6
