"""`zoojax geometry average ZOO --out AVERAGED`: averages each member over its epochs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoojax.cli.options import DataDir, Flag, option
from zoojax.runtime.startup import configure_jax


@dataclass(frozen=True)
class Average:
    """Average the weights of each member over its saved epochs; the result is a dense zoo.

    Example: zoojax geometry average zoos/usps --out zoos/usps-swa
    """

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the zoo."""

    out: Annotated[Path, option("AVERAGED")]
    """Folder of the new zoo."""

    kind: Literal["swa", "ema"] = "swa"
    """Mean of the epochs (swa), or their exponential moving average (ema)."""

    start: Annotated[int | None, option("EPOCH")] = None
    """First epoch of the average (default: the first one in the second half of the training)."""

    decay: Annotated[float, option("DECAY")] = 0.9
    """Decay of ema, in [0, 1)."""

    data_dir: DataDir = None
    """Folder of image sets (default: $ZOOJAX_DATA, or else a cache folder)."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Averages the members and prints their metrics."""
        configure_jax()
        from zoojax.cli.terminal import show
        from zoojax.geometry import average_epochs

        zoo = average_epochs(
            *(self.zoo, self.out),
            kind=self.kind,
            start=self.start,
            decay=self.decay,
            data_dir=self.data_dir,
        )
        title = f"{zoo.config.name} in {zoo.path}"
        show(zoo, zoo.metrics, as_json=self.json, title=title)
