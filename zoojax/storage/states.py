"""Layout of a zoo's saved states, derived from its architecture and sparsifier."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from zoojax.architectures.base import Architecture, variable_shapes
from zoojax.architectures.parameters import kernels, pack_bits, unpack_bits
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.context import init_member
from zoojax.storage.zoo_config import ZooConfig

Tree = dict[str, Any]
# Entry of a saved state with the network's collections.
COLLECTIONS = "collections"


@functools.cache
def state_shapes(arch: Architecture, sparsifier: Sparsifier) -> tuple[Tree, Tree]:
    """Returns shapes and dtypes of one member's (trainable, fixed) parts, without computing them.

    Args:
        arch: Architecture of the member.
        sparsifier: Its sparsifier.
    """
    params = variable_shapes(arch)["params"]
    if sparsifier.has_mask_only:
        weights = kernels(params)
        mask = {path: jax.ShapeDtypeStruct(w.shape, bool) for path, w in weights.items()}
        return {"params": params}, {"mask": mask}
    return traced_shapes(arch, sparsifier)


def traced_shapes(arch: Architecture, sparsifier: Sparsifier) -> tuple[Tree, Tree]:
    """Finds `state_shapes` by tracing `Sparsifier.init`."""
    params = variable_shapes(arch)["params"]
    columns = sparsifier.per_member.values()
    ranges = {name: sparsifier.column_ranges.get(name, (0.0, 0.0)) for name in columns}
    table = pl.DataFrame({"seed": [0], **{name: [float(low)] for name, (low, _) in ranges.items()}})
    values = jax.tree.map(lambda x: x[0], sparsifier.member_values(table, params))
    collections = {n: t for n, t in variable_shapes(arch).items() if n != "params"}
    seed, rewind, train = jax.ShapeDtypeStruct((), np.uint32), None, None
    if sparsifier.needs is not None:
        count = sparsifier.needs.images
        images = jax.ShapeDtypeStruct((count, *arch.image_shape), np.float32)
        train = (images, jax.ShapeDtypeStruct((count,), np.int32)) if count else None
        rewind = None if sparsifier.needs.rewind_epoch is None else params
    init = functools.partial(init_member, sparsifier, arch, "tanh")
    return jax.eval_shape(init, params, values, collections, seed, rewind, train)


def state_like(config: ZooConfig, members: int) -> Tree:
    """Shapes and dtypes of a saved state.

    Args:
        config: Config of the zoo.
        members: Number of its members.

    Returns:
        A pytree of `jax.ShapeDtypeStruct`: {"params"} and the other parts of the sparsifier's
        state; {"collections"} if the architecture has any. Fixed parts that consist of bool
        arrays are packed into bits.
    """
    trainable, fixed = state_shapes(config.shape, config.sparsifier)
    member = {**trainable, **{name: _packed_like(tree) for name, tree in fixed.items()}}
    collections = {n: t for n, t in variable_shapes(config.shape).items() if n != "params"}
    if collections:
        member[COLLECTIONS] = collections
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), member)


def optional_like(config: ZooConfig, members: int) -> dict[str, Tree | None]:
    """Shapes and dtypes of arrays that a converted zoo may keep but never uses.

    Args:
        config: Config of the zoo.
        members: Number of its members.

    Returns:
        {"unused": pytree of `jax.ShapeDtypeStruct`}, or {"unused": None} if there are none.
    """
    unused = config.sparsifier.unused(variable_shapes(config.shape)["params"])
    stacked = jax.tree.map(lambda x: jax.ShapeDtypeStruct((members, *x.shape), x.dtype), unused)
    return {"unused": stacked}


class StateParts(NamedTuple):
    """Parts of a state, of one member or stacked; see `zoojax.training.loop.TrainState`."""

    trainable: Tree
    fixed: Tree
    collections: Tree

    def joined(self) -> Tree:
        """Returns the state as it is saved: the parts by name, in one dict."""
        collections = {COLLECTIONS: self.collections} if self.collections else {}
        return {**self.trainable, **self.fixed, **collections}


def split_state(config: ZooConfig, state: Tree) -> StateParts:
    """Splits a saved state into its parts."""
    fixed = state_shapes(config.shape, config.sparsifier)[1]
    rest = {name: part for name, part in state.items() if name != COLLECTIONS}
    return StateParts(
        {name: part for name, part in rest.items() if name not in fixed},
        {name: part for name, part in rest.items() if name in fixed},
        state.get(COLLECTIONS, {}),
    )


def effective_params(config: ZooConfig, state: Tree) -> Tree:
    """Returns the stacked parameters that the members of a stacked state are evaluated with."""
    if type(config.sparsifier).effective is Sparsifier.effective:
        return state["params"]
    parts = split_state(config, state)
    return jax.device_get(_effective(config.sparsifier)(parts.trainable, parts.fixed))


@functools.cache
def _effective(sparsifier: Sparsifier) -> Callable[[Tree, Tree], Tree]:
    return jax.jit(jax.vmap(sparsifier.effective))


def pack(config: ZooConfig, state: Tree) -> Tree:
    """Packs bool arrays of a stacked state into bits, as they are saved."""
    packed = {name for name in _bool_parts(config) if name in state}
    return {**state, **{name: pack_bits(state[name]) for name in packed}}


def unpack(config: ZooConfig, state: Tree) -> Tree:
    """Reverses `pack`."""
    trees = {n: t for n, t in _bool_parts(config).items() if n in state}
    return {**state, **{name: unpack_bits(state[name], tree) for name, tree in trees.items()}}


def _bool_parts(config: ZooConfig) -> Tree:
    fixed = state_shapes(config.shape, config.sparsifier)[1]
    return {name: tree for name, tree in fixed.items() if _is_bool(tree)}


def _is_bool(tree: Tree) -> bool:
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(leaf.dtype == bool for leaf in leaves)


def _packed_like(tree: Tree) -> Any:
    if not _is_bool(tree):
        return tree
    bits = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
    return jax.ShapeDtypeStruct((-(-bits // 8),), np.uint8)
