"""The architecture interface: everything that zoojax knows about a network.

An architecture is a frozen dataclass that creates a Flax module for ONE member. Weights, shapes and
collections are derived from the module with `jax.eval_shape`; `jax.vmap` maps a member's functions
over populations. There are two kinds: `zoojax.architectures.chain.Chain`, a sequence of layers, and
`zoojax.architectures.linen.LinenArchitecture`, any Linen module.
"""

import functools
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from zoojax import keys
from zoojax.architectures.layers import INITS, PLAIN, Layers
from zoojax.architectures.parameters import flat_layers
from zoojax.architectures.permuted_axes import PermutationGroup, group_units
from zoojax.architectures.rescalings import Rescaling
from zoojax.architectures.vectors import VectorLayout
from zoojax.errors import ZoojaxError
from zoojax.ops import Noise
from zoojax.ops.noise import SLOTS
from zoojax.tasks import CLASSIFICATION, Task
from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.ops.kernel.spec import KernelSpec

# Variables that are neither parameters nor collections of the network.
_NOT_COLLECTIONS = ("params", "variance")


class Module(Protocol):
    """The methods of a `flax.linen.Module` that zoojax calls."""

    def init(self, *args: Any, **kwargs: Any) -> Any: ...
    def apply(self, *args: Any, **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class Architecture:
    """Base class of architectures; hashable, since it is a static part of programs.

    Attributes:
        name: Name under which it is registered.
        size: Side of the square input images, in pixels.
        channels: Number of channels of the input images.
        classes: Number of classes; for networks that learn an image, the channels of the image.
        task: What members learn.

    Example:
        >>> import flax.linen as nn
        >>> from dataclasses import dataclass
        >>> class Network(nn.Module):
        ...     features: int
        ...     @nn.compact
        ...     def __call__(self, images, noise=None, dropout_rate=None, **options):
        ...         return nn.Dense(self.features)(images.reshape(len(images), -1))
        >>> @dataclass(frozen=True)
        ... class Linear(zoojax.Architecture):
        ...     def module(self, activation, init, layers=None):
        ...         return Network(self.classes)
        >>> architecture = Linear("linear", size=8, channels=1, classes=10)
        >>> architecture.parameter_shapes()
        {'Dense_0': {'bias': (10,), 'kernel': (64, 10)}}
        >>> zoojax.register_architecture("linear", lambda c, n: Linear("linear", 8, c, n))
    """

    name: str
    size: int
    channels: int
    classes: int
    task: Task = field(default=CLASSIFICATION, kw_only=True, repr=False)

    def module(self, activation: str, init: str, layers: Layers = PLAIN) -> Module:
        """Creates the Flax module of one member.

        Args:
            activation: A name of `zoojax.architectures.layers.ACTIVATIONS`.
            init: A name of `zoojax.architectures.layers.INITS`, used only by `init`.
            layers: Modules to build the network from. Sparsifiers that sample pre-activations
                replace them; a network that does not use them can be trained densely and pruned.

        Returns:
            A module that is called with (images [B, H, W, C], noise=None, dropout_rate=None) and
            the keyword arguments train=False and mask=None, and returns logits [B, classes].
            `noise` is None in evaluation; layer i draws from `noise.at(i)`. `mask` [B] is True
            for images that are not padding, for batch statistics; None in evaluation.

        Example:
            >>> module = zoo.config.shape.module("tanh", "uniform")
            >>> jax.jit(module.apply)({"params": zoo.member(0)}, images).shape
            (65, 10)
        """
        raise NotImplementedError(f"{type(self).__name__} does not define its module")

    @property
    def label(self) -> str:
        """Name in texts."""
        return f"{self.name} network"

    @property
    def kernel(self) -> "KernelSpec | None":
        """The chain of operations that the CPU kernel computes; None to always use XLA."""
        return None

    @property
    def kernel_gap(self) -> str:
        """Why the CPU kernel cannot compute the network if `kernel` is None; otherwise empty."""
        return "" if self.kernel else "it computes only chains of layers"

    @property
    def permutations(self) -> tuple[PermutationGroup, ...]:
        """Axes of the parameters that are permuted together, one group per set of hidden units.

        Statistics of the units in collections belong to the groups, too. By default there are no
        groups: nothing is permuted.
        """
        return ()

    def rescalings(self, activation: str) -> tuple[Rescaling, ...]:
        """Returns the factors of hidden units that do not change the function of a member.

        Args:
            activation: Activation of the member.

        Returns:
            At most one entry per permutation group; by default there are none.

        Example:
            >>> mlp = zoojax.train_zoo(
            ...     data=(images, labels), architecture="mlp-8", members=1, epochs=0, quiet=True
            ... ).config.shape
            >>> [(each.group, each.kind) for each in mlp.rescalings("relu")]
            [(0, 'scale')]
        """
        return ()

    @property
    def unit_groups(self) -> tuple[PermutationGroup, ...]:
        """Axes of the parameters that hold the same hidden units, one group per set of units.

        By default those of `permutations`. Chains also list units that cannot be permuted.
        """
        return self.permutations

    def narrowed(self, units: tuple[int, ...]) -> "Architecture":
        """Returns the same network with fewer hidden units.

        Args:
            units: Number of units of each permutation group.

        Raises:
            ZoojaxError: If it cannot be described, which is the default, or if the function of the
                network depends on the number of units.

        Example:
            >>> smaller = zoo.config.shape.narrowed((3, 6, 4, 20))
            >>> smaller.parameter_shapes()["conv2"]["kernel"]
            (5, 5, 3, 6)
        """
        raise ZoojaxError(
            f"architecture {printable(self.name, 60)} cannot be described with fewer hidden units; "
            "chains of layers can, and architectures that define narrowed"
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of an input image: (size, size, channels)."""
        return self.size, self.size, self.channels

    def fits(self, size: int, channels: int) -> bool:
        """Whether members can be trained on images of a side (in pixels) and number of channels.

        Example:
            >>> zoo.config.shape.fits(size=28, channels=3)
            False
        """
        if self.task.has_own_images:
            return channels == self.classes
        return (size, channels) == (self.size, self.channels)

    @property
    def layers(self) -> tuple[str, ...]:
        """Paths of the layers with weights, in order."""
        weights = (path for path, leaves in self.parameter_shapes().items() if "kernel" in leaves)
        return tuple(sorted(weights, key=_natural_order))

    @property
    def collections(self) -> tuple[str, ...]:
        """Names of the variable collections other than parameters, such as "batch_stats"."""
        return tuple(name for name in variable_shapes(self) if name != "params")

    @property
    def parameter_count(self) -> int:
        """Number of parameters of a member."""
        layers = self.parameter_shapes().values()
        return sum(math.prod(shape) for leaves in layers for shape in leaves.values())

    @property
    def noise_slots(self) -> int:
        """Noise slots per training step: two per layer, a power of two."""
        return max(SLOTS, 1 << (2 * len(self.layers) - 1).bit_length())

    def permuted_units(self) -> tuple[int, ...]:
        """Returns the number of units of each permutation group.

        Raises:
            ZoojaxError: If a group is empty, or its axes do not exist or do not hold the same
                number of units.

        Example:
            >>> zoo.config.shape.permuted_units()
            (8, 6, 4, 20)
        """
        shapes = {
            f"{layer}/{name}": shape
            for layer, leaves in self.parameter_shapes().items()
            for name, shape in leaves.items()
        }
        if any(axis.path not in shapes for group in self.permutations for axis in group):
            for tree in variable_shapes(self).values():
                for layer, leaves in flat_layers(tree).items():
                    shapes |= {f"{layer}/{name}": leaf.shape for name, leaf in leaves.items()}
        return tuple(group_units(group, shapes) for group in self.permutations)

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Returns the shapes of one member's parameters.

        Returns:
            {layer path: {"kernel": shape, "bias": shape, ...}}. Kernels are
            [k, k, channels, features] for convolutions and [inputs, outputs] for fully connected
            layers.

        Example:
            >>> zoo.config.shape.parameter_shapes()["conv1"]
            {'kernel': (5, 5, 1, 8), 'bias': (8,)}
        """
        flat = flat_layers(variable_shapes(self)["params"])
        return {path: {n: x.shape for n, x in leaves.items()} for path, leaves in flat.items()}


@functools.cache
def vector_layout(arch: Architecture) -> VectorLayout:
    """Describes the variables of one member as a vector: parameters first, in the order of
    `Architecture.parameter_shapes`, then the other collections.
    """
    shapes = {name: flat_layers(tree) for name, tree in variable_shapes(arch).items()}
    params = shapes.pop("params")
    ordered = {path: {n: params[path][n] for n in x} for path, x in arch.parameter_shapes().items()}
    return VectorLayout.of_arrays({"params": ordered, **shapes}, arch.permutations)


@functools.cache
def variable_shapes(arch: Architecture) -> dict[str, Any]:
    """Shapes and dtypes of one member's variables, as `jax.ShapeDtypeStruct` by collection."""
    return jax.eval_shape(lambda: init_variables(arch, "uniform", 0))


def init_variables(arch: Architecture, scheme: str, seed: Array | int) -> dict[str, Any]:
    """Initializes the variables of one member; they depend only on its seed.

    Args:
        arch: The architecture.
        scheme: A name of `zoojax.architectures.layers.INITS`.
        seed: Seed of the member, a scalar integer.

    Returns:
        {"params": {layer: {"kernel": ..., "bias": ...}}} and the collections, if any.

    Raises:
        ZoojaxError: If the initialization scheme is unknown.
    """
    if scheme not in INITS:
        raise ZoojaxError(f"no initialization named '{scheme}'; there are: {', '.join(INITS)}")
    images = jnp.zeros((1, *arch.image_shape), jnp.float32)
    variables = arch.module("tanh", scheme).init(keys.stream_key(seed, "init"), images)
    return {name: dict(tree) for name, tree in variables.items()}


def init_params(arch: Architecture, scheme: str, seed: Array | int) -> dict[str, Any]:
    """Initializes the parameters of one member: `init_variables` without collections."""
    return init_variables(arch, scheme, seed)["params"]


def logits(
    module: Module,
    variables: dict[str, Any],
    images: Array,
    noise: Noise | None = None,
    dropout_rate: Array | np.ndarray | None = None,
) -> Array:
    """Computes the logits of one member in evaluation, or in training without collections.

    Args:
        module: Module of the member.
        variables: Its variables, {"params": ...} and the collections.
        images: Normalized images, [batch, size, size, channels].
        noise: Noise source of this step; None in evaluation.
        dropout_rate: Scalar; None without dropout.

    Returns:
        Logits, [batch, classes].
    """
    # Without mutable collections, apply returns only the module's result.
    result: Any = module.apply(variables, images, noise, dropout_rate)
    return result


def training_logits(
    module: Module,
    variables: dict[str, Any],
    images: Array,
    noise: Noise | None,
    dropout_rate: Array | np.ndarray | None,
    mask: Array,
) -> tuple[Array, dict[str, Any]]:
    """Computes the logits of one member in training, and its updated collections.

    Args:
        module: Module of the member.
        variables: Its variables.
        images: Normalized images, [batch, size, size, channels].
        noise: Noise source of this step.
        dropout_rate: Scalar; None without dropout.
        mask: [batch] bool, False for padding.

    Returns:
        (logits [batch, classes], collections after the step).
    """
    collections = [name for name in variables if name not in _NOT_COLLECTIONS]
    if not collections:
        return logits(module, variables, images, noise, dropout_rate), {}
    result: Any = module.apply(
        variables, images, noise, dropout_rate, train=True, mask=mask, mutable=collections
    )
    return result[0], dict(result[1])


def checked_architecture(arch: object, name: str) -> Architecture:
    """Validates what a registered function returned.

    Raises:
        ZoojaxError: If it is not an architecture, or has another name.
    """
    if not isinstance(arch, Architecture) or arch.name != name:
        raise ZoojaxError(
            f"the registered function of architecture '{printable(name, 60)}' returned "
            f"{printable(arch, 100)}, which is not an architecture of that name"
        )
    return arch


def _natural_order(path: str) -> list[tuple[int, str]]:
    """Sort key that orders "dense_2" before "dense_10"."""
    return [(int(x), "") if x.isdecimal() else (-1, x) for x in re.split(r"([0-9]+)", path)]
