"""Geometry of a zoo: alignment, connectivity, merging, curvature and similarity of members.

>>> aligned = zoojax.geometry.align(zoo, to=0)
>>> aligned.zoo.epochs
[0, 1, 2]
"""

from zoojax.geometry.activation_matching import match_activations
from zoojax.geometry.align import align, align_twin
from zoojax.geometry.basins import basins
from zoojax.geometry.canonical import canonical_transform
from zoojax.geometry.cka import cka, layer_similarity
from zoojax.geometry.curvature import hessian_trace, top_eigenvalues
from zoojax.geometry.curves import Curves, curves
from zoojax.geometry.descent import Matching
from zoojax.geometry.lines import barriers, lines
from zoojax.geometry.masks import chance_iou, mask_iou, mask_overlap
from zoojax.geometry.matched_pairs import member_pairs
from zoojax.geometry.matching import match_weights
from zoojax.geometry.members import Members, members_at
from zoojax.geometry.merging import Soup, average_epochs, soup
from zoojax.geometry.similarity import (
    WeightSimilarity,
    effective_dimension,
    similarity_by_epoch,
    weight_similarity,
)
from zoojax.geometry.stored import Alignment, open_alignment
from zoojax.geometry.transfer import transfer_masks, transfer_table
from zoojax.geometry.transforms import SYMMETRIES as SYMMETRIES
from zoojax.geometry.transforms import Transform

__all__ = [
    "Alignment",
    "Curves",
    "Matching",
    "Members",
    "Soup",
    "Transform",
    "WeightSimilarity",
    "align",
    "align_twin",
    "average_epochs",
    "barriers",
    "basins",
    "canonical_transform",
    "chance_iou",
    "cka",
    "curves",
    "effective_dimension",
    "hessian_trace",
    "layer_similarity",
    "lines",
    "mask_iou",
    "mask_overlap",
    "match_activations",
    "match_weights",
    "member_pairs",
    "members_at",
    "open_alignment",
    "similarity_by_epoch",
    "soup",
    "top_eigenvalues",
    "transfer_masks",
    "transfer_table",
    "weight_similarity",
]
