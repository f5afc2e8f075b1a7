"""A member of a population as a pytree, and functions that create one."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import polars as pl
from jax import Array

from zoojax.architectures.base import Architecture, init_variables
from zoojax.architectures.layers import ACTIVATIONS, INITS
from zoojax.architectures.parameters import WEIGHT, flat_layers, kernels, scaled_weights
from zoojax.architectures.registry import architecture as registered_architecture
from zoojax.errors import ZoojaxError
from zoojax.functional import arguments
from zoojax.hyperparameters.declaration import check_name
from zoojax.hyperparameters.grid import BY_NAME
from zoojax.optimizers import OPTIMIZERS
from zoojax.sparsifiers.base import Needs, Sparsifier
from zoojax.sparsifiers.context import init_member
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.text import printable
from zoojax.training.inputs import checked_arrays, checked_images, checked_labels
from zoojax.training.loop import TrainState, init_state


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["state", "seed", "epoch"],
    meta_fields=["architecture", "activation", "optimizer", "sparsifier"],
)
@dataclasses.dataclass(frozen=True)
class Member:
    """One member during training, created by `init`; a pytree.

    `jax.vmap` of `init` creates a population: a `Member` whose arrays are stacked.

    Attributes:
        state: What changes in training: parameters, moments of the optimizer, ...
        seed: Seed of the random streams, uint32.
        epoch: Number of epochs trained, int32.
        architecture: Architecture (static).
        activation: Name of the activation (static).
        optimizer: Name of the optimizer (static).
        sparsifier: What is trained with which objective (static); see `sparsify`.

    Example:
        >>> member = zoojax.functional.init("small", seed=1)
        >>> member.architecture.name, member.params["fc2"]["bias"].shape
        ('small', (10,))
    """

    state: TrainState
    seed: Array
    epoch: Array
    architecture: Architecture
    activation: str
    optimizer: str
    sparsifier: Sparsifier

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that are trained, {layer: {"kernel": ..., "bias": ...}}."""
        return self.state.trainable["params"]

    @property
    def sparse_params(self) -> dict[str, Any]:
        """The parameters that the member is evaluated with, such as thresholded ones."""
        return self.sparsifier.effective(self.state.trainable, self.state.fixed)

    def with_params(self, params: dict[str, Any]) -> "Member":
        """Returns the member with other parameters, for example after a step of your optimizer.

        Args:
            params: Parameters in the structure of `params`, of any floating-point type.

        Raises:
            ZoojaxError: If arrays are missing, unknown, integers, or have the wrong shape.

        Example:
            >>> member = zoojax.functional.init("small", seed=1)
            >>> zeros = member.with_params(jax.tree.map(jnp.zeros_like, member.params))
            >>> float(zeros.params["fc1"]["kernel"].sum())
            0.0
        """
        params = checked_arrays(self.architecture, params, jnp.shape(self.seed))
        trainable = {**self.state.trainable, "params": params}
        return dataclasses.replace(self, state=self.state._replace(trainable=trainable))


