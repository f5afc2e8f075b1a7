"""`zoojax evaluate ZOO`: evaluates saved members on the zoo's images or on others."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from zoojax.cli.options import DataDir, Flag, Processes, ProcessOptions, option
from zoojax.errors import ZoojaxError
from zoojax.runtime.startup import configure_jax
from zoojax.text import printable

if TYPE_CHECKING:
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

    select: Annotated[str | None, option("IDS")] = None
    """Evaluate only these members: ids and ranges such as 0,5,10-99 (default: all)."""

    members: Flag = False
    """Print one row per member instead of means."""

    json: Flag = False
    """Print JSON on standard output."""

    processes: ProcessOptions = field(default_factory=Processes)

    def run(self) -> None:
        """Evaluates the members and prints the results."""
        configure_jax(self.processes.group)
        from zoojax.api.inference import images_for
        from zoojax.cli.terminal import show, show_json, show_rows
        from zoojax.storage.zoo import open_zoo
        from zoojax.training.inference import evaluate

        zoo = open_zoo(self.zoo)
        chosen = None if self.select is None else _ids(self.select, zoo)
        images = images_for(zoo, self.data, self.data_dir)
        metrics = evaluate(zoo, images, self.epoch, chosen)
        if not self.members:
            title = f"{zoo.config.name} on {images.name}, epoch {metrics['epoch'][0]}"
            show(zoo, metrics, as_json=self.json, title=title)
            return
        rows = zoo.members_table.join(metrics.rename({"member": "id"}), on="id")
        if self.json:
            show_json({"zoo": str(zoo.path), "rows": rows.to_dicts()})
        else:
            show_rows(rows)


def _ids(text: str, zoo: "Zoo") -> list[int]:
    """The members of a zoo that ids and ranges such as "0,5,10-99" name, in their order."""
    known, ids = zoo.members_table["id"], []
    for part in text.split(","):
        match = re.fullmatch("([0-9]{1,10})(?:-([0-9]{1,10}))?", part.strip())
        if match is None:
            raise ZoojaxError(
                f"--select {printable(text, 80)!r} is invalid; give ids and ranges such as 0,10-99"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        found = known.filter((known >= first) & (known <= last)).to_list()
        if not found:
            raise ZoojaxError(f"{zoo.path} has no member {part.strip()}; it has {len(zoo)} members")
        ids += found
    return list(dict.fromkeys(ids))
