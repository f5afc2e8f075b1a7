"""Any Flax Linen module as an architecture.

    class Net(nn.Module):
        classes: int
        activation: Callable = nn.tanh

        @nn.compact
        def __call__(self, images, train=False):
            x = self.activation(nn.Conv(8, (3, 3), name="conv")(images))
            x = nn.Dropout(0.1, deterministic=not train)(x.mean((1, 2)))
            return nn.Dense(self.classes, name="head")(x)

    register_architecture("net", lambda c, n: LinenArchitecture("net", 28, c, n, Net(n)))

`docs/architectures.md` describes permutation groups, and layers that sparsifiers can replace.
"""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
from jax import Array

from zoojax import keys
from zoojax.architectures.base import Architecture
from zoojax.architectures.layers import ACTIVATIONS, INITS, PLAIN, Layers
from zoojax.architectures.permuted_axes import PermutationGroup
from zoojax.architectures.rescalings import Rescaling
from zoojax.errors import ZoojaxError
from zoojax.ops import Noise
from zoojax.text import first_line, printable


@dataclass(frozen=True)
class LinenArchitecture(Architecture):
    """An architecture whose members are computed by a Linen module of the user, on XLA.

    The module is called with images [batch, size, size, channels], and with those of these
    arguments that its `__call__` has: `train` (whether this is a training step), `noise` and
    `dropout_rate` (see `Architecture.module`; None in evaluation), and `mask` (bool [batch], False
    for padding; None in evaluation). It returns logits [batch, classes]. In training, random
    numbers of `nn.Dropout` come from each member's own stream.

    If the module has fields named `activation` or `kernel_init`, they are set to each member's
    activation function and to the kernel initializer of its scheme. A field `layers` that is a
    `zoojax.architectures.layers.Layers` (such as `PLAIN`) is set to the layers of the sparsifier;
    variational dropout needs all layers with weights to be created with it. All weights named
    "kernel" can be pruned. Without permutation groups, hidden units are not permuted.

    Attributes:
        network: The module; its fields must be hashable.
        groups: The permutation groups; see `Architecture.permutations`.
        unit_factors: Function (activation) -> factors of hidden units; see
            `Architecture.rescalings`. None if there are none.

    Raises:
        ZoojaxError: If `network` is not a Linen module, or its fields are not hashable.
    """

    network: nn.Module
    groups: tuple[PermutationGroup, ...] = ()
    unit_factors: Callable[[str], tuple[Rescaling, ...]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.network, nn.Module):
            raise ZoojaxError(
                f"architecture {printable(self.name, 60)}: {printable(self.network, 100)} is not a "
                "Linen module; create one, such as Net(classes)"
            )
        try:
            hash(self.network)
        except TypeError as error:
            raise ZoojaxError(
                f"architecture {printable(self.name, 60)}: the fields of its module must be "
                f"hashable, such as tuples instead of lists ({first_line(error)})"
            ) from error

    def module(self, activation: str, init: str, layers: Layers = PLAIN) -> "MemberModule":
        """Creates the module of one member."""
        values: dict[str, Any] = {"activation": ACTIVATIONS[activation], "kernel_init": INITS[init]}
        # Modules of Flax have fields named `layers`, too.
        if isinstance(getattr(self.network, "layers", None), Layers):
            values["layers"] = layers
        names = {field.name for field in dataclasses.fields(self.network)}
        known = {name: value for name, value in values.items() if name in names}
        return MemberModule(self.network.clone(parent=None, **known))

    @property
    def permutations(self) -> tuple[PermutationGroup, ...]:
        """The permutation groups."""
        return self.groups

    def rescalings(self, activation: str) -> tuple[Rescaling, ...]:
        """Returns the factors of hidden units that do not change the function of a member."""
        return () if self.unit_factors is None else self.unit_factors(activation)


@dataclass(frozen=True)
class MemberModule:
    """Calls a user's module with the arguments that it has.

    Attributes:
        network: The module.
    """

    network: nn.Module

    def init(self, key: Array, images: Array) -> dict[str, Any]:
        """Returns the initial variables; see `flax.linen.Module.init`."""
        return dict(self.network.init(key, images, **self._accepted({"train": False})))

    def apply(
        self,
        variables: dict[str, Any],
        images: Array,
        noise: Noise | None = None,
        dropout_rate: Array | None = None,
        *,
        train: bool = False,
        mask: Array | None = None,
        mutable: Any = False,
    ) -> Any:
        """Applies the module to images; see `flax.linen.Module.apply`."""
        # Only training steps have noise.
        arguments = {
            "train": train or noise is not None,
            "noise": noise,
            "dropout_rate": dropout_rate,
            "mask": mask,
        }
        rngs = None if noise is None else {"dropout": keys.module_key(noise)}
        accepted = self._accepted(arguments)
        return self.network.apply(variables, images, rngs=rngs, mutable=mutable, **accepted)

    def _accepted(self, arguments: dict[str, Any]) -> dict[str, Any]:
        names = inspect.signature(type(self.network).__call__).parameters
        return {name: value for name, value in arguments.items() if name in names}
