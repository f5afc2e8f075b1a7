"""Table 3: a hyper-representation's reconstruction and the properties its embeddings predict.

    python -m zoojax.experiments.table3 --presets mnist-s-seed --members 64 --out runs/table3

R2 on held-out members: reconstructed weights and log alphas, and linear probes of four properties
from the embeddings. The paper has, in %:

    zoo            weights  alphas  accuracy  sparsity  epoch  ggap
    mnist-s-seed   78.7     79.4    96.3      98.0      53.2   19.1
    svhn-s-seed    74.8     74.2    94.5      97.6      30.2   10.5

The paper trains on the states of the dense zoo and of its twin. Here the states are those of the
variational-dropout twin, whose epoch 0 is the trained dense zoo, so accuracy and epoch are not
directly comparable. `--settings small` is a smaller autoencoder than the paper's, which
is `--settings paper` and needs a GPU.
"""

import argparse
from dataclasses import replace

import polars as pl

from zoojax.analysis.paper import published_representations
from zoojax.experiments import common
from zoojax.hyper_representation import settings
from zoojax.hyper_representation.evaluation import EMBEDDING, evaluate
from zoojax.hyper_representation.trainer import train_autoencoder


def reproduce(options: argparse.Namespace, name: str) -> pl.DataFrame:
    """Trains a hyper-representation on the variational-dropout twin and evaluates it."""
    zoo = common.dense_zoo(options, name)
    vd = common.variational_zoo(options, name, zoo)
    chosen = settings.preset(options.settings)
    if options.representation_epochs is not None:
        chosen = replace(chosen, epochs=options.representation_epochs)
    folder = options.out / name / f"representation-{options.settings}"
    representation = train_autoencoder(folder, vd, chosen)
    summary = evaluate(representation, vd, images=None).tables["summary"]
    # The layout of the paper's table, without intervals.
    return summary.filter(features=EMBEDDING).select(published_representations().columns)


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
