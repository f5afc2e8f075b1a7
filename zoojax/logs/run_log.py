"""A log file per run, in the folder of the zoo: time and metrics of each epoch."""

import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import make_folder
from zoojax.text import printable
from zoojax.training.callbacks import EpochMetrics

FOLDER = "logs"
_SHOWN = ("train_loss", "train_acc", "val_acc", "test_acc", "psnr", "sparsity")


class RunLog:
    """Callback that writes one line per trained epoch to `logs/TIME.log` in the zoo's folder.

    A run that trains no epoch writes no file.

    Args:
        command: The command line, for the first line.

    Example:
        >>> from zoojax.training.callbacks import EpochMetrics
        >>> log, copy = zoojax.RunLog(), zoo.save("copy")
        >>> log(EpochMetrics(copy, 2, copy.metrics.filter(epoch=2), is_new=True))
        >>> (file,) = (copy.path / "logs").iterdir()
        >>> file.read_text().splitlines()[-1].split()[2:4]
        ['epoch', '2/2:']
    """

    def __init__(self, command: Sequence[str] = ()):
        self._command = " ".join(command)
        self._files: dict[Path, Path] = {}
        self._start = time.monotonic()

    def __call__(self, done: EpochMetrics) -> None:
        """Writes a line for an epoch that this run has trained."""
        if not done.is_new or done.zoo.store.in_memory:
            return
        path = done.zoo.path
        if path not in self._files:
            self._files[path] = self._begin(done)
        means = [
            f"{name} {done.metrics[name].drop_nans().mean():.4g}"
            for name in _SHOWN
            if name in done.metrics.columns and len(done.metrics[name].drop_nulls().drop_nans())
        ]
        diverged = len(done.metrics.filter(~pl.col("finite")))
        notes = [f"{diverged} members not finite"] if diverged else []
        self._write(
            self._files[path],
            f"epoch {done.epoch}/{done.zoo.config.epochs}: mean {', '.join([*means, *notes])}; "
            f"{hours(time.monotonic() - self._start)} since the start",
        )

    def _begin(self, done: EpochMetrics) -> Path:
        folder = done.zoo.path / FOLDER
        make_folder(folder)
        now = datetime.datetime.now().strftime("%Y-%m-%dT%H-%M-%S-%f")
        file = folder / f"{now}-{os.getpid()}.log"
        libraries = ", ".join(f"{name} {of}" for name, of in done.zoo.config.versions.items())
        if self._command:
            self._write(file, f"command: {printable(self._command, 5000)}")
        self._write(file, f"{len(done.zoo)} members; {printable(libraries, 500)}")
        return file

    def _write(self, file: Path, line: str) -> None:
        now = datetime.datetime.now().isoformat(" ", "seconds")
        try:
            with file.open("a", encoding="utf-8") as log:
                log.write(f"{now} {line}\n")
        except OSError as error:
            raise ZoojaxError(f"cannot write {file}: {error.strerror or error}") from error


def hours(seconds: float) -> str:
    """Formats a duration as h:mm, rounded up to whole minutes.

    Example:
        >>> from zoojax.logs.run_log import hours
        >>> hours(0), hours(59), hours(3601)
        ('0:00', '0:01', '1:01')
    """
    minutes = -int(-seconds // 60)
    return f"{minutes // 60}:{minutes % 60:02d}"
