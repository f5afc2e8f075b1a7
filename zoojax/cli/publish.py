"""`zoojax publish ZOO --out FOLDER`: writes a zoo and its twins as a dataset."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.options import Flag, option


@dataclass(frozen=True)
class Publish:
    """Publish a zoo and its twins as a dataset: weights, tables, a card and checksums.

    The folder can be uploaded without changes. `zoojax.open_zoo` and all commands open it.
    Example: zoojax publish zoos/usps zoos/usps-mp --out published/usps --license cc-by-4.0
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("FOLDER")]
    """Folder of the dataset: new, or of the same dataset to upload it."""

    twins: Annotated[tuple[Path, ...], tyro.conf.Positional, option("[TWIN ...]")] = ()
    """Folders of its twins."""

    epochs: Annotated[tuple[int, ...] | None, option("N ...")] = None
    """Epochs of the zoo whose weights are published (default: all)."""

    title: Annotated[str | None, option("TEXT")] = None
    """Title of the dataset (default: the name of the zoo)."""

    license: Annotated[str | None, option("NAME")] = None
    """License, as the Hugging Face Hub names it, such as cc-by-4.0 (default: unknown)."""

    creator: Annotated[str | None, option("NAME")] = None
    """Person or organization that publishes it."""

    citation: Annotated[str | None, option("TEXT")] = None
    """How to cite it."""

    with_images: Flag = False
    """Also publish the images that the zoo stores (--keep-data)."""

    repo_id: Annotated[str | None, option("OWNER/NAME")] = None
    """Dataset on the Hugging Face Hub to upload to; created if it does not exist."""

    private: Flag = False
    """Make a new repository private."""

    quiet: Flag = False
    """Show no progress."""

    def run(self) -> None:
        """Writes the dataset, uploads it if requested, and prints its folder."""
        from zoojax.cli.terminal import say
        from zoojax.progress import stage_progress
        from zoojax.publishing.publish import publish

        with stage_progress("publishing", self.quiet) as stage:
            folder = publish(
                self.zoo,
                *self.twins,
                out=self.out,
                epochs=self.epochs,
                title=self.title,
                license=self.license,
                creator=self.creator,
                citation=self.citation,
                with_images=self.with_images,
                repo_id=self.repo_id,
                private=self.private,
                report=stage,
            )
        say(f"dataset: {folder}")
        if self.repo_id is not None:
            say(f"address: hf://{self.repo_id}")
