"""Figure 5: test accuracy over sparsity, with magnitude pruning and with variational dropout.

    python -m zoojax.experiments.figure5 --members 64 --out runs/figure5

Magnitude pruning is drawn by ratio after fine-tuning, variational dropout by epoch, with one
figure per preset (the paper draws several zoos in one). The expected result is that magnitude
pruning is more accurate up to a sparsity of about 80 %, and variational dropout beyond. For
usps-s-seed the paper has 88.5 % at a ratio of 80 % and 73.8 % at 90 % (Table 5), and with
variational dropout 84.8 % at a sparsity of 79.4 % and 81.7 % at 89.7 % (Table 6).
"""

import argparse
from pathlib import Path

from zoojax.analysis import analyze
from zoojax.experiments import common


def reproduce(options: argparse.Namespace, name: str) -> Path:
    """Draws accuracy over sparsity for both twins of a preset's zoo."""
    zoo = common.dense_zoo(options, name)
    twins = [common.pruned_zoo(options, name, zoo), common.variational_zoo(options, name, zoo)]
    analysis = analyze(zoo, twins, data_dir=options.data_dir)
    return common.save_figure(analysis, "accuracy_over_sparsity", options, f"figure5-{name}")


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos and draws one figure per preset."""
    options = common.parser("figure5", __doc__).parse_args(arguments)
    for name in options.presets:
        reproduce(options, name)


if __name__ == "__main__":
    raise SystemExit(common.run(main))
