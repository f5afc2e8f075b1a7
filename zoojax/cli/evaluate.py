"""`zoojax evaluate ZOO`: evaluates saved members on the zoo's images or on others."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, Processes, ProcessOptions, option
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.datasets.specs import ImageSet
    from zoojax.storage.zoo import Zoo


@dataclass(frozen=True)
class Evaluate:
    """Evaluate the saved members of a zoo.

    Train accuracy is measured here on the training images after the epoch; in the
    zoo's metrics it is the running accuracy during the epoch, with dropout and noise.

    Example: zoojax evaluate zoos/usps-vd --epoch 25
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch to evaluate (default: the last)."""

    data: Annotated[str | None, option("IMAGES")] = None
    """Another image set: a name, or the path of an .npz file with images and labels."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    members: Flag = False
    """Print one row per member instead of means."""

    json: Flag = False
    """Print JSON on standard output."""

    processes: ProcessOptions = field(default_factory=Processes)

    def run(self) -> None:
        """Evaluates the members and prints the results."""
        configure_jax(self.processes.group)
        from zoojax.cli.terminal import show, show_json, show_rows
        from zoojax.storage.zoo import open_zoo
        from zoojax.training.inference import evaluate

        zoo = open_zoo(self.zoo)
        images = self._images(zoo)
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

    def _images(self, zoo: "Zoo") -> "ImageSet":
        """Loads the zoo's images, or those of --data.

        Raises:
            ZoojaxError: they are missing or do not suit the zoo.
        """
        from zoojax.datasets import loading
        from zoojax.errors import ZoojaxError
        from zoojax.storage.zoo_images import load_images

        if self.data is None:
            return load_images(zoo, self.data_dir)
        if zoo.config.data is None:
            raise ZoojaxError(
                f"{zoo.path} stores its own images with unknown normalization; "
                "it cannot be evaluated on others"
            )
        spec = replace(zoo.config.data, name=self.data, train=None, val=None, crop=False)
        images = loading.load(spec, self.data_dir)
        if images.num_classes > zoo.config.classes:
            raise ZoojaxError(
                f"'{self.data}' has {images.num_classes} classes, but the members of "
                f"{zoo.path} predict {zoo.config.classes}"
            )
        return images
