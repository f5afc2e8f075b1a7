"""Initial states of twins, created by `Sparsifier.init` from the members of a dense zoo."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.architectures import parameters
from zoojax.architectures.base import variable_shapes
from zoojax.datasets.specs import Images
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.tables import seeds_of
from zoojax.runtime import population, signals
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.context import init_member
from zoojax.storage.states import COLLECTIONS, StateParts
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

# Number of members that a device initializes at once with a context. It does not depend on the
# population, so that a member has the same bits in every population.
_CHUNK = {"cpu": 1}
_ACCELERATOR_CHUNK = 16


def check_needs(parent: Zoo, sparsifier: Sparsifier) -> None:
    """Checks that a parent has what a sparsifier needs.

    Args:
        parent: Dense zoo.
        sparsifier: The sparsifier.

    Raises:
        ZoojaxError: If the parent lacks the epoch to rewind to.
    """
    needs = sparsifier.needs
    if needs is None:
        return
    if needs.rewind_epoch is not None and needs.rewind_epoch not in parent.epochs:
        raise ZoojaxError(
            f"{parent.path} has no epoch {printable(needs.rewind_epoch, 20)} to rewind to; its "
            f"last one is {parent.newest_epoch}"
        )


def parent_scores(
    parent: Zoo, epoch: int, table: pl.DataFrame, scores: Callable[[dict], dict] | None
) -> dict[str, np.ndarray] | None:
    """Computes the scores that a caller provides.

    Args:
        parent: Dense zoo.
        epoch: Epoch of the parent.
        table: Members table of the twin.
        scores: Function of stacked parameters that returns stacked scores by layer; None if there
            are not scores.

    Returns:
        {layer path: [parent members, ...]}, members in the order of their first rows in the table;
        None without scores.

    Raises:
        ZoojaxError: If layers are missing or unknown, or an array has another shape than the
            layer's weights, or holds NaN.
    """
    if scores is None:
        return None
    rows = parent.row_indices(table["parent_id"].unique(maintain_order=True))
    params = population.take(parent.params(epoch), rows)
    return _checked_scores(scores(params), params)


def _checked_scores(scores: Any, params: dict) -> dict[str, np.ndarray]:
    """Returns scores as arrays [members, ...] by layer.

    Raises:
        ZoojaxError: If layers are missing or unknown, or an array has another shape than the
            layer's weights, or holds NaN.
    """
    expected = {name: np.shape(kernel) for name, kernel in parameters.kernels(params).items()}
    if not isinstance(scores, dict) or scores.keys() != expected.keys():
        given = ", ".join(map(str, scores)) if isinstance(scores, dict) else type(scores).__name__
        raise ZoojaxError(f"scores are of {given}; give one array per layer: {', '.join(expected)}")
    checked = {}
    for name, shape in expected.items():
        values = np.asarray(scores[name])
        if values.shape != shape:
            raise ZoojaxError(f"scores of {name} have shape {values.shape}, not {shape}")
        if values.dtype.kind not in "fiub" or np.isnan(values).any():
            raise ZoojaxError(f"scores of {name} are not all numbers")
        checked[name] = values
    return checked


def initial_states(
    parent: Zoo,
    epoch: int,
    sparsifier: Sparsifier,
    table: pl.DataFrame,
    rows: slice,
    scores: dict[str, np.ndarray] | None,
    train: Images,
) -> StateParts:
    """Creates the initial states of the members in some rows of a twin's members table.

    Args:
        parent: Dense zoo.
        epoch: Epoch of the parent to start from.
        sparsifier: Sparsifier of the twin.
        table: Members table of the twin.
        rows: Rows to create.
        scores: Scores of the parent members; see `parent_scores`.
        train: Training images of the parent.

    Returns:
        The parts of the states, stacked; collections are those of the parents.
    """
    all_ids = table["parent_id"].unique(maintain_order=True).to_list()
    positions = {parent_id: position for position, parent_id in enumerate(all_ids)}
    members = table[rows]
    parent_ids = members["parent_id"].to_list()
    parent_rows = parent.row_indices(parent_ids)
    state = population.take(parent.state(epoch), parent_rows)
    shapes = variable_shapes(parent.config.shape)["params"]
    values = sparsifier.member_values(members, shapes)
    if sparsifier.takes_scores:
        own_rows = np.array([positions[parent_id] for parent_id in parent_ids])
        values["scores"] = None if scores is None else population.take(scores, own_rows)
    collections, needs = state.get(COLLECTIONS, {}), sparsifier.needs
    if needs is None:
        made = jax.jit(jax.vmap(sparsifier.init))(state["params"], values)
        trainable, fixed = jax.device_get(made)
        return StateParts(trainable, fixed, collections)
    rewind = None
    if needs.rewind_epoch is not None:
        rewind = population.take(parent.params(needs.rewind_epoch), parent_rows)
    seeds = seeds_of(members)
    images = (train.images, train.labels) if needs.images else None
    stacked = state["params"], values, collections, seeds, rewind
    activations = members["activation"].to_list()
    trainable, fixed = _with_context(parent, sparsifier, activations, stacked, images)
    return StateParts(trainable, fixed, collections)


def _with_context(
    parent: Zoo, sparsifier: Sparsifier, activations: list[str], stacked: tuple, images: Any
) -> tuple[Any, Any]:
    """Runs `init_member` block by block, one program per activation; see `_CHUNK`."""
    mesh = population.make_mesh()
    chunk = _CHUNK.get(mesh.devices.flat[0].platform, _ACCELERATOR_CHUNK)
    shared = population.replicate(images, mesh)
    order, made = [], []
    for activation in sorted(set(activations)):

        def member_state(*arguments: Any, activation: str = activation) -> tuple[dict, dict]:
            return init_member(sparsifier, parent.config.shape, activation, *arguments)

        program = jax.jit(
            population.vmap_members(member_state, mesh, (*(0 for _ in stacked), None))
        )
        rows = np.flatnonzero(np.array(activations) == activation)
        for block in population.blocks(rows, chunk, mesh):
            sharded = population.shard_members(population.take(stacked, block), mesh)
            states = signals.run_interruptible(jax.device_get, program(*sharded, shared))
            count = len(np.unique(block))
            order.append(block[:count])
            made.append(population.take(states, np.s_[:count]))
            signals.check()
    return population.take(population.concatenate(made), np.argsort(np.concatenate(order)))
