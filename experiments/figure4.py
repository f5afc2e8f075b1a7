"""Figure 4: sparsity of layers over their size, with variational dropout.

    python -m zoojax.experiments.figure4 --members 64 --out runs/figure4

Mean and standard deviation over members at epochs 5, 10, 15 and 20, on logarithmic axes. The paper
pools all zoos in one figure; this script draws one figure per preset. The expected result is that
larger layers are sparser. For usps-s-seed the paper has these means (Table 7), in %:

    layer     conv1  fc2   conv3  fc1   conv2
    weights   200    200   96     720   1200
    epoch 5   55.4   19.2  30.6   58.2  80.8
    epoch 10  79.6   41.1  62.2   85.4  94.6
    epoch 15  89.4   59.9  79.5   92.9  97.4
    epoch 20  92.9   71.6  86.1   95.3  97.5
"""

import argparse
from pathlib import Path

from zoojax.analysis import analyze
from zoojax.experiments import common


def reproduce(options: argparse.Namespace, name: str) -> Path:
    """Draws layer sparsity over layer size for a preset's variational-dropout twin."""
    zoo = common.dense_zoo(options, name)
    vd = common.variational_zoo(options, name, zoo)
    analysis = analyze(zoo, [vd], data_dir=options.data_dir)
    return common.save_figure(analysis, "layer_size", options, f"figure4-{name}")


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos and draws one figure per preset."""
    options = common.parser("figure4", __doc__).parse_args(arguments)
    for name in options.presets:
        reproduce(options, name)


if __name__ == "__main__":
    raise SystemExit(common.run(main))
