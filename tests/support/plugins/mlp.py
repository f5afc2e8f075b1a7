"""An MLP with three hidden layers in a nested module, as a user of zoojax would write it."""

from dataclasses import dataclass
from itertools import pairwise

import flax.linen as nn

from zoojax.architectures.base import Architecture
from zoojax.architectures.layers import ACTIVATIONS, INITS, PLAIN, Layers
from zoojax.architectures.permuted_axes import PermutedAxis
from zoojax.architectures.registry import register_architecture


class Hidden(nn.Module):
    widths: tuple[int, ...]
    activation: str
    init_scheme: str
    layers: Layers

    @nn.compact
    def __call__(self, x, noise):
        for i, width in enumerate(self.widths):
            source = None if noise is None else noise.at(i)
            dense = self.layers.dense(width, INITS[self.init_scheme], name=f"dense{i}")
            x = ACTIVATIONS[self.activation](dense(x, source))
        return x


class MLPModule(nn.Module):
    arch: "MLP"
    activation: str
    init_scheme: str
    layers: Layers

    @nn.compact
    def __call__(self, images, noise=None, dropout_rate=None, *, train=False, mask=None):
        x = images.reshape(len(images), -1)
        x = Hidden(self.arch.hidden, self.activation, self.init_scheme, self.layers)(x, noise)
        source = None if noise is None else noise.at(len(self.arch.hidden))
        return self.layers.dense(self.arch.classes, INITS[self.init_scheme], name="head")(x, source)


@dataclass(frozen=True)
class MLP(Architecture):
    hidden: tuple[int, ...] = (16, 12, 8)

    def module(self, activation, init, layers=PLAIN):
        return MLPModule(self, activation, init, layers)

    @property
    def permutations(self):
        paths = [f"Hidden_0/dense{i}" for i in range(len(self.hidden))] + ["head"]
        places = (0, "kernel", -1), (0, "bias", -1), (1, "kernel", -2)
        return tuple(
            tuple(PermutedAxis(f"{pair[i]}/{leaf}", axis) for i, leaf, axis in places)
            for pair in pairwise(paths)
        )


register_architecture("mlp", lambda c, n: MLP("mlp", 28, c, n))
