"""Members of a zoo at one epoch, and programs of one member that are mapped over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import polars as pl

from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import kernels
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.tables import seeds_of
from zoojax.runtime import population, signals
from zoojax.storage.opening import as_zoo
from zoojax.storage.states import COLLECTIONS, effective_params
from zoojax.storage.zoo import Zoo

# Members that a device processes at once. The number does not depend on the population, so that a
# member has the same bits in every population.
_CHUNK, _ACCELERATOR_CHUNK = 4, 32
# Memory that the members processed at once may take, in bytes.
_MEMORY = 2**30

Show = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Members:
    """Members of a zoo at one epoch.

    Attributes:
        architecture: Their architecture.
        epoch: The epoch.
        table: Their rows of the members table.
        params: Parameters that they are evaluated with, stacked.
        collections: Variables that are not parameters, such as batch statistics, stacked.
        is_dense: Whether they are not pruned.

    Example:
        >>> from zoojax import geometry
        >>> geometry.members_at(zoo, epoch=1, members=[0, 2]).ids
        [0, 2]
    """

    architecture: Architecture
    epoch: int
    table: pl.DataFrame
    params: dict[str, Any]
    collections: dict[str, Any]
    is_dense: bool

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[int]:
        """Their ids."""
        return self.table["id"].to_list()

    @property
    def seeds(self) -> np.ndarray:
        """Their seeds, [members] uint32; the id of members without a seed."""
        return seeds_of(self.table)

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Which weights are not pruned, {layer path: [members, ...] bool}."""
        weights = kernels(self.params)
        if self.is_dense:
            return {path: np.ones(w.shape, bool) for path, w in weights.items()}
        return {path: np.asarray(w) != 0 for path, w in weights.items()}


def members_at(zoo: Zoo, epoch: int | None = None, members: Sequence[int] | None = None) -> Members:
    """Reads the members of a zoo that are finite at an epoch.

    Args:
        zoo: The zoo, or its folder.
        epoch: Epoch to read; None for the newest.
        members: Ids of the members, in this order; None for all.

    Returns:
        The members.

    Raises:
        ZoojaxError: If there is no such epoch or member, or none of them is finite.

    Example:
        >>> from zoojax.geometry.members import members_at
        >>> members_at(zoo, epoch=1, members=[2]).ids
        [2]
    """
    zoo = as_zoo(zoo)
    rows = np.arange(len(zoo)) if members is None else zoo.row_indices(members)
    state = zoo.state(epoch)
    epoch = zoo.newest_epoch if epoch is None else epoch
    rows = rows[_finite(zoo, epoch)[rows]]
    if not len(rows):
        raise ZoojaxError(f"{zoo.path} has no finite member at epoch {epoch} among those requested")
    return Members(
        zoo.config.shape,
        epoch,
        zoo.members_table[rows],
        population.take(effective_params(zoo.config, state), rows),
        population.take(state.get(COLLECTIONS, {}), rows),
        zoo.config.is_dense,
    )


def _finite(zoo: Zoo, epoch: int) -> np.ndarray:
    """Which members are finite at an epoch, [members] bool."""
    measured = zoo.metrics.filter(epoch=epoch).select("member", "finite")
    rows = zoo.members_table.select(pl.col("id").alias("member"))
    joined = rows.join(measured, on="member", how="left", maintain_order="left")
    return joined["finite"].fill_null(False).to_numpy()


def map_members(
    make: Callable[[str], Callable[..., Any]],
    members: Members,
    stacked: Any,
    shared: Any,
    *,
    memory: int,
    show: Show = None,
) -> Any:
    """Runs a program of one member for all members, in chunks.

    Args:
        make: Function from the name of an activation to the program, a function (params,
            collections, stacked values, shared values) -> pytree.
        members: The members.
        stacked: Further values, stacked by member.
        shared: Values that all members share, such as images.
        memory: Estimate of the memory that a member needs, in bytes.
        show: Called with the numbers of completed and of all members.

    Returns:
        The results, stacked in the order of the members (NumPy).
    """
    mesh = population.make_mesh()
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    chunk = max(1, min(_CHUNK if on_cpu else _ACCELERATOR_CHUNK, _MEMORY // max(memory, 1)))
    shared = population.replicate(shared, mesh)
    activations = np.array(members.table["activation"].to_list())
    order, results, done = [], [], 0
    for activation in sorted(set(activations)):
        program = jax.jit(population.vmap_members(make(activation), mesh, (0, 0, 0, None)))
        rows = np.flatnonzero(activations == activation)
        for block in population.blocks(rows, chunk, mesh):
            trees = population.take((members.params, members.collections, stacked), block)
            sharded = population.shard_members(trees, mesh)
            result = signals.run_interruptible(jax.device_get, program(*sharded, shared))
            count = len(np.unique(block))
            order.append(block[:count])
            results.append(population.take(result, np.s_[:count]))
            done += count
            signals.check()
            if show is not None:
                show(done, len(members))
    return population.take(population.concatenate(results), np.argsort(np.concatenate(order)))
