"""Table 8: sparsity of each layer after magnitude pruning.

    python -m zoojax.experiments.table8 --members 64 --out runs/table8

The paper has mean (std) over 1,000 members in %, after fine-tuning. For usps-s-seed:

    ratio  conv1        conv2       conv3       fc1         fc2         accuracy     ggap
    50     41.4 (9.2)   64.4 (3.8)  29.0 (4.4)  42.0 (4.0)  11.2 (2.6)  90.1 (1.0)   5.0 (0.6)
    70     62.9 (11.1)  86.5 (2.8)  45.6 (6.3)  62.0 (5.0)  18.4 (3.9)  89.5 (1.0)   4.8 (0.6)
    90     94.0 (4.4)   99.5 (0.3)  77.6 (7.0)  89.2 (3.9)  37.4 (5.7)  73.8 (17.3)  3.3 (1.6)

For the other zoos see the printed table, or `zoojax.analysis.paper_results`.
"""

import argparse

import polars as pl

from zoojax.analysis import summary
from zoojax.experiments import common

RATIOS = (0.5, 0.7, 0.9)
# The paper has the same sparsity in every layer of this zoo: it was pruned layer by layer.
SCOPES = {"svhn-s-seed": "layer"}


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Prunes a preset's zoo and summarizes its layers after fine-tuning."""
    zoo = common.dense_zoo(options, name)
    mp = common.pruned_zoo(options, name, zoo, scope=SCOPES.get(name, "global"))
    table = summary(mp).filter(pl.col("ratio").is_in(RATIOS), epoch=mp.newest_epoch)
    quantities = [*common.layer_quantities(mp), "test_acc", "ggap"]
    ours = common.long_format(table, quantities, ["ratio"])
    return common.add_paper(ours, zoo, mp, name, "Table 8", ["ratio"])


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the table."""
    options = common.parser("table8", __doc__).parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table8")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
