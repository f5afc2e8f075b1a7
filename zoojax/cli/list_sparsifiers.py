"""`zoojax sparsify list`: lists the sparsifiers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoojax.cli.options import Flag

if TYPE_CHECKING:
    from zoojax.sparsifiers.base import Sparsifier


@dataclass(frozen=True)
class ListSparsifiers:
    """List all sparsifiers, what their sparsity varies with, and their papers."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Prints one row per sparsifier."""
        from zoojax.cli.terminal import Column, print_table, show_json
        from zoojax.sparsifiers.dense import Dense
        from zoojax.sparsifiers.registry import sparsifiers

        rows = [_row(each) for each in sparsifiers().values() if each is not Dense]
        if self.json:
            show_json(rows)
            return
        columns = [
            Column("name", numeric=False),
            Column("label", numeric=False),
            Column("short", numeric=False),
            Column("sparsity varies with", numeric=False, folds=True),
            Column("source", numeric=False, folds=True),
        ]
        print_table(
            columns,
            [
                [row["name"], row["label"], row["short"], row["varies"], row["source"]]
                for row in rows
            ],
            caption="zoojax sparsify NAME --help shows the options of one",
        )


def _row(sparsifier: "type[Sparsifier]") -> dict[str, Any]:
    columns = list(sparsifier.per_member.values())
    return {
        "name": sparsifier.name.replace("_", "-"),
        "label": sparsifier.label,
        "short": sparsifier.short,
        "varies": ", ".join(columns) or sparsifier.sweep,
        "options": [f"--{option.replace('_', '-')}" for option in sparsifier.per_member],
        "epochs": sparsifier.default_epochs,
        "source": sparsifier.source,
    }
