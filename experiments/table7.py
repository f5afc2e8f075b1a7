"""Table 7: sparsity of each layer over the epochs of variational dropout.

    python -m zoojax.experiments.table7 --members 64 --out runs/table7

The paper has mean (std) over 1,000 members in %, with accuracy and generalization gap. For
usps-s-seed:

    epoch  conv1        conv2       conv3       fc1         fc2         accuracy    ggap
    0      0.5 (0.2)    0.9 (0.3)   0.4 (0.2)   0.5 (0.2)   0.1 (0.1)   87.0 (1.7)  5.1 (0.6)
    5      55.4 (13.0)  80.8 (2.6)  30.6 (4.2)  58.2 (4.8)  19.2 (4.4)  86.5 (1.4)  4.6 (0.5)
    10     79.6 (7.9)   94.6 (1.7)  62.2 (6.1)  85.4 (3.9)  41.1 (6.3)  83.4 (1.4)  4.6 (0.8)
    15     89.4 (4.8)   97.4 (1.1)  79.5 (5.2)  92.9 (2.6)  59.9 (5.6)  80.4 (2.0)  4.8 (1.6)
    20     92.9 (3.5)   97.5 (0.9)  86.1 (3.9)  95.3 (1.9)  71.6 (4.4)  76.5 (3.8)  5.4 (3.5)
    25     93.5 (3.3)   96.9 (1.0)  88.8 (3.2)  96.0 (1.5)  78.3 (3.7)  71.4 (6.1)  6.0 (5.7)

For the other zoos see the printed table, or `zoojax.analysis.paper_results`.
"""

import argparse

import polars as pl

from zoojax.analysis import summary
from zoojax.experiments import common

EPOCHS = (0, 5, 10, 15, 20, 25)


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Trains a preset's zoo with variational dropout and summarizes its layers."""
    zoo = common.dense_zoo(options, name)
    vd = common.variational_zoo(options, name, zoo)
    table = summary(vd).filter(pl.col("epoch").is_in(EPOCHS))
    quantities = [*common.layer_quantities(vd), "test_acc", "ggap"]
    ours = common.long_format(table, quantities, ["epoch"])
    return common.add_paper(ours, zoo, vd, name, "Table 7", ["epoch"])


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the table."""
    options = common.parser("table7", __doc__).parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table7")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
