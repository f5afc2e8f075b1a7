"""Table 2: correlation of test accuracy before and after sparsification.

    python -m zoojax.experiments.table2 --members 64 --out runs/table2

Magnitude pruning is measured after fine-tuning at a ratio of 80 %, variational dropout at the
epoch whose mean sparsity, averaged over neighboring epochs, is nearest to the paper's. Correlations
have 95 % bootstrap intervals and need 20 members. The paper has Pearson's r and Kendall's tau
over 1,000 members, in %:

    zoo              MP sparsity  r     tau     VD sparsity  r     tau
    mnist-s-seed     80.0         99.7  89.4    78.0         51.4  35.2
    usps-s-seed      80.0         90.0  71.6    88.5         52.1  35.0
    svhn-s-seed      80.0         98.7  92.0    64.7         91.6  54.7
    fmnist-s-seed    80.0         95.7  72.7    72.6         58.6  40.9
    cifar10-s-seed   80.0         97.2  82.7    67.1         72.6  45.2
    cifar10-l-seed   80.0         93.4  76.3    67.3         50.0  33.3
    stl10-s-seed     80.0         96.7  82.3    66.5         56.9  37.7
    stl10-l-seed     80.0         73.7  52.8    49.0         80.9  61.3
"""

import argparse

import polars as pl

from zoojax.analysis import correlation, nearest_sparsity_epoch
from zoojax.experiments import common

TABLE = "Table 2"


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Measures the correlation for both twins of a preset's zoo."""
    zoo = common.dense_zoo(options, name)
    mp, vd = common.pruned_zoo(options, name, zoo), common.variational_zoo(options, name, zoo)
    ratio = common.paper_sparsity(name, TABLE, mp.config.sparsifier)
    epoch = nearest_sparsity_epoch(vd, common.paper_sparsity(name, TABLE, vd.config.sparsifier))
    parts = []
    for twin, row in (
        (mp, correlation(zoo, mp).filter(ratio=ratio, epoch=mp.newest_epoch)),
        (vd, correlation(zoo, vd).filter(epoch=epoch)),
    ):
        ours = pl.concat(
            row.select(
                pl.lit(twin.config.sparsifier.method).alias("method"),
                *("epoch", "sparsity", "members"),
                pl.lit(quantity).alias("quantity"),
                pl.col(quantity).alias("mean"),
                pl.lit(None, pl.Float64).alias("std"),
                *(pl.col(f"{quantity}_{end}").alias(end) for end in ("low", "high")),
                "remark",
            )
            for quantity in ("pearson", "kendall")
        )
        parts.append(common.add_paper(ours, zoo, twin, name, TABLE, ["method"]))
    return pl.concat(parts)


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the table."""
    options = common.parser("table2", __doc__).parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table2")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
