"""Event files for TensorBoard: statistics and histograms over the members of a zoo."""

from pathlib import Path
from typing import Any

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import make_folder, os_errors
from zoojax.filesystem.paths import optional_path
from zoojax.filesystem.reading import entries
from zoojax.storage.zoo import Zoo
from zoojax.training.callbacks import EpochMetrics

FOLDER = "logs/tensorboard"
_EVENTS = "events.out.tfevents."
_QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}


class TensorBoard:
    """Callback that writes event files: mean, quantiles and histogram of each metric.

    The files contain each epoch of the zoo once: they are rewritten when training resumes.
    Members without finite values are left out. Twins have one curve per pruning ratio. Needs the
    extra `tensorboard`.

    Args:
        folder: Folder of the event files, for one zoo; None for `logs/tensorboard` in the folder
            of each zoo.

    Raises:
        ZoojaxError: tensorboardX is not installed.

    Example:
        >>> from zoojax.training.callbacks import EpochMetrics
        >>> board = zoojax.TensorBoard("board")  # in `callbacks` of zoojax.train_zoo
        >>> board(EpochMetrics(zoo, 2, zoo.metrics.filter(epoch=2), is_new=True))
        >>> import os
        >>> [name.split(".")[:3] for name in os.listdir("board")]
        [['events', 'out', 'tfevents']]
    """

    def __init__(self, folder: str | Path | None = None):
        self._writer_type = _writer_type()
        self._folder = optional_path(folder, "folder")
        self._writers: dict[Path, Any] = {}
        self._last: dict[Path, int] = {}

    def __call__(self, done: EpochMetrics) -> None:
        """Writes the metrics of an epoch."""
        folder = self._folder_of(done.zoo)
        if folder not in self._writers or done.epoch <= self._last[folder]:
            self._start(folder)
        self._last[folder] = done.epoch
        writer = self._writers[folder]
        with os_errors(folder):
            for name, values in _groups(done.zoo, done.metrics):
                writer.add_scalar(f"{name}/mean", values.mean(), done.epoch)
                for quantile, part in _QUANTILES.items():
                    value = values.quantile(part, "linear")
                    writer.add_scalar(f"{name}/{quantile}", value, done.epoch)
                writer.add_histogram(f"{name}/members", values.to_numpy(), done.epoch, bins=30)
            writer.flush()

    def _folder_of(self, zoo: Zoo) -> Path:
        if self._folder is not None:
            return self._folder
        if zoo.store.in_memory:
            raise ZoojaxError("a zoo in memory has no folder; give TensorBoard a folder")
        return zoo.path / FOLDER

    def _start(self, folder: Path) -> None:
        """Starts event files, which replace those of earlier runs."""
        if folder in self._writers:
            self._writers[folder].close()
        make_folder(folder)
        with os_errors(folder):
            for name in entries(folder):
                if name.startswith(_EVENTS):
                    (folder / name).unlink()
            self._writers[folder] = self._writer_type(str(folder))


def _groups(zoo: Zoo, metrics: pl.DataFrame) -> list[tuple[str, pl.Series]]:
    """Returns the finite values of each metric by its name; for twins, also by ratio."""
    parts = [("", metrics)]
    if "ratio" in zoo.members_table.columns:
        ratios = zoo.members_table.select(pl.col("id").alias("member"), "ratio")
        joined = metrics.join(ratios, on="member", maintain_order="left")
        parts = [
            (f"_at_ratio_{ratio:g}", joined.filter(pl.col("ratio") == ratio).drop("ratio"))
            for ratio in joined["ratio"].unique().sort()
        ]
    groups = []
    for suffix, part in parts:
        for name, kind in part.schema.items():
            if kind.is_float():
                values = part[name].drop_nulls()
                finite = values.filter(values.is_finite())
                groups += [(f"{name}{suffix}", finite)] if len(finite) else []
    return groups


def _writer_type() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ZoojaxError(
            "TensorBoard's event files need tensorboardX; install it with: pip install "
            "'zoojax[tensorboard]'"
        ) from error
    return SummaryWriter
