"""Options, zoos and results shared by the scripts of `zoojax.experiments`.

Zoos are stored in OUT/PRESET/dense, /mp and /vd, so scripts with the same --out share them.
Each is resumed if its training was interrupted, and opened if it is complete.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from zoojax import Zoo, ZoojaxError, figures, train_zoo
from zoojax.analysis import Analysis, layer_sparsity, paper_results
from zoojax.api.twins import sparsify
from zoojax.filesystem.atomic import atomic_write, make_folder
from zoojax.presets import difference, preset, twin_difference
from zoojax.runtime.startup import configure_jax
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout
from zoojax.training.trainer import Progress, ProgressCallback

# The pruning ratios of Table 5; 0 is fine-tuning without pruning.
RATIOS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)
Scope = Literal["global", "layer"]
# Sparsity at which twins are compared if the paper has none for the zoo.
_SPARSITY = 0.8


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Creates the command-line parser of a script, with the options that all scripts share.

    Args:
        name: the script's name, such as "table2".
        description: the script's docstring, shown by --help.
    """
    result = argparse.ArgumentParser(
        prog=f"python -m zoojax.experiments.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--out", type=Path, default=Path("runs/paper"), help="folder of zoos and results")
    add("--presets", nargs="+", default=["usps-s-seed"], metavar="PRESET", help="zoos to train")
    add("--members", type=int, default=32, help="members per combination of hyperparameters")
    add("--epochs", type=int, help="epochs of dense training (default: the preset's)")
    add(
        "--mp-epochs",
        type=int,
        default=MagnitudePruning.default_epochs,
        help="epochs of fine-tuning after pruning",
    )
    add(
        "--vd-epochs",
        type=int,
        default=VariationalDropout.default_epochs,
        help="epochs of variational dropout",
    )
    add("--data-dir", type=Path, help="folder of image sets (default: $ZOOJAX_DATA, or a cache)")
    return result


def run(main: Callable[[], object]) -> int:
    """Runs a script's `main` and returns the exit status.

    Returns:
        0, 2 after bad input (one line on standard error), or 130 after ctrl-C.
    """
    try:
        configure_jax()
        main()
    except ZoojaxError as error:
        print(f"zoojax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; rerun the command to resume from the last complete epoch", file=sys.stderr
        )
        return 130
    return 0


def dense_zoo(options: argparse.Namespace, name: str) -> Zoo:
    """Trains the dense zoo of a preset.

    Args:
        options: the parsed options of `parser`.
        name: the preset's name.

    Raises:
        ZoojaxError: the preset or the image set is unknown, or the folder has another zoo.
    """
    return train_zoo(
        name,
        options.out / name / "dense",
        members=options.members,
        epochs=options.epochs,
        data_dir=options.data_dir,
        report=_progress(f"{name}: dense training"),
    )


def pruned_zoo(options: argparse.Namespace, name: str, zoo: Zoo, *, scope: Scope = "global") -> Zoo:
    """Prunes a dense zoo at all of RATIOS and fine-tunes it.

    Args:
        options: the parsed options of `parser`.
        name: the preset's name.
        zoo: the dense zoo.
        scope: "global", or "layer" for the same ratio in every layer.
    """
    pruning = MagnitudePruning(RATIOS, scope)
    folder = pruning.method if scope == "global" else f"{pruning.method}-{scope}"
    return _twin(options, name, zoo, pruning, folder, options.mp_epochs)


def variational_zoo(options: argparse.Namespace, name: str, zoo: Zoo) -> Zoo:
    """Trains the variational-dropout twin of a dense zoo; arguments as for `pruned_zoo`."""
    dropout = VariationalDropout()
    return _twin(options, name, zoo, dropout, dropout.method, options.vd_epochs)


def _twin(
    options: argparse.Namespace,
    name: str,
    zoo: Zoo,
    sparsifier: Sparsifier,
    folder: str,
    epochs: int,
) -> Zoo:
    settings = preset(name).twin(sparsifier.name)
    return sparsify(
        *(zoo, sparsifier, options.out / name / folder),
        learning_rate=None if settings is None else settings.learning_rate,
        epochs=epochs,
        data_dir=options.data_dir,
        report=_progress(f"{name}: {sparsifier.label}"),
    )


def _progress(label: str) -> ProgressCallback:
    """Creates a progress callback that prints one line per completed epoch."""
    started = False

    def report(at: Progress) -> None:
        nonlocal started
        if not started and at.done == at.total:
            print(f"{label}: already complete (epoch {at.epochs})", file=sys.stderr)
        elif started and at.done * at.epochs == at.epoch * at.total:
            print(f"{label}: epoch {at.epoch} of {at.epochs}", file=sys.stderr)
        started = True

    return report


