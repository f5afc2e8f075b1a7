"""Table 6: accuracy, sparsity and generalization gap over the epochs of variational dropout.

    python -m zoojax.experiments.table6 --members 64 --out runs/table6

The paper has mean (std) over 1,000 members, in %. For usps-s-seed:

    epoch  accuracy    sparsity    ggap             epoch  accuracy    sparsity    ggap
    0      87.0 (1.7)  0.6 (0.2)   5.1 (0.6)        13     81.7 (1.6)  89.7 (0.5)  4.7 (1.2)
    2      87.4 (1.6)  28.5 (2.2)  4.8 (0.6)        16     79.7 (2.3)  92.3 (0.5)  4.9 (2.0)
    4      87.0 (1.5)  55.9 (1.8)  4.6 (0.5)        19     77.2 (3.7)  93.5 (0.5)  5.5 (3.4)
    6      86.0 (1.4)  71.2 (1.2)  4.5 (0.6)        22     74.5 (4.8)  94.2 (0.6)  5.8 (4.5)
    8      84.8 (1.4)  79.4 (1.0)  4.6 (0.6)        25     71.4 (6.1)  94.5 (0.6)  6.0 (5.7)
    10     83.4 (1.4)  84.9 (0.8)  4.6 (0.8)

For the other zoos see the printed table, or `zoojax.analysis.paper_results`.
"""

import argparse

import polars as pl

from zoojax.analysis import summary
from zoojax.experiments import common

EPOCHS = (0, 2, 4, 6, 8, 10, 13, 16, 19, 22, 25)


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Trains a preset's zoo with variational dropout and summarizes the paper's epochs."""
    zoo = common.dense_zoo(options, name)
    vd = common.variational_zoo(options, name, zoo)
    table = summary(vd).filter(pl.col("epoch").is_in(EPOCHS))
    ours = common.long_format(table, ["test_acc", "sparsity", "ggap"], ["epoch"])
    return common.add_paper(ours, zoo, vd, name, "Table 6", ["epoch"])


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the table."""
    options = common.parser("table6", __doc__).parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table6")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
