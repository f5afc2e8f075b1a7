"""Table 4: configuration of the zoos and of their sparsification.

    python -m zoojax.experiments.table4 --out runs/table4

Trains nothing: the values are those of `zoojax.presets`. The paper has 2,416 weights for the
small CNN with one channel, 2,816 with three, and 10,760 for the large CNN; biases are not counted.
It lists no learning rate of magnitude pruning for fmnist-s-fixed, -random and cifar10-l-fixed,
-random, which it did not prune; zoojax would fine-tune those with each member's own. Its 3e4 for
variational dropout on fmnist-s-seed is a misprint of 3e-4.
"""

import math
from collections.abc import Iterable

import polars as pl

from zoojax.architectures import parameters
from zoojax.architectures.base import variable_shapes
from zoojax.architectures.registry import architecture
from zoojax.experiments import common
from zoojax.hyperparameters.draws import Distribution
from zoojax.presets import preset

ZOOS = (
    *("mnist-s-seed", "mnist-s-random", "mnist-s-fixed", "svhn-s-seed"),
    *("fmnist-s-seed", "fmnist-s-random", "fmnist-s-fixed"),
    *("cifar10-l-seed", "cifar10-l-random", "cifar10-l-fixed", "cifar10-s-seed"),
    *("usps-s-seed", "stl10-l-seed", "stl10-s-seed"),
)


def reproduce(name: str) -> dict[str, str | int]:
    """Looks up the configuration of a preset."""
    chosen = preset(name)
    net, grid = architecture(chosen.architecture, chosen.data.channels), chosen.grid
    shapes = variable_shapes(net)["params"]
    rates = {
        twin.sparsifier.method: grid.learning_rates
        if twin.learning_rate is None
        else (twin.learning_rate,)
        for twin in chosen.twins
    }
    return {
        "zoo": name,
        "weights": sum(math.prod(w.shape) for w in parameters.kernels(shapes).values()),
        "activation": _joined(grid.activations),
        "optimizer": _joined(grid.optimizers),
        **{f"learning_rate_{method}": _joined(rate) for method, rate in rates.items()},
        "weight_decay": _joined(grid.weight_decays),
        "dropout": _joined(grid.dropouts),
    }


def _joined(values: Iterable[str | float] | Distribution) -> str:
    if isinstance(values, Distribution):
        return str(values)
    return ", ".join(v if isinstance(v, str) else f"{v:g}" for v in values)


def main(arguments: list[str] | None = None) -> None:
    """Prints and writes the table."""
    parser = common.parser("table4", __doc__)
    parser.set_defaults(presets=list(ZOOS))
    options = parser.parse_args(arguments)
    table = pl.DataFrame([reproduce(name) for name in options.presets])
    common.save_table(table, options, "table4")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
