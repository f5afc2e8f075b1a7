"""Runs functions of one member on populations: vmap on a device, shard_map across devices."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "population"
# Number of members that a CPU core trains at once.
# - XLA: the activations of 8 members (batches of ten) fill the second-level cache. With 16,
#   variational dropout is a tenth slower and the large CNN a sixth; with 32, dense training of
#   the small CNN is a quarter slower.
# - Kernel: it keeps one vector of members in the cache, and the cost of a call is shared by all
#   members. 32 are a quarter faster than 16; 64 are slightly faster still.
_CPU_CHUNK = {"xla": 8, "kernel": 64}
# A multiple of the number of members in one vector of the kernel, on any processor.
_LANES = 16
# Parameters, gradients and both moments of Adam, in bytes per parameter; and how much of them the
# kernel's members may take. A step reads all of them, so they should stay in the last-level cache:
# 16 members of a perceptron 784-64-64-10 train 1.5 times faster than 64.
_STATE_BYTES, _CPU_CACHE = 16, 16 * 2**20
# The same for the members that XLA processes at once on a CPU; activations need several times as
# much.
_CPU_STATE = 256 * 2**20
# Memory for training one member of the small CNN: activations of a batch of ten, and
# intermediate results that XLA keeps.
_ACCELERATOR_BYTES_PER_MEMBER = 16 * 2**20
_ALIGNMENT = 64


def jit_fast_compile(program: Callable) -> Callable:
    """Applies `jax.jit` with few optimizations, for programs that run once.

    XLA compiles them in half the time.
    """
    return jax.jit(program, compiler_options={"xla_backend_optimization_level": 0})


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Creates a mesh with one axis, `population`.

    Args:
        devices: The devices; None for all local devices.
    """
    return Mesh(np.array(devices or jax.local_devices()), (AXIS,))


def default_chunk(members: int, mesh: Mesh, engine: str, parameters: int = 1) -> int:
    """Chooses how many members one device processes at once.

    Args:
        members: Size of the population.
        mesh: The devices.
        engine: A name of `zoojax.training.engine.ENGINES`.
        parameters: Number of parameters that a member trains; 1 if it is only evaluated.
    """
    device = mesh.devices.flat[0]
    limit = min(_CPU_CHUNK[engine], fitting_members(parameters))
    if engine == "kernel":
        fitting = _CPU_CACHE // (_STATE_BYTES * parameters) // _LANES * _LANES
        limit = min(limit, max(fitting, _LANES))
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        memory = stats.get("bytes_limit", 8 * 2**30)
        needed = max(_ACCELERATOR_BYTES_PER_MEMBER, _STATE_BYTES * parameters)
        limit = max(1, int(memory * 0.5) // needed)
    share = max(1, math.ceil(members / mesh.size))
    # As few blocks as the limit allows, of equal size, since the last one is padded.
    chunk = math.ceil(share / math.ceil(share / limit))
    if engine == "kernel" and chunk < share:
        chunk = math.ceil(chunk / _LANES) * _LANES
    return chunk


def fitting_members(parameters: int) -> int:
    """Returns how many members of a large network fit into a CPU's memory at once, at least one.

    Args:
        parameters: Number of parameters of a member.
    """
    return max(1, _CPU_STATE // (_STATE_BYTES * parameters))


def blocks(members: np.ndarray, chunk: int, mesh: Mesh) -> list[np.ndarray]:
    """Splits a population into blocks of `chunk` members per device.

    The last block is padded with its last member, so that every block runs the same program.
    The result of a member then depends on the chunk size only.

    Args:
        members: Positions of the members, [n].
        chunk: Members per device.
        mesh: The devices.

    Returns:
        Arrays of positions, all of length chunk * mesh.size.
    """
    size = chunk * mesh.size
    split = [members[i : i + size] for i in range(0, len(members), size)]
    return [np.pad(b, (0, size - len(b)), mode="edge") for b in split]


def vmap_members(function: Callable, mesh: Mesh, in_axes: Sequence[int | None]) -> Callable:
    """Maps a function of one member over a block of members, without jit.

    Args:
        function: A function of one member.
        mesh: The devices.
        in_axes: For each argument, 0 (stacked by member) or None (shared by all members).

    Returns:
        A function whose stacked arguments and results have the block's members as leading
        axis, sharded over the mesh.
    """
    specs = tuple(PartitionSpec(AXIS) if axis == 0 else PartitionSpec() for axis in in_axes)
    return jax.shard_map(
        jax.vmap(function, in_axes=tuple(in_axes)),
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec(AXIS),
        check_vma=False,
    )


def shard_members(tree: Any, mesh: Mesh) -> Any:
    """Shards a stacked pytree over the mesh along its member axis."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies a pytree of NumPy arrays to every device.

    CPU devices share one copy in memory, however many there are.
    """
    return jax.device_put(jax.tree.map(_aligned_copy, tree), NamedSharding(mesh, PartitionSpec()))


def _aligned_copy(array: np.ndarray) -> np.ndarray:
    """Copies an array to an address with XLA's alignment, so that XLA does not copy it again."""
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def take(tree: Any, members: np.ndarray | slice | int) -> Any:
    """Selects members of a stacked pytree by position."""
    return jax.tree.map(lambda x: x[members], tree)


def stack(trees: Sequence[Any]) -> Any:
    """Stacks the pytrees of single members (NumPy)."""
    return jax.tree.map(lambda *xs: np.stack(xs), *trees)


def concatenate(trees: Sequence[Any]) -> Any:
    """Concatenates stacked pytrees along the member axis (NumPy)."""
    return jax.tree.map(lambda *xs: np.concatenate(xs), *trees)