def paper_sparsity(name: str, table: str, sparsifier: Sparsifier) -> float:
    """The sparsity at which a table of the paper compares the twins of a zoo.

    Args:
        name: the preset's name.
        table: "Tables 1, 9" or "Table 2".
        sparsifier: sparsifier of the twin.

    Returns:
        The ratio or, if sparsity varies with the epoch, the mean sparsity; 0.8 for zoos that are
        not in the table.
    """
    results = paper_results(name)
    rows = results.filter(pl.col("table") == table, pl.col("method") == sparsifier.method)
    known = rows["ratio" if sparsifier.sweep == "ratio" else "sparsity"].drop_nulls()
    return float(known[0]) if len(known) else _SPARSITY


def long_format(
    table: pl.DataFrame, quantities: Sequence[str], keys: Sequence[str]
) -> pl.DataFrame:
    """Turns columns `<quantity>_mean` and `<quantity>_std` into rows.

    Returns:
        The keys, `quantity`, `members`, `mean` and `std`.
    """
    return pl.concat(
        table.select(
            *keys,
            pl.lit(quantity).alias("quantity"),
            pl.col("members").cast(pl.Int64),
            pl.col(f"{quantity}_mean").cast(pl.Float64).alias("mean"),
            pl.col(f"{quantity}_std").cast(pl.Float64).alias("std"),
        )
        for quantity in quantities
    )


def layer_quantities(zoo: Zoo) -> list[str]:
    """Returns the names of the layers' sparsities in the zoo's summary: "sparsity_LAYER"."""
    layers = layer_sparsity(zoo)["layer"].unique(maintain_order=True)
    return [f"sparsity_{layer}" for layer in layers]


def add_paper(
    ours: pl.DataFrame, zoo: Zoo, twin: Zoo, name: str, table: str, keys: Sequence[str]
) -> pl.DataFrame:
    """Adds the paper's values to a table.

    Args:
        ours: a table of `long_format`.
        zoo: the dense zoo.
        twin: the twin that was measured.
        name: the preset's name.
        table: the paper's table, such as "Table 5".
        keys: the columns to match, besides `quantity`.

    Returns:
        `zoo`, the columns of `ours`, `paper_mean` and `paper_std`, which are null unless zoo and
        twin were trained as the preset says (members and seeds may differ).
    """
    paper = paper_results(name).filter(
        pl.col("table") == table, pl.col("method") == twin.config.sparsifier.method
    )
    if difference(zoo) is not None or twin_difference(zoo, twin) is not None:
        paper = paper.clear()
    columns = [*keys, "quantity"]
    paper = paper.select(
        *columns, pl.col("mean").alias("paper_mean"), pl.col("std").alias("paper_std")
    )
    joined = ours.join(paper, on=columns, how="left", maintain_order="left")
    return joined.select(pl.lit(name).alias("zoo"), pl.all())


def save_table(table: pl.DataFrame, options: argparse.Namespace, name: str) -> None:
    """Prints a table in percent and writes it to OUT/NAME.csv as fractions."""
    make_folder(options.out)
    path = options.out / f"{name}.csv"
    atomic_write(path, table.write_csv)
    shown = table.select(
        pl.exclude("mean", "std", "low", "high", "paper_mean", "paper_std"),
        *(_percent(table, prefix) for prefix in ("", "paper_") if f"{prefix}mean" in table.columns),
    )
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, tbl_hide_dataframe_shape=True):
        print(shown)
    print(path)


def _percent(table: pl.DataFrame, prefix: str) -> pl.Series:
    pairs = table.select(f"{prefix}mean", f"{prefix}std").iter_rows()
    cells = [
        "" if mean is None else f"{100 * mean:.1f}" + ("" if std is None else f" ({100 * std:.1f})")
        for mean, std in pairs
    ]
    if not prefix and "low" in table.columns:
        ends = table.select("low", "high").iter_rows()
        cells = [
            cell and f"{cell} [{100 * low:.1f}, {100 * high:.1f}]"
            for cell, (low, high) in zip(cells, ends, strict=True)
        ]
    return pl.Series("paper (%)" if prefix else "zoojax (%)", cells, pl.String)


def save_figure(analysis: Analysis, figure: str, options: argparse.Namespace, name: str) -> Path:
    """Draws a figure of an analysis to OUT/NAME.svg and OUT/NAME.png.

    Args:
        analysis: the analysis of a zoo and its twins.
        figure: the figure's name in `figures.FIGURES`.
        options: the parsed options of `parser`.
        name: the name of the files.

    Returns:
        The PNG file.

    Raises:
        ZoojaxError: the zoos have nothing to draw, or a file cannot be written.
    """
    drawn = figures.FIGURES[figure](analysis)
    if drawn is None:
        raise ZoojaxError(f"{name}: there is nothing to draw; train for more epochs")
    make_folder(options.out)
    caption = figures.FIGURES[figure].caption(analysis)
    path = figures.save(drawn, options.out, name, caption)
    print(path)
    return path
