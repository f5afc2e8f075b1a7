"""`zoojax represent evaluate REP`: how well members are reconstructed, and what is told of them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from experiments.options import prepare_jax

if TYPE_CHECKING:
    from zoojax.hyper_representation.evaluated import Evaluation


@dataclass(frozen=True)
class EvaluateRepresentation:
    """Measure a hyper-representation on members that it has not seen.

    Writes the tables to REP/evaluation (Parquet, CSV), where `zoojax analyse` finds them.
    Example: zoojax represent evaluate reps/usps
    """

    representation: Annotated[Path, tyro.conf.Positional]
    """Folder of the hyper-representation."""

    zoo: Path | None = None
    """Folder of the zoo that it was learned from, if either was moved."""

    data_dir: Path | None = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    json: bool = False
    """Print the tables of R2 as JSON on standard output."""

    quiet: bool = False
    """Show no progress."""

    def run(self) -> None:
        """Evaluates, writes, and prints R2 beside the paper's."""
        prepare_jax()
        from rich.console import Console

        from experiments.tables import show_json
        from zoojax.hyper_representation.evaluated import FOLDER, write
        from zoojax.hyper_representation.evaluation import evaluate
        from zoojax.hyper_representation.representation import open_representation
        from zoojax.text import printable
        from zoojax.zoo_images import load_images

        representation = open_representation(self.representation)
        zoo = representation.source(self.zoo)
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
            print("note: the zoo's images are not known: reconstructed members were not run")
        print(f"evaluation: {printable(folder, 4096)}")


def _show(found: "Evaluation") -> None:
    """Prints R2 in the layout of the paper's Table 3, and what reconstructed members do."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from zoojax.text import printable

    rich = Table(title="R2 on members held out, %")
    summary = found.tables["summary"]
    for name, kind in summary.schema.items():
        rich.add_column(name, justify="right" if kind.is_numeric() else "left")
    for zoo, features, *values in summary.iter_rows():
        # Plain text: a name may hold markup.
        names = (Text(printable(name, 60)) for name in (zoo, features))
        rich.add_row(*names, *("-" if v is None else f"{100 * v:z.1f}" for v in values))
    Console(width=None if sys.stdout.isatty() else 160).print(rich)
    functional = found.tables.get("functional")
    if functional is None:
        return
    means = {name: functional[name].mean() for name in functional.columns}
    print(
        "reconstructed members, run on the test images: accuracy {reconstructed_acc:.1%} "
        "(originals {test_acc:.1%}), agreement {agreement:.1%}, sparsity "
        "{reconstructed_sparsity:.1%} (originals {sparsity:.1%})".format(**means)
    )
