"""`zoojax represent evaluate REP`: how well members are reconstructed, and what is told of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.hyper_representation.evaluated import Evaluation


@dataclass(frozen=True)
class EvaluateRepresentation:
    """Measure a hyper-representation on members that it has not seen.

    Writes the tables to REP/evaluation (Parquet, CSV), where `zoojax analyse` finds them.
    Example: zoojax represent evaluate reps/usps
    """

    representation: Annotated[Path, tyro.conf.Positional, option("REP")]
    """Folder of the hyper-representation."""

    zoo: Annotated[Path | None, option("ZOO")] = None
    """Folder of the zoo that it was learned from, if either was moved."""

    data_dir: DataDir = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    json: Flag = False
    """Print the tables of R2 as JSON on standard output."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Evaluates, writes, and prints R2 beside the paper's."""
        configure_jax()
        from rich.console import Console

        from zoojax.cli.terminal import say, show_json
        from zoojax.hyper_representation.evaluated import FOLDER, write
        from zoojax.hyper_representation.evaluation import evaluate
        from zoojax.hyper_representation.representation import open_representation
        from zoojax.storage.zoo_images import load_images

        representation = open_representation(self.representation)
        zoo = representation.training_zoo(self.zoo)
        # Converted zoos may know of no images; everything else can be measured.
        images = None if zoo.config.data_hash is None else load_images(zoo, self.data_dir)
        with Console(stderr=True, quiet=self.quiet).status("evaluating") as status:
            found = evaluate(
                representation, zoo, images, lambda what: status.update(f"evaluating: {what}")
            )
        folder = representation.path / FOLDER
        write(found, folder)
        if self.json:
            names = ("summary", "reconstruction", "properties")
            rows = {name: found.tables[name].to_dicts() for name in names}
            show_json({"representation": str(representation.path), **rows})
            return
        _show(found)
        if images is None:
            say("note: the zoo's images are not known: reconstructed members were not run")
        say(f"evaluation: {folder}")


def _show(found: "Evaluation") -> None:
    """Prints R2 in the layout of the paper's Table 3, and what reconstructed members do."""
    from zoojax.cli.terminal import Column, print_table, say

    summary = found.tables["summary"]
    columns = [Column(name, kind.is_numeric()) for name, kind in summary.schema.items()]
    rows = [
        [zoo, features, *("-" if v is None else f"{100 * v:z.1f}" for v in values)]
        for zoo, features, *values in summary.iter_rows()
    ]
    print_table(columns, rows, title="R2 on members held out, %")
    functional = found.tables.get("functional")
    if functional is None:
        return
    means = {name: functional[name].mean() for name in functional.columns}
    say(
        "reconstructed members, run on the test images: accuracy {reconstructed_acc:.1%} "
        "(originals {test_acc:.1%}), agreement {agreement:.1%}, sparsity "
        "{reconstructed_sparsity:.1%} (originals {sparsity:.1%})".format(**means)
    )
