"""Figure 2: test accuracy and sparsity of all members over the epochs.

    python -m zoojax.experiments.figure2 --members 64 --out runs/figure2

Panels: test accuracy while the dense zoo is trained; test accuracy and sparsity while its twin is
trained with variational dropout. The paper shows mnist-s-seed (--presets mnist-s-seed): accuracy
and sparsity of single members stay close to their mean. Its means there (Table 6) are a test
accuracy of 91.1 % before and 87.6 % after 25 epochs, and a sparsity of 0.2 % before and 78.5 %
after. For usps-s-seed: 87.0 % and 71.4 %, 0.6 % and 94.5 %.
"""

import argparse
from pathlib import Path

from zoojax.analysis import analyze
from zoojax.experiments import common


def reproduce(options: argparse.Namespace, name: str) -> Path:
    """Draws the trajectories of a preset's zoo and its variational-dropout twin."""
    zoo = common.dense_zoo(options, name)
    vd = common.variational_zoo(options, name, zoo)
    analysis = analyze(zoo, [vd], data_dir=options.data_dir)
    return common.save_figure(analysis, "trajectories", options, f"figure2-{name}")


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos and draws one figure per preset."""
    options = common.parser("figure2", __doc__).parse_args(arguments)
    for name in options.presets:
        reproduce(options, name)


if __name__ == "__main__":
    raise SystemExit(common.run(main))
