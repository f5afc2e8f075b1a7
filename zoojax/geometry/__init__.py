"""Geometry of a zoo: what lies between its members, and how similar they are.

>>> matched = zoojax.geometry.match_weights(zoo.config.shape, zoo.params(), zoo.member(0))
>>> bool((matched.after <= matched.before).all())
True
"""

from zoojax.geometry.matching import Matching, match_weights
from zoojax.geometry.transforms import SYMMETRIES as SYMMETRIES
from zoojax.geometry.transforms import Transform

__all__ = ["Matching", "Transform", "match_weights"]
