"""A residual CNN with batch normalization, as a user of zoojax would write it."""

from dataclasses import dataclass, replace

import flax.linen as nn

from zoojax.architectures.base import Architecture
from zoojax.architectures.layers import ACTIVATIONS, INITS, PLAIN, ConvSpec, Layers
from zoojax.architectures.permuted_axes import PermutedAxis
from zoojax.architectures.registry import register_architecture
from zoojax.ops import max_pool


class ResidualModule(nn.Module):
    arch: "ResidualCNN"
    activation: str
    init_scheme: str
    layers: Layers

    @nn.compact
    def __call__(self, images, noise=None, dropout_rate=None, *, train=False, mask=None):
        activation, init = ACTIVATIONS[self.activation], INITS[self.init_scheme]

        def layer_noise(index):
            return None if noise is None else noise.at(index)

        def conv(x, index, name, pool=1):
            spec = ConvSpec(self.arch.features, kernel=3, pool=pool, padding=(1, 1))
            y = max_pool(self.layers.conv(spec, init, name=name)(x, layer_noise(index)))
            valid = None if mask is None else mask[:, None, None, None]
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name=f"{name}_norm")
            return activation(norm(y, mask=valid))

        x = conv(images, 0, "stem", pool=4)
        x = x + conv(x, 1, "block")
        head = self.layers.dense(self.arch.classes, init, name="head")
        return head(x.mean((1, 2)), layer_noise(2))


@dataclass(frozen=True)
class ResidualCNN(Architecture):
    features: int = 6

    def module(self, activation, init, layers=PLAIN):
        return ResidualModule(self, activation, init, layers)

    def narrowed(self, units):
        return replace(self, features=units[0])

    @property
    def permutations(self):
        # The residual connection ties the channels of both convolutions.
        outputs = [f"{n}/{leaf}" for n in ("stem", "block") for leaf in ("kernel", "bias")]
        leaves = ("scale", "bias", "mean", "var")
        outputs += [f"{n}_norm/{leaf}" for n in ("stem", "block") for leaf in leaves]
        axes = [(p, -1) for p in outputs] + [(p, -2) for p in ("block/kernel", "head/kernel")]
        return (tuple(PermutedAxis(*axis) for axis in axes),)


register_architecture("residual_cnn", lambda c, n: ResidualCNN("residual_cnn", 28, c, n))
