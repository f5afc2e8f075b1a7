"""Figure 3: how often each weight is pruned by variational dropout.

    python -m zoojax.experiments.figure3 --members 64 --out runs/figure3

One image per layer and epoch: the percentage of members in which a weight is zero. The paper
shows mnist-s-seed (--presets mnist-s-seed): weights of a layer are pruned about equally often,
and layers are pruned in different phases. Its mean sparsity of the layers conv1, conv2, conv3, fc1
and fc2 (Table 7) is 41.4, 55.2, 40.7, 67.6 and 37.7 % at epoch 5, and 55.7, 68.8, 80.0, 93.3 and
75.2 % at epoch 20.
"""

import argparse
from pathlib import Path

from zoojax.analysis import analyze
from zoojax.experiments import common


def reproduce(options: argparse.Namespace, name: str) -> Path:
    """Draws the pruning frequency of the weights of a preset's variational-dropout twin."""
    zoo = common.dense_zoo(options, name)
    vd = common.variational_zoo(options, name, zoo)
    analysis = analyze(zoo, [vd], data_dir=options.data_dir)
    return common.save_figure(analysis, "pruning_frequency", options, f"figure3-{name}")


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos and draws one figure per preset."""
    options = common.parser("figure3", __doc__).parse_args(arguments)
    for name in options.presets:
        reproduce(options, name)


if __name__ == "__main__":
    raise SystemExit(common.run(main))
