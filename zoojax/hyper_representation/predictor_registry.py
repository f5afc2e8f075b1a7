"""The predictors of `zoojax represent evaluate --predictors`, by name."""

from collections.abc import Callable, Sequence

from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.boosting import Boosting
from zoojax.hyper_representation.equivariant_network import Equivariant
from zoojax.hyper_representation.flat_network import FlatNetwork
from zoojax.hyper_representation.predictors import Predictor
from zoojax.text import printable

# Each takes the members' architecture and a seed.
PREDICTORS: dict[str, Callable[[Architecture, int], Predictor]] = {
    "boosting": lambda arch, seed: Boosting(seed),
    "mlp": FlatNetwork,
    "equivariant": Equivariant,
}


def make_predictors(names: Sequence[str], arch: Architecture, seed: int) -> list[Predictor]:
    """Creates predictors.

    Args:
        names: Keys of PREDICTORS; duplicates count once.
        arch: Architecture of the members.
        seed: Seed of their random numbers.

    Raises:
        ZoojaxError: If a name is unknown, or a predictor does not take the architecture.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ZoojaxError(f"predictors is {printable(repr(names), 80)}; give a list of names")
    for name in names:
        if not isinstance(name, str) or name not in PREDICTORS:
            raise ZoojaxError(
                f"no predictor named {printable(repr(name), 60)}; there are: "
                f"{', '.join(PREDICTORS)}"
            )
    return [PREDICTORS[name](arch, seed) for name in dict.fromkeys(names)]
