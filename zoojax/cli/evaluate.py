"""`zoojax evaluate ZOO`: measures saved members again, on the zoo's images or others."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, Processes, ProcessOptions, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Evaluate:
    """Measure a zoo's members from their saved states, whole population at a time.

    Train accuracy here is an evaluation on the training images; that of a training
    epoch in the zoo's metrics is the running one, noise on.
    Example: zoojax evaluate zoos/usps-vd --epoch 25
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Which epoch (default: the last)."""

    data: Annotated[str | None, option("IMAGES")] = None
    """Another image set: a name, or the path of an .npz with images and labels."""

    data_dir: DataDir = None
    """Where image sets are looked for (default: $ZOOJAX_DATA, else a cache folder)."""

    members: Flag = False
    """Print a row a member instead of means."""

    json: Flag = False
    """Print JSON on standard output."""

    processes: ProcessOptions = field(default_factory=Processes)

    def run(self) -> None:
        """Evaluates and prints."""
        from zoojax.datasets import loading

        configure_jax(self.processes.group)
        from zoojax.cli.terminal import show, show_json, show_rows
        from zoojax.errors import ZoojaxError
        from zoojax.storage.zoo import open_zoo
        from zoojax.storage.zoo_images import load_images
        from zoojax.training.inference import evaluate

        zoo = open_zoo(self.zoo)
        if self.data is None:
            images = load_images(zoo, self.data_dir)
        else:
            if zoo.config.data is None:
                raise ZoojaxError(
                    f"{zoo.path} keeps its own images, normalised in a way that is not known; "
                    "it cannot be measured on others"
                )
            spec = replace(zoo.config.data, name=self.data, train=None, val=None, crop=False)
            images = loading.load(spec, self.data_dir)
            if images.num_classes > zoo.config.classes:
                raise ZoojaxError(
                    f"'{self.data}' has {images.num_classes} classes, and the members of "
                    f"{zoo.path} tell {zoo.config.classes} apart"
                )
        metrics = evaluate(zoo, images, self.epoch)
        if not self.members:
            title = f"{zoo.config.name} on {images.name}, epoch {metrics['epoch'][0]}"
            show(zoo, metrics, as_json=self.json, title=title)
            return
        rows = zoo.members_table.join(metrics.rename({"member": "id"}), on="id")
        if self.json:
            show_json({"zoo": str(zoo.path), "rows": rows.to_dicts()})
        else:
            show_rows(rows)
