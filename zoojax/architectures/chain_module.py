"""The Linen module of a chain, for ONE member; `jax.vmap` maps it over populations.

Parameters are a plain dict with the layers by name, each {"kernel", "bias"}. Kernels have Flax's
axis order (HWIO and [in, out]); images have their channels last.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
from jax import Array

from zoojax import ops
from zoojax.architectures import chain_layers as data
from zoojax.architectures.layers import ACTIVATIONS, LAYER_ACTIVATIONS, ConvSpec, Layers, layer_init
from zoojax.ops import Noise

if TYPE_CHECKING:
    from zoojax.architectures.chain import Chain, Step


class _Call(NamedTuple):
    """Arguments of the module that layers use, and the inputs of the layers with weights so far."""

    noise: Noise | None
    dropout_rate: Array | None
    train: bool
    mask: Array | None
    blocks: list[Array]

    def noise_at(self, step: "Step") -> Noise | None:
        return None if self.noise is None or step.slot is None else self.noise.at(step.slot)


class ChainModule(nn.Module):
    """The layers of a chain, one after the other.

    Attributes:
        chain: The layers.
        activation: A name of ACTIVATIONS, for activations without a name of their own.
        init_scheme: A name of INITS; used only by `init`.
        layers: Modules of the layers with weights; variational dropout replaces them.
    """

    chain: "Chain"
    activation: str
    init_scheme: str
    layers: Layers

    @nn.compact
    def __call__(
        self,
        x_BHWC: Array,
        noise: Noise | None = None,
        dropout_rate: Array | None = None,
        *,
        train: bool = False,
        mask: Array | None = None,
    ) -> Array:
        """Computes the logits.

        Args:
            x_BHWC: Normalized images, [batch, size, size, channels].
            noise: Noise source of this step, for stochastic layers and dropout.
            dropout_rate: Traced scalar; None without dropout (in evaluation, and for members
                that are trained without it).
            train: Whether batch statistics are computed from this batch.
            mask: [batch], False for padding; None in evaluation.

        Returns:
            Logits, [batch, classes].
        """
        x, call = x_BHWC, _Call(noise, dropout_rate, train, mask, [])
        for position, step in enumerate(self.chain.steps):
            if step.layer.has_weights:
                call.blocks.append(x)
            x = _APPLY[type(step.layer)](self, position, x, call)
        return x


def _conv(module: ChainModule, position: int, x_BHWC: Array, call: _Call) -> Array:
    """Computes a convolution, laid out if max pooling by two follows (see `zoojax.ops.conv`)."""
    step, following = module.chain.steps[position], module.chain.sequence[position + 1 :]
    layer = step.layer
    assert isinstance(layer, data.Conv)
    padding = layer.borders(step.inputs[0])
    is_laid_out = following[:1] == (data.MaxPool(2),) and (layer.stride, padding) == (1, (0, 0))
    spec = ConvSpec(layer.features, layer.kernel, 2 if is_laid_out else 1, layer.stride, padding)
    init = layer_init(module.init_scheme, step.slot == 0)
    conv = module.layers.conv(spec, init, name=step.name)
    y_BHPQWO = conv(x_BHWC, call.noise_at(step))
    return y_BHPQWO if is_laid_out else ops.max_pool(y_BHPQWO)


def _pool(reduce: Callable[[Array], Array], fill: float) -> Callable[..., Array]:
    """Creates a pooling layer of a reduction over windows."""

    def apply(module: ChainModule, position: int, x: Array, call: _Call) -> Array:
        layer, side = module.chain.steps[position].layer, module.chain.steps[position].inputs[0]
        assert isinstance(layer, data.Pool)
        # A convolution has laid out six axes.
        if x.ndim == 4:
            x = ops.windows(x, layer.window, layer.step, layer.borders(side), fill)
        return reduce(x)

    return apply


def _dense(module: ChainModule, position: int, x_BC: Array, call: _Call) -> Array:
    step = module.chain.steps[position]
    init = layer_init(module.init_scheme, step.slot == 0)
    dense = module.layers.dense(step.outputs[-1], init, name=step.name)
    return dense(x_BC, call.noise_at(step))


def _activation(module: ChainModule, position: int, x: Array, call: _Call) -> Array:
    layer = module.chain.steps[position].layer
    assert isinstance(layer, data.Activation)
    if layer.name is None:
        return ACTIVATIONS[module.activation](x)
    return LAYER_ACTIVATIONS[layer.name](x, layer.omega)


def _dropout(module: ChainModule, position: int, x: Array, call: _Call) -> Array:
    if call.dropout_rate is None or call.noise is None:
        return x
    slot = module.chain.steps[position].slot
    assert slot is not None
    return ops.dropout(x, call.dropout_rate, call.noise.at(slot))


def _flatten(module: ChainModule, position: int, x: Array, call: _Call) -> Array:
    return x.reshape(x.shape[0], -1)


def _skip(module: ChainModule, position: int, x: Array, call: _Call) -> Array:
    layer = module.chain.steps[position].layer
    assert isinstance(layer, data.Skip)
    earlier = call.blocks[layer.block]
    shared = min(x.shape[-1], earlier.shape[-1])
    return x.at[..., :shared].add(earlier[..., :shared])


def _global_average(module: ChainModule, position: int, x_BHWC: Array, call: _Call) -> Array:
    return x_BHWC.mean((1, 2))


def _normalization(module: ChainModule, position: int, x: Array, call: _Call) -> Array:
    step = module.chain.steps[position]
    assert isinstance(step.layer, data.Normalization)
    if step.layer.kind == "group":
        return nn.GroupNorm(step.layer.groups, epsilon=1e-5, name=step.name)(x)
    if step.layer.kind == "layer":
        return nn.LayerNorm(epsilon=1e-5, name=step.name)(x)
    valid = None if call.mask is None else call.mask.reshape(-1, *(1,) * (x.ndim - 1))
    # The momentum of torch: 0.1 of each batch.
    norm = nn.BatchNorm(use_running_average=not call.train, momentum=0.9, name=step.name)
    return norm(x, mask=valid)


_APPLY: dict[type[data.Layer], Callable[[ChainModule, int, Array, _Call], Array]] = {
    data.Conv: _conv,
    data.MaxPool: _pool(ops.max_pool, -float("inf")),
    data.AvgPool: _pool(ops.avg_pool, 0.0),
    data.GlobalAvgPool: _global_average,
    data.Flatten: _flatten,
    data.Dense: _dense,
    data.Activation: _activation,
    data.Dropout: _dropout,
    data.Skip: _skip,
    data.Normalization: _normalization,
}