def init(
    architecture: str | Architecture,
    seed: int | Array,
    *,
    activation: str = "tanh",
    init: str = "uniform",
    init_std: float | Array | None = None,
    optimizer: str = "adam",
    params: dict[str, Any] | None = None,
) -> Member:
    """Creates an untrained member; its weights depend only on its seed and `init`.

    `jax.vmap(partial(init, "small"))(seeds)` creates a population.

    Args:
        architecture: Name of an architecture, for grayscale images of ten classes, or an
            `Architecture`, such as `zoojax.architectures.registry.architecture("small", channels=3,
            classes=100)`.
        seed: Seed of the initial weights and of all random draws in training.
        activation: "tanh", "sigmoid", "relu", "gelu", "silu", "leaky_relu" or "sine".
        init: Initialization: "uniform", "normal", "kaiming_uniform", "kaiming_normal",
            "xavier_uniform", "xavier_normal", "orthogonal" or "truncated_normal" as in
            torch.nn.init; "he_uniform", "he_normal", "glorot_uniform" or "glorot_normal" as in
            jax.nn.initializers; "siren" for SIRENs.
        init_std: Standard deviation of the initial weights with "normal" and "truncated_normal";
            None for 1.
        optimizer: Optimizer of `train_epoch`: "adam", "adamw", "sgd", "nesterov" or "rmsprop", as
            in torch.optim.
        params: Parameters to start from instead, such as `Zoo.member(3)`.

    Returns:
        The member.

    Raises:
        ZoojaxError: If a name is unknown, the seed is not an integer from 0 to 2**32 - 1, or
            `params` do not fit the architecture.

    Example:
        >>> member = zoojax.functional.init("small", seed=1, init="kaiming_uniform")
        >>> member.params["fc1"]["kernel"].shape
        (36, 20)
    """
    arch = _architecture(architecture)
    check_name("activation", activation, ACTIVATIONS)
    check_name("initialization", init, INITS)
    check_name("optimizer", optimizer, OPTIMIZERS)
    checked_seed = arguments.seed(seed)
    variables = init_variables(arch, init, checked_seed)
    if init_std is not None:
        declared = BY_NAME["init_std"]
        if not declared.used({"init": init}):
            raise ZoojaxError(f"init_std has no effect with initialization {init}")
        factor = arguments.number("init_std", init_std, declared.check)
        variables["params"] = scaled_weights(variables["params"], factor)
    if params is not None:
        variables["params"] = checked_arrays(arch, params, ())
    trainable = {"params": jax.tree.map(jnp.asarray, variables.pop("params"))}
    state = init_state(trainable, {}, optimizer, variables)
    return Member(state, checked_seed, jnp.int32(0), arch, activation, optimizer, Dense())


def sparsify(
    member: Member,
    sparsifier: Sparsifier,
    images: Any = None,
    labels: Any = None,
    *,
    rewind: dict[str, Any] | None = None,
) -> Member:
    """Prepares a member for training with a sparsifier, from its parameters and epoch 0.

    Args:
        member: The member.
        sparsifier: For example `VariationalDropout()` or `MagnitudePruning(ratios=(0.5,))`, with
            exactly one value of each per-member option.
        images: Training images [n, height, width, channels], for sparsifiers that need them; see
            `Sparsifier.needs`.
        labels: Their classes, [n] of any integer type.
        rewind: Earlier parameters of the member, for sparsifiers that rewind weights.

    Returns:
        The member, for `train_epoch`.

    Raises:
        ZoojaxError: If the sparsifier has an invalid option, or more than one value of it, or what
            it needs is missing or invalid.

    Example:
        >>> member = zoojax.functional.init("small", seed=1)
        >>> pruned = zoojax.functional.sparsify(member, zoojax.MagnitudePruning(ratios=(0.5,)))
        >>> float((pruned.params["fc1"]["kernel"] == 0).mean()) > 0.3
        True
    """
    check_member(member)
    if not isinstance(sparsifier, Sparsifier):
        raise ZoojaxError(f"sparsifier is {printable(sparsifier, 60)}; give a zoojax.Sparsifier")
    sparsifier.check_architecture(member.architecture)
    # The table is built on the host: a traced seed is set below.
    seed = 0 if arguments.is_traced(member.seed) else int(member.seed)
    row = sparsifier.members(pl.DataFrame({"id": [0], "seed": [seed]}))
    if len(row) != 1:
        options = ", ".join(sparsifier.per_member)
        raise ZoojaxError(
            f"the sparsifier describes {len(row)} members; give one each of {options}"
        )
    params = member.sparse_params
    values = jax.tree.map(lambda x: x[0], sparsifier.member_values(row, params))
    if "seed" in values:
        values["seed"] = member.seed
    needs, train = sparsifier.needs or Needs(), None
    if needs.images:
        if images is None or labels is None:
            raise ZoojaxError(f"{sparsifier.label} needs training images; give images and labels")
        pixels = checked_images(member.architecture, images)
        classes = checked_labels(member.architecture, labels, len(pixels))
        train = jnp.asarray(pixels), jnp.asarray(classes)
    if needs.rewind_epoch is not None:
        if rewind is None:
            raise ZoojaxError(f"{sparsifier.label} rewinds weights; give rewind")
        rewind = checked_arrays(member.architecture, rewind, ())
    parts = init_member(
        *(sparsifier, member.architecture, member.activation, params, values),
        *(member.state.collections, member.seed, rewind, train),
    )
    return _with_sparsifier(member, sparsifier, *parts)


