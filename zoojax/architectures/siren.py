"""SIRENs of any widths, named by them: "siren-64-64"; "siren" has two hidden layers of 32 units.

Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions", 2020. A
network maps the coordinates (x, y) of a pixel to its values; each member of a zoo learns one image.
The widths 32, 32 are those of the zoos of DWSNets (https://github.com/AvivNavon/DWSNets) and NFN
(https://github.com/AllanYangZhou/nfn), 64, 64 those of Implicit-Zoo
(https://github.com/qimaqi/Implicit-Zoo).
"""

from collections.abc import Sequence
from dataclasses import replace

from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Activation, Dense, Flatten, Layer
from zoojax.architectures.family import Family, are_widths
from zoojax.tasks import OWN_IMAGE

NAME = "siren"
WIDTHS = (32, 32)


def siren(hidden: Sequence[int], channels: int, classes: int) -> Chain:
    """Returns a SIREN; its input is a pair of coordinates, an image of one pixel.

    Args:
        hidden: Widths of the hidden layers.
        channels: Channels of the images that members learn.
        classes: Number of classes of these images, which the network does not use.
    """
    layers: list[Layer] = [Flatten()]
    for width in hidden:
        layers += [Dense(width), Activation("sine")]
    return Chain(FAMILY.name_of(hidden), 1, 2, channels, (*layers, Dense(channels)), task=OWN_IMAGE)


def default_siren(channels: int, classes: int) -> Chain:
    """Returns the SIREN with two hidden layers of 32 units, named "siren"; see `siren`."""
    return replace(siren(WIDTHS, channels, classes), name=NAME)


FAMILY = Family(NAME, "SIRENs", "siren-64-64", are_widths, siren)
