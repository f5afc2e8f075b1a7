"""One member's function made a population's: vmap on a device, shard_map over devices."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "population"
# Members a CPU core trains at once. By XLA: their activations of a batch of ten fill its
# second-level cache; with 16 variational dropout is a tenth slower than with 8, the large CNN a
# sixth, and with 32 dense training of the small one a quarter. By the kernel, which
# keeps one vector of members in cache: calls into it cost less the more members share one;
# 32 gain a quarter on 16, 64 little more.
_CPU_CHUNK = {"xla": 8, "kernel": 64}
# Members in a vector of the kernel, on any processor a multiple of its own.
_LANES = 16
# Bytes that a member of the small CNN takes while training: activations of a batch
# of ten and what XLA keeps of them.
_ACCELERATOR_BYTES_PER_MEMBER = 16 * 2**20
_ALIGNMENT = 64


def jit_fast_compile(program: Callable) -> Callable:
    """`jax.jit` of what runs once: XLA takes half the time to compile it, and optimises less."""
    return jax.jit(program, compiler_options={"xla_backend_optimization_level": 0})


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """All local devices (or those given) in one axis, `population`."""
    return Mesh(np.array(devices or jax.local_devices()), (AXIS,))


def default_chunk(members: int, mesh: Mesh, engine: str) -> int:
    """Members a device runs at once, chosen for the device, the engine and the population.

    Args:
        members: of the population.
        mesh: the devices.
        engine: a name of `network.ENGINES`.
    """
    device = mesh.devices.flat[0]
    limit = _CPU_CHUNK[engine]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        memory = stats.get("bytes_limit", 8 * 2**30)
        limit = max(1, int(memory * 0.5) // _ACCELERATOR_BYTES_PER_MEMBER)
    share = max(1, math.ceil(members / mesh.size))
    # As few blocks as the limit allows, and those alike: the last is filled up.
    chunk = math.ceil(share / math.ceil(share / limit))
    if engine == "kernel" and chunk < share:
        chunk = math.ceil(chunk / _LANES) * _LANES
    return chunk


def blocks(members: np.ndarray, chunk: int, mesh: Mesh) -> list[np.ndarray]:
    """Splits members (positions) into blocks of chunk x devices.

    The last block is filled up with its last member, so that every block runs the
    same program: a member's result then depends on the chunk size alone.
    """
    size = chunk * mesh.size
    split = [members[i : i + size] for i in range(0, len(members), size)]
    return [np.pad(b, (0, size - len(b)), mode="edge") for b in split]


def vmap_members(function: Callable, mesh: Mesh, in_axes: Sequence[int | None]) -> Callable:
    """A function of one member made one of a block: not jitted.

    Args:
        function: of one member.
        mesh: the devices.
        in_axes: for each argument 0 (stacked by member) or None (the same for all).

    Returns:
        A function whose stacked arguments and results have the block's members as
        leading axis, laid over the mesh.
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
    """Lays a stacked pytree over the mesh, members along its axis."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(AXIS)))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts the whole of a pytree of NumPy arrays on every device.

    CPU devices share one copy of it in memory, however many cores there are.
    """
    return jax.device_put(jax.tree.map(_aligned, tree), NamedSharding(mesh, PartitionSpec()))


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that starts where XLA wants it, which it then takes without copying again."""
    memory = np.empty(array.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def take(tree: Any, members: np.ndarray | slice | int) -> Any:
    """Members of a stacked pytree, by position."""
    return jax.tree.map(lambda x: x[members], tree)


def stack(trees: Sequence[Any]) -> Any:
    """Single members to one stacked pytree (NumPy)."""
    return jax.tree.map(lambda *xs: np.stack(xs), *trees)


def concatenate(trees: Sequence[Any]) -> Any:
    """Stacked pytrees to one, along the member axis (NumPy)."""
    return jax.tree.map(lambda *xs: np.concatenate(xs), *trees)
