"""`make demo`: a zoo of real digits and both its twins, in minutes and without network.

Trains 24 small CNNs on scikit-learn's digits, prunes them at three ratios, trains
their variational-dropout twins, and prints how the populations do.
Run again, it goes on where it was, or shows the finished zoos.
"""

import sys
from pathlib import Path

from experiments.options import prepare_jax
from experiments.presets import preset
from experiments.progress import reporting
from experiments.tables import show_comparison
from zoojax.errors import ZoojaxError
from zoojax.grid import Grid
from zoojax.make import make_dense, make_dropped_out, make_pruned
from zoojax.zoo import CONFIG, Zoo, open_zoo

OUT = Path("zoos")
MEMBERS = 24
RATIOS = (0.5, 0.8, 0.9)


def main() -> None:
    """Makes the three zoos, or as much of them as is missing, and prints one table."""
    prepare_jax()
    chosen = preset("digits-s-seed")
    grid = Grid(**{**chosen.grid.__dict__, "seeds": MEMBERS})

    def dense(path: Path, report) -> Zoo:
        return make_dense(
            path,
            "digits-s-seed",
            grid,
            chosen.architecture,
            chosen.data,
            epochs=chosen.epochs,
            preset="digits-s-seed",
            report=report,
        )

    def pruned(path: Path, report) -> Zoo:
        rate = chosen.mp_learning_rate
        return make_pruned(path, zoo, RATIOS, learning_rate=rate, report=report)

    def dropped_out(path: Path, report) -> Zoo:
        rate = chosen.vd_learning_rate
        return make_dropped_out(path, zoo, learning_rate=rate, report=report)

    zoo = _made(OUT / "digits", "train", dense)
    mp = _made(OUT / "digits-mp", "prune and fine-tune", pruned)
    vd = _made(OUT / "digits-vd", "variational dropout", dropped_out)
    show_comparison(zoo, mp, vd)
    print("zoos:", *(str(z.path) for z in (zoo, mp, vd)))


def _made(path: Path, label: str, make) -> Zoo:
    if (path / CONFIG).exists():
        zoo = open_zoo(path)
        if zoo.config.epochs in zoo.epochs:
            return zoo
    with reporting(label, quiet=False) as report:
        return make(path, report)


if __name__ == "__main__":
    try:
        main()
    except ZoojaxError as error:
        sys.exit(f"zoojax: {error}")