def prune(member: Member, mask: dict[str, Any]) -> Member:
    """Sets weights of a member to zero, where `train_epoch` keeps them, and restarts at epoch 0.

    Args:
        member: The member.
        mask: Bool arrays in the structure of the parameters, False for weights to prune, such
            as the result of `magnitude_mask`. Only the masks of kernels are used.

    Returns:
        The pruned member.

    Raises:
        ZoojaxError: If the mask lacks a kernel, is not bool, or has the wrong shape.

    Example:
        >>> from zoojax.functional import init, magnitude_mask, prune
        >>> member = init("small", seed=1)
        >>> def prune_at(ratio):
        ...     return prune(member, magnitude_mask(member.params, ratio))
        >>> members = jax.jit(jax.vmap(prune_at))(jnp.array([0.5, 0.9]))
        >>> members.params["conv1"]["kernel"].shape
        (2, 5, 5, 1, 8)
    """
    check_member(member)
    params = member.sparse_params
    checked = _checked_mask(mask, kernels(params))
    sparsifier = MagnitudePruning()
    trainable = sparsifier.project({"params": params}, {"mask": checked})
    return _with_sparsifier(member, sparsifier, trainable, {"mask": checked})


def check_member(member: Any) -> None:
    """Raises ZoojaxError if a value is not one member."""
    if not isinstance(member, Member):
        raise ZoojaxError(
            f"member is {printable(type(member).__name__, 60)}; give a Member, which init returns"
        )
    if jnp.shape(member.seed):
        raise ZoojaxError(
            f"member is a population of shape {jnp.shape(member.seed)}; "
            "map the function over it with jax.vmap"
        )


def _architecture(architecture: Any) -> Architecture:
    if isinstance(architecture, Architecture):
        return architecture
    if not isinstance(architecture, str):
        raise ZoojaxError(
            f"architecture is {printable(architecture, 60)}; give a name or an Architecture"
        )
    return registered_architecture(architecture, channels=1)


def _with_sparsifier(
    member: Member, sparsifier: Sparsifier, trainable: dict, fixed: dict
) -> Member:
    trainable = jax.tree.map(jnp.asarray, trainable)
    state = init_state(trainable, fixed, member.optimizer, member.state.collections)
    return dataclasses.replace(
        member, state=state, epoch=jnp.int32(0), sparsifier=sparsifier.shared()
    )


def _checked_mask(mask: Any, weights: dict[str, Array]) -> dict[str, Array]:
    """Returns the mask by layer path, as sparsifiers keep it."""
    if not isinstance(mask, dict) or not all(isinstance(tree, dict) for tree in mask.values()):
        raise ZoojaxError("mask is not a dict of layers; give bool arrays, structured as params")
    layers, checked = flat_layers(mask), {}
    for path, weight in weights.items():
        array = layers.get(path, {}).get(WEIGHT)
        shape = jnp.shape(weight)
        if not arguments.is_array(array) or (array.dtype, array.shape) != (jnp.bool_, shape):
            raise ZoojaxError(
                f"mask of {path}/{WEIGHT} is {arguments.described(array)}; give bool {shape}"
            )
        checked[path] = jnp.asarray(array)
    return checked
