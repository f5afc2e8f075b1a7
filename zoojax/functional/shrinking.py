"""A member without its unused hidden units."""

import dataclasses

import jax
import jax.numpy as jnp

from zoojax.architectures import units
from zoojax.errors import ZoojaxError
from zoojax.functional import arguments
from zoojax.functional.member import Member, check_member
from zoojax.sparsifiers.dense import Dense
from zoojax.training.loop import init_state


def shrink(member: Member) -> Member:
    """Removes the unused hidden units of one member: all weights out of them are zero.

    The logits stay the same, except for rounding; the network has fewer parameters. Members of
    `StructuredPruning` have such units. The architecture of the result depends on the weights, so
    this function cannot be mapped or traced.

    Args:
        member: The member.

    Returns:
        The smaller member, dense, at epoch 0.

    Raises:
        ZoojaxError: If the member is traced, or its architecture has no permutation groups or
            cannot be described with fewer units.

    Example:
        >>> from zoojax import functional
        >>> member = functional.init("small", seed=1)
        >>> pruning = zoojax.StructuredPruning(ratios=(0.5,))
        >>> smaller = functional.shrink(functional.sparsify(member, pruning))
        >>> smaller.params["conv2"]["kernel"].shape
        (5, 5, 4, 3)
    """
    check_member(member)
    params, collections = member.sparse_params, member.state.collections
    if any(arguments.is_traced(leaf) for leaf in jax.tree.leaves((params, collections))):
        raise ZoojaxError(
            "the shape of a smaller network depends on its weights; call shrink outside of jax.jit "
            "and jax.vmap"
        )
    small = units.shrink(member.architecture, params, collections)
    trainable = {"params": jax.tree.map(jnp.asarray, small.params)}
    state = init_state(
        trainable, {}, member.optimizer, jax.tree.map(jnp.asarray, small.collections)
    )
    return dataclasses.replace(
        member,
        state=state,
        epoch=jnp.int32(0),
        architecture=small.architecture,
        sparsifier=Dense(),
    )
