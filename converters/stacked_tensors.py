"""Torch tensors of many members; memory is bounded by one block of members."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np

from zoojax.architectures.parameters import masked
from zoojax.converters.exported import exported_state
from zoojax.converters.state_dicts import StateDictInfo, to_torch
from zoojax.runtime import population
from zoojax.sparsifiers.dense import Dense
from zoojax.storage.zoo import Zoo


class TensorType(NamedTuple):
    """Shape and type of a tensor of one member.

    Attributes:
        shape: Its shape in torch.
        dtype: Its type.
    """

    shape: tuple[int, ...]
    dtype: np.dtype


class Block(NamedTuple):
    """Tensors of some rows of an epoch.

    Attributes:
        rows: Rows of the members table.
        tensors: Stacked tensors by name, in torch's order and axes.
    """

    rows: slice
    tensors: dict[str, np.ndarray]


def tensor_types(
    zoo: Zoo, info: StateDictInfo, epoch: int, *, plain: bool = False
) -> dict[str, TensorType]:
    """Returns the tensors of a member.

    Args:
        zoo: The zoo.
        info: The network of its members.
        epoch: An epoch.
        plain: As in `blocks_of`.

    Raises:
        ZoojaxError: If the epoch is damaged.
    """
    first = population.take(exported_state(zoo, epoch, slice(0, 1)), 0)
    tensors = to_torch(first, info, without_masks=plain)
    return {name: TensorType(x.shape, x.dtype) for name, x in tensors.items()}


def blocks_of(zoo: Zoo, info: StateDictInfo, epoch: int, *, plain: bool = False) -> Iterator[Block]:
    """Reads the tensors of all members at an epoch, block by block.

    Args:
        zoo: The zoo.
        info: The network of its members, which also names the tensors.
        epoch: The epoch.
        plain: Whether pruned members are plain weights, zero where pruned, without masks.

    Raises:
        ZoojaxError: If the epoch is damaged.
    """
    for rows in zoo.row_blocks(epoch):
        state = exported_state(zoo, epoch, rows)
        if plain and info.mask_names():
            weights = masked(state["params"], state["mask"])
            others = {n: part for n, part in state.items() if n not in ("params", "mask")}
            yield Block(rows, stacked_to_torch({"params": weights, **others}, plain_info(info)))
        else:
            yield Block(rows, stacked_to_torch(state, info))


def plain_info(info: StateDictInfo) -> StateDictInfo:
    """Returns the network that pruned members are written as if they have no masks."""
    return replace(info, sparsifier=Dense()) if info.mask_names() else info


def stacked_to_torch(state: dict[str, Any], info: StateDictInfo) -> dict[str, np.ndarray]:
    """Converts stacked members to stacked tensors; as `to_torch` for each member.

    Args:
        state: What `exported_state` returns.
        info: The network of the members.
    """
    layouts = [tensor for _, tensors in info.tensors for tensor in tensors]
    count = len(jax.tree.leaves(state)[0])
    if any(each.is_mask or each.default is not None for each in layouts):
        members = [to_torch(population.take(state, row), info) for row in range(count)]
        return {name: np.stack([m[name] for m in members]) for name in members[0]}
    # Tensors have the values of one array in another order: a member of numbers shows it.
    leaves, structure = jax.tree.flatten(state)
    sizes = [leaf[0].size for leaf in leaves]
    ends = np.cumsum(sizes)
    numbers = [
        np.arange(end - size, end).reshape(leaf.shape[1:])
        for leaf, size, end in zip(leaves, sizes, ends, strict=True)
    ]
    tensors = {}
    for name, order in to_torch(jax.tree.unflatten(structure, numbers), info).items():
        flat = order.reshape(-1)
        index = int(np.searchsorted(ends, flat[0], side="right"))
        values = leaves[index].reshape(count, -1)
        own = flat - (ends[index] - sizes[index])
        if not np.array_equal(own, np.arange(own.size)):
            values = np.take(values, own, axis=1)
        tensors[name] = values.reshape(count, *order.shape)
    counters = {layer.key(t) for layer, own in info.tensors for t in own if t.is_count}
    return {n: x.astype(np.int64) if n in counters else x for n, x in tensors.items()}
