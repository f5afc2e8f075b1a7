"""Table 3: a hyper-representation's reconstruction and the properties its embeddings predict.

    python -m zoojax.experiments.table3 --presets mnist-s-seed --members 64 --out runs/table3

R2 on held-out members: reconstructed weights and log alphas, and linear probes of four properties
from the embeddings. The paper has, in %:

    zoo            weights  alphas  accuracy  sparsity  epoch  ggap
    mnist-s-seed   78.7     79.4    96.3      98.0      53.2   19.1
    svhn-s-seed    74.8     74.2    94.5      97.6      30.2   10.5

As in the paper, the states are those of the dense zoo and of its variational-dropout twin.
`--settings small` is a smaller autoencoder than the paper's, which is `--settings paper` and needs
a GPU.
"""

import argparse

import polars as pl

from zoojax import train_representation
from zoojax.analysis.paper import published_representations
from zoojax.experiments import common
from zoojax.hyper_representation import settings
from zoojax.hyper_representation.evaluation import EMBEDDING, evaluate
from zoojax.hyper_representation.evaluation_tables import ALL_ZOOS


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Trains a hyper-representation on a zoo and its variational-dropout twin and evaluates it."""
    zoo = common.dense_zoo(options, name)
    zoos = [zoo, common.variational_zoo(options, name, zoo)]
    representation = train_representation(
        zoos,
        options.out / name / f"representation-{options.settings}",
        preset=options.settings,
        epochs=options.representation_epochs,
        data_dir=options.data_dir,
    )
    summary = evaluate(representation, zoos, [None, None]).tables["summary"]
    published = summary["zoo"].str.ends_with("(paper)")
    rows = summary.filter(published | (summary["zoo"] == ALL_ZOOS), features=EMBEDDING)
    # The layout of the paper's table, without intervals.
    rows = rows.with_columns(pl.col("zoo").replace(ALL_ZOOS, name))
    return rows.select(published_representations().columns)


def main(arguments: list[str] | None = None) -> None:
    """Trains the zoos and autoencoders, then prints and writes the table."""
    parser = common.parser("table3", __doc__)
    parser.add_argument("--settings", choices=list(settings.PRESETS), default="small")
    parser.add_argument("--representation-epochs", type=int, help="epochs of the autoencoder")
    options = parser.parse_args(arguments)
    tables = [reproduce(options, name) for name in options.presets]
    common.save_table(pl.concat(tables), options, "table3")


if __name__ == "__main__":
    raise SystemExit(common.run(main))
