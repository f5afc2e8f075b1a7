"""Table 5: accuracy and generalization gap after magnitude pruning, before and after fine-tuning.

    python -m zoojax.experiments.table5 --members 64 --out runs/table5

The paper has mean (std) over 1,000 members in %, at epochs 0 and 15. For usps-s-seed:

    ratio        0           50          60          70           80           90
    epoch 0      87.0 (1.7)  82.1 (5.0)  77.4 (7.6)  70.0 (11.4)  54.9 (15.7)  13.5 (9.8)
    epoch 15     91.0 (0.8)  90.1 (1.0)  89.9 (1.0)  89.5 (1.0)   88.5 (0.9)   73.8 (17.3)
    ggap, 0      5.1 (0.6)   4.9 (0.7)   4.7 (0.8)   4.3 (0.9)    3.6 (1.2)    1.2 (0.9)
    ggap, 15     5.1 (0.6)   5.0 (0.6)   4.9 (0.6)   4.8 (0.6)    4.6 (0.5)    3.3 (1.6)

For the other zoos see the printed table, or `zoojax.analysis.paper_results`.
"""

import argparse

import polars as pl

from zoojax.analysis import summary
from zoojax.experiments import common

KEYS = ("ratio", "epoch")


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Prunes a preset's zoo and summarizes the first and the last epoch."""
    zoo = common.dense_zoo(options, name)
    mp = common.pruned_zoo(options, name, zoo)
    table = summary(mp).filter(pl.col("epoch").is_in([0, mp.newest_epoch]))
    ours = common.long_format(table, ["test_acc", "ggap"], KEYS)
    return common.add_paper(ours, zoo, mp, name, "Table 5", KEYS)


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the table."""
    options = common.parser("table5", __doc__).parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table5")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
