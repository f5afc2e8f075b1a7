"""Geometry of a zoo: what lies between its members, and how similar they are.

>>> aligned = zoojax.geometry.align(zoo, to=0)
>>> aligned.zoo.epochs
[0, 1, 2]
"""

from zoojax.geometry.activation_matching import match_activations
from zoojax.geometry.align import align, align_twin
from zoojax.geometry.canonical import canonical_transform
from zoojax.geometry.curves import Curves, curves
from zoojax.geometry.lines import barriers, lines
from zoojax.geometry.matching import Matching, match_weights
from zoojax.geometry.merging import Soup, average_epochs, soup
from zoojax.geometry.stored import Alignment, open_alignment
from zoojax.geometry.transforms import SYMMETRIES as SYMMETRIES
from zoojax.geometry.transforms import Transform

__all__ = [
    "Alignment",
    "Curves",
    "Matching",
    "Soup",
    "Transform",
    "align",
    "align_twin",
    "average_epochs",
    "barriers",
    "canonical_transform",
    "curves",
    "lines",
    "match_activations",
    "match_weights",
    "open_alignment",
    "soup",
]
