"""Factors of hidden units that do not change the function of a network.

If an activation f is odd, f(-x) = -f(x), the sign of a unit can be moved from its incoming weights
to its outgoing weights. If f(s x) = s f(x) for all s > 0, a positive scale can be moved
(Neyshabur et al., "Path-SGD", 2015; Chen et al., "On the Geometry of Feedforward Neural Network
Error Surfaces", 1993).
"""

from typing import Literal, NamedTuple

from zoojax.architectures.permuted_axes import PermutedAxis

Kind = Literal["sign", "scale"]
# The factors that activations allow, by the name of the activation.
KINDS: dict[str, Kind] = {"tanh": "sign", "sine": "sign", "relu": "scale", "leaky_relu": "scale"}


class Rescaling(NamedTuple):
    """Factors of the hidden units of one permutation group.

    Attributes:
        group: Index of the group in `Architecture.permutations`.
        kind: "sign" for factors -1 and 1, "scale" for positive factors.
        written: Axes whose units are multiplied by their factors.
        read: Axes whose units are divided by their factors. Other axes of the group keep their
            values.
    """

    group: int
    kind: Kind
    written: tuple[PermutedAxis, ...]
    read: tuple[PermutedAxis, ...]
