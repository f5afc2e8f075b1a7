"""Table 1 (and 9): agreement of twins with the dense zoo they were made from.

    python -m zoojax.experiments.table1 --members 64 --out runs/table1

Magnitude pruning is measured after fine-tuning at the paper's ratio, variational dropout at the
epoch whose mean sparsity is nearest to the paper's. The paper has mean (std) over 1,000 members,
in %:

    zoo              MP accuracy  sparsity  agreement    VD accuracy  sparsity    agreement
    mnist-s-seed     83.7 (13.5)  80.0      82.1 (13.0)  87.6 (1.2)   78.0 (1.1)  83.4 (1.4)
    usps-s-seed      73.8 (17.3)  90.0      74.3 (17.3)  82.3 (1.5)   88.5 (0.6)  86.6 (1.1)
    svhn-s-seed      70.7 (7.7)   60.0      74.9 (2.5)   62.2 (7.2)   62.8 (2.9)  57.5 (6.0)
    fmnist-s-seed    73.6 (1.3)   70.0      79.7 (1.9)   69.3 (1.2)   72.0 (1.0)  76.2 (2.1)
    cifar10-s-seed   47.3 (1.2)   70.0      78.4 (1.2)   40.5 (1.5)   67.1 (2.8)  61.0 (2.7)
    stl10-s-seed     40.6 (0.8)   70.0      55.9 (2.8)   35.9 (1.2)   66.5 (1.3)  54.4 (2.8)
"""

import argparse

import polars as pl

from zoojax.analysis import agreement, nearest_sparsity_epoch
from zoojax.experiments import common

TABLE = "Tables 1, 9"
QUANTITIES = ("test_acc", "sparsity", "agreement")


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Measures the agreement of both twins of a preset's zoo."""
    zoo = common.dense_zoo(options, name)
    mp, vd = common.pruned_zoo(options, name, zoo), common.variational_zoo(options, name, zoo)
    ratio = common.paper_sparsity(name, TABLE, mp.config.sparsifier)
    epoch = nearest_sparsity_epoch(vd, common.paper_sparsity(name, TABLE, vd.config.sparsifier))
    parts = []
    for twin, members in (
        (mp, agreement(zoo, mp, data_dir=options.data_dir).filter(pl.col("ratio") == ratio)),
        (vd, agreement(zoo, vd, epoch, data_dir=options.data_dir)),
    ):
        members = members.drop_nulls("agreement")
        means = members.group_by(method=pl.lit(twin.config.sparsifier.method), epoch="epoch").agg(
            pl.len().alias("members"),
            pl.col(QUANTITIES).mean().name.suffix("_mean"),
            pl.col(QUANTITIES).std(ddof=0).name.suffix("_std"),
        )
        ours = common.long_format(means, QUANTITIES, ["method", "epoch"])
        parts.append(common.add_paper(ours, zoo, twin, name, TABLE, ["method"]))
    return pl.concat(parts)


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos, then prints and writes the table."""
    options = common.parser("table1", __doc__).parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table1")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
