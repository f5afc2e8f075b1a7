"""What a sparsifier may use of one member besides its weights: the network, images, a key.

`Sparsifier.needs` asks for it; `Sparsifier.init` finds it in `values["context"]`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from zoojax import keys
from zoojax.architectures import base
from zoojax.architectures.base import Architecture
from zoojax.architectures.layer_inputs import layer_inputs
from zoojax.sparsifiers.base import Batch, Sparsifier

# Images of one step of `Context.mean`.
_BATCH = 32


@dataclass(frozen=True)
class Context:
    """What `Sparsifier.init` may use of one member; its methods are pure functions.

    Random draws depend only on the member's seed: members with the same seed get the same images
    and the same key, at every ratio.

    Attributes:
        architecture: Architecture of the member, with its permutation groups.
        activation: Name of the member's activation.
        collections: Variables of the network that are not parameters, such as batch statistics.
        key: Random key of the member.
        data: Training images [images, H, W, C], drawn for the member without replacement, and their
            labels; None if the sparsifier needs none.
        rewind: Parameters of the parent at the epoch that the sparsifier needs; None if it needs
            none.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class GradientPruning(zoojax.MagnitudePruning):
        ...     '''Prunes weights with small gradients.'''
        ...     @property
        ...     def needs(self):
        ...         return zoojax.Needs(images=64)
        ...     def init(self, params, values):
        ...         context = values["context"]
        ...         gradient = context.mean(lambda batch: jax.grad(context.loss)(params, batch))
        ...         scores = {name: abs(leaves["kernel"]) for name, leaves in gradient.items()}
        ...         return super().init(params, {**values, "scores": scores})
        >>> twin = zoojax.sparsify(zoo, GradientPruning(ratios=(0.5,)), epochs=0, quiet=True)
        >>> twin.metrics["sparsity"].to_list()
        [0.5, 0.5, 0.5]
    """

    architecture: Architecture
    activation: str
    collections: dict[str, Any]
    key: Array
    data: Batch | None = None
    rewind: dict[str, Any] | None = None

    def logits(self, params: dict[str, Any], images: Array, activation: str | None = None) -> Array:
        """Computes the logits of the member with given parameters, in evaluation.

        Args:
            params: Parameters, structured as those of the member.
            images: Normalized images, [B, H, W, C].
            activation: Name of another activation; None for the member's own.

        Returns:
            Logits, [B, classes].

        Example:
            >>> from zoojax.sparsifiers.context import Context
            >>> context = Context(zoo.config.shape, "tanh", {}, jax.random.key(1))
            >>> context.logits(zoo.member(0), jnp.asarray(images)).shape
            (65, 10)
        """
        module = self._module(activation)
        return base.logits(module, {"params": params, **self.collections}, images)

    def loss(self, params: dict[str, Any], batch: Batch, temperature: float = 1.0) -> Array:
        """Computes the mean cross entropy of the member with given parameters, in evaluation.

        Args:
            params: Parameters, structured as those of the member.
            batch: Images and labels, without indices.
            temperature: Divisor of the logits.

        Returns:
            Scalar.

        Example:
            >>> from zoojax.sparsifiers.base import Batch
            >>> from zoojax.sparsifiers.context import Context
            >>> context = Context(zoo.config.shape, "tanh", {}, jax.random.key(1))
            >>> batch = Batch(jnp.asarray(images), jnp.asarray(labels), jnp.ones(65))
            >>> context.loss(zoo.member(0), batch).shape
            ()
        """
        logits = self.logits(params, batch.images) / temperature
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return jnp.sum(losses * batch.weights) / jnp.sum(batch.weights)

    def inputs(self, params: dict[str, Any], images: Array) -> dict[str, Array]:
        """Computes the inputs of each layer with weights, in evaluation.

        Args:
            params: Parameters, structured as those of the member.
            images: Normalized images, [B, H, W, C].

        Returns:
            {layer path: rows [rows, fan_in]} in the order of the kernel reshaped to [fan_in,
            features]; see `zoojax.architectures.layer_inputs`.

        Raises:
            ZoojaxError: If a layer is neither a convolution nor fully connected.

        Example:
            >>> from zoojax.sparsifiers.context import Context
            >>> context = Context(zoo.config.shape, "tanh", {}, jax.random.key(1))
            >>> context.inputs(zoo.member(0), jnp.asarray(images))["fc2"].shape
            (65, 20)
        """
        variables = {"params": params, **self.collections}
        return layer_inputs(self.architecture, self._module(None), variables, images)

    def mean(self, function: Callable[[Batch], Any]) -> Any:
        """Averages a function over the drawn images, in small batches.

        Args:
            function: Maps a batch to a pytree of means over its images.

        Returns:
            The means over all images.

        Example:
            >>> from zoojax.sparsifiers.base import Batch
            >>> from zoojax.sparsifiers.context import Context
            >>> data = Batch(jnp.asarray(images), jnp.asarray(labels), jnp.ones(65))
            >>> context = Context(zoo.config.shape, "tanh", {}, jax.random.key(1), data)
            >>> abs(float(context.mean(lambda batch: batch.images.mean())) - images.mean()) < 1e-6
            True
        """
        assert self.data is not None, "the sparsifier asks for no images"
        count = len(self.data.labels)
        whole = count // _BATCH * _BATCH
        # The last batch is smaller, since functions know nothing of padding.
        rest = jax.tree.map(lambda x: x[whole:], self.data)
        if not whole:
            return function(rest)
        batches = jax.tree.map(lambda x: x[:whole].reshape(-1, _BATCH, *x.shape[1:]), self.data)

        def add(total: Any, batch: Batch) -> tuple[Any, None]:
            share = len(batch.labels) / count
            return jax.tree.map(lambda t, x: t + share * x, total, function(batch)), None

        shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], batches))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, batches)
        return add(total, rest)[0] if whole < count else total

    def _module(self, activation: str | None) -> base.Module:
        # The initialization is used only to initialize members.
        return self.architecture.module(activation or self.activation, "uniform")


def init_member(
    sparsifier: Sparsifier,
    architecture: Architecture,
    activation: str,
    params: dict[str, Any],
    values: dict[str, Any],
    collections: dict[str, Any],
    seed: Array,
    rewind: dict[str, Any] | None = None,
    train: tuple[Array, Array] | None = None,
) -> tuple[dict, dict]:
    """Creates the initial state of one member, with the context that its sparsifier needs.

    Args:
        sparsifier: The sparsifier.
        architecture: Architecture of the member.
        activation: Name of its activation.
        params: Parameters of the parent.
        values: See `Sparsifier.init`; without the context.
        collections: Variables of the network that are not parameters.
        seed: Seed of the member, uint32.
        rewind: Parameters of the parent at the epoch `sparsifier.needs.rewind_epoch`.
        train: Training images [n, H, W, C] and labels [n]; None if no images are needed.

    Returns:
        (trainable, fixed); see `Sparsifier.init`.
    """
    needs = sparsifier.needs
    if needs is None:
        return sparsifier.init(params, values)
    key = keys.stream_key(seed, "sparsifier")
    data = None
    if train is not None:
        images, labels = train
        chosen = keys.permutation(jax.random.fold_in(key, 0), len(labels))[: needs.images]
        data = Batch(images[chosen], labels[chosen], jnp.ones(chosen.shape, jnp.float32))
    own_key = jax.random.fold_in(key, 1)
    context = Context(architecture, activation, collections, own_key, data, rewind)
    return sparsifier.init(params, {**values, "context": context})
