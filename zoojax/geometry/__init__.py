"""Geometry of a zoo: what lies between its members, and how similar they are.

>>> matched = zoojax.geometry.match_weights(zoo.config.shape, zoo.params(), zoo.member(0))
>>> bool((matched.after <= matched.before).all())
True
"""

from zoojax.geometry.arguments import check_count as check_count
from zoojax.geometry.cka import cka, layer_similarity
from zoojax.geometry.curvature import hessian_trace, top_eigenvalues
from zoojax.geometry.masks import chance_iou, mask_iou, mask_overlap
from zoojax.geometry.matching import Matching, match_weights
from zoojax.geometry.members import Members, members_at
from zoojax.geometry.pairs import member_pairs
from zoojax.geometry.similarity import (
    WeightSimilarity,
    effective_dimension,
    similarity_by_epoch,
    weight_similarity,
)
from zoojax.geometry.transfer import transfer_masks, transfer_table
from zoojax.geometry.transforms import SYMMETRIES as SYMMETRIES
from zoojax.geometry.transforms import Transform

__all__ = [
    "Matching",
    "Members",
    "Transform",
    "WeightSimilarity",
    "chance_iou",
    "cka",
    "effective_dimension",
    "hessian_trace",
    "layer_similarity",
    "mask_iou",
    "mask_overlap",
    "match_weights",
    "member_pairs",
    "members_at",
    "similarity_by_epoch",
    "top_eigenvalues",
    "transfer_masks",
    "transfer_table",
    "weight_similarity",
]
