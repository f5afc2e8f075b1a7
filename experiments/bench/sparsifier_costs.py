"""Costs of each sparsifier: seconds per member on scikit-learn's digits.

    python -m zoojax.experiments.bench.sparsifier_costs --members 64 --out costs.md

Trains small CNNs on digits and creates a twin of them with each sparsifier in memory, with its
default options at one ratio, and its default number of epochs. Each twin is created from N members
and from 2 N members: the difference of the times is that of N members, without startup and
compilation. Everything that a sparsifier does is included, such as scores on training images.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from zoojax import Zoo, ZoojaxError, sparsify, train_zoo
from zoojax.filesystem.atomic import atomic_write
from zoojax.runtime.startup import configure_jax
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.text import printable

RATIO = 0.8
PRESET = "digits-s-seed"


def single(kind: type[Sparsifier]) -> Sparsifier:
    """Returns a sparsifier with its default options and one value of each per-member option.

    Args:
        kind: The sparsifier.

    Returns:
        The sparsifier, with the default ratio closest to RATIO, and the median default of other
        per-member options.
    """
    default = kind()
    chosen = {}
    for option, column in kind.per_member.items():
        values = sorted(getattr(default, option))
        nearest = min(values, key=lambda value: abs(value - RATIO))
        chosen[option] = (nearest if column == "ratio" else values[len(values) // 2],)
    return dataclasses.replace(default, **chosen)


def measure(
    members: int, names: Sequence[str] | None = None, epochs: int | None = None
) -> Iterator[dict[str, Any]]:
    """Measures one sparsifier after another.

    Args:
        members: Number of members N.
        names: Names of sparsifiers; None measures all.
        epochs: Epochs of dense training and of all twins; None for the defaults.

    Yields:
        `name`, `label`, `epochs`, `seconds_per_member`, and the means of `sparsity` and `test_acc`
        after the last epoch.

    Raises:
        ZoojaxError: If a sparsifier is unknown, or `members` is below 1.
    """
    known = {name: kind for name, kind in sparsifiers().items() if kind is not Dense}
    names = list(known) if names is None else [name.replace("-", "_") for name in names]
    for name in names:
        if name not in known:
            raise ZoojaxError(
                f"no sparsifier named '{printable(name, 60)}'; there are: {', '.join(known)}"
            )
    zoo = train_zoo(PRESET, members=2 * members, epochs=epochs, quiet=True)
    for name in names:
        yield _measured(zoo, single(known[name]), members, epochs)


def _measured(zoo: Zoo, sparsifier: Sparsifier, members: int, epochs: int | None) -> dict[str, Any]:
    times = []
    # The first run compiles the programs.
    for count in (members, members, 2 * members):
        start = perf_counter()
        twin = sparsify(zoo, sparsifier, epochs=epochs, members=count, quiet=True)
        times.append(perf_counter() - start)
    last = twin.metrics.filter(epoch=twin.epochs[-1])
    return {
        "name": sparsifier.name.replace("_", "-"),
        "label": sparsifier.label,
        "epochs": twin.epochs[-1],
        "seconds_per_member": (times[2] - times[1]) / members,
        "sparsity": last["sparsity"].mean(),
        "test_acc": last["test_acc"].mean(),
    }


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the measurements as a table in Markdown."""
    lines = [
        "| sparsifier | epochs | seconds per member | sparsity, % | test accuracy, % |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['label']} | {row['epochs']} | {row['seconds_per_member']:.3f} "
        f"| {100 * row['sparsity']:.1f} | {100 * row['test_acc']:.1f} |"
        for row in rows
    ]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> None:
    """Measures, and prints one line of JSON per sparsifier."""
    parser = argparse.ArgumentParser(
        prog="python -m zoojax.experiments.bench.sparsifier_costs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--members", type=int, default=64, help="members N (default: 64)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="sparsifiers (default: all)")
    parser.add_argument("--epochs", type=int, help="epochs of all zoos (default: the sparsifiers')")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    options = parser.parse_args(arguments)
    rows = []
    for row in measure(options.members, options.methods, options.epochs):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.out is not None:
        atomic_write(options.out, lambda path: path.write_text(markdown(rows)))


if __name__ == "__main__":
    try:
        configure_jax()
        main()
    except ZoojaxError as error:
        print(f"zoojax: {error}", file=sys.stderr)
        raise SystemExit(2) from error
