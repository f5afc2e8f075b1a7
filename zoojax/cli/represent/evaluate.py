"""`zoojax represent evaluate REP`: measures reconstruction and property probes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.hyper_representation.evaluation_tables import Evaluation


@dataclass(frozen=True)
class EvaluateRepresentation:
    """Measure a hyper-representation on held-out members.

    Writes tables (Parquet and CSV) to REP/evaluation, where `zoojax analyze` reads them.
    Example: zoojax represent evaluate reps/usps
    """

    representation: Annotated[Path, tyro.conf.Positional, option("REP")]
    """Folder of the hyper-representation."""

    zoo: Annotated[Path | None, option("ZOO")] = None
    """Folder of the training zoo, if it or REP was moved."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print the R2 tables as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Evaluates, writes the tables, and prints R2 with the paper's."""
        configure_jax()
        from zoojax.cli.terminal import say, show_json
        from zoojax.hyper_representation.api import evaluate_representation
        from zoojax.hyper_representation.evaluation_tables import FOLDER

        evaluation = evaluate_representation(
            self.representation, self.zoo, data_dir=self.data_dir, quiet=self.quiet
        )
        if self.json:
            names = ("summary", "reconstruction", "properties")
            rows = {name: evaluation.tables[name].to_dicts() for name in names}
            show_json({"representation": str(self.representation), **rows})
            return
        _show(evaluation)
        if "functional" not in evaluation.tables:
            say("note: the zoo records no images, so reconstructed members were not run on them")
        say(f"evaluation: {self.representation / FOLDER}")


def _show(evaluation: "Evaluation") -> None:
    """Prints R2 in the layout of the paper's Table 3, and functional fidelity."""
    from zoojax.cli.terminal import Column, print_table, say

    summary = evaluation.tables["summary"]
    columns = [Column(name, kind.is_numeric()) for name, kind in summary.schema.items()]
    rows = [
        [zoo, features, *("-" if v is None else f"{100 * v:z.1f}" for v in values)]
        for zoo, features, *values in summary.iter_rows()
    ]
    print_table(columns, rows, title="R2 on held-out members, %")
    functional = evaluation.tables.get("functional")
    if functional is None:
        return
    means = {name: functional[name].mean() for name in functional.columns}
    say(
        "reconstructed members on the test images: accuracy {reconstructed_acc:.1%} "
        "(originals {test_acc:.1%}), agreement {agreement:.1%}, sparsity "
        "{reconstructed_sparsity:.1%} (originals {sparsity:.1%})".format(**means)
    )
