"""Progress on standard error: a bar in a terminal or notebook, otherwise one line per epoch."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import rich.progress
from rich.console import Console
from rich.text import Text

from zoojax.errors import ZoojaxError
from zoojax.logs.run_log import hours
from zoojax.runtime import distributed
from zoojax.text import printable
from zoojax.training.trainer import Progress, ProgressCallback


@contextmanager
def training_progress(
    label: str, quiet: bool, unit: str = "member-samples"
) -> Iterator[ProgressCallback | None]:
    """Yields a progress callback for `zoojax.training.trainer.train`; None except in process 0.

    Prints a note if the training is already complete.

    Args:
        label: description of the training.
        quiet: whether to show no progress.
        unit: unit of `Progress.done`.
    """
    if distributed.process_index() != 0:
        yield None
        return
    with _progress_display(label, quiet, unit) as show:
        started = False

        def report(current: Progress) -> None:
            nonlocal started
            if not started and current.done == current.total:
                print(f"{label}: already complete (epoch {current.epochs})", file=sys.stderr)
            elif show is not None:
                show(current)
            started = True

        yield report


def progress_callback(
    report: ProgressCallback | None, label: str, quiet: bool, unit: str = "member-samples"
) -> AbstractContextManager[ProgressCallback | None]:
    """Provides the caller's progress callback, or else that of `training_progress`.

    Args:
        report: the caller's callback; None shows the progress on standard error.
        label: description of the training.
        quiet: whether to show no progress.
        unit: unit of `Progress.done`.
    """
    if report is None:
        return training_progress(label, quiet, unit)
    if not callable(report):
        raise ZoojaxError(f"report is {printable(report, 80)}; give a function")
    return nullcontext(report)


@contextmanager
def _progress_display(label: str, quiet: bool, unit: str) -> Iterator[ProgressCallback | None]:
    if quiet:
        yield None
    elif _shows_bars():
        with _bar() as bar:
            task = bar.add_task(label, total=None, epoch="", rate="")
            meter = _RateMeter(unit)

            def show(current: Progress) -> None:
                bar.update(
                    task,
                    completed=current.done,
                    total=current.total,
                    epoch=f"epoch {current.epoch}/{current.epochs}",
                    rate=meter.text(current),
                )

            yield show
    else:
        yield _EpochLines(label, unit)


@contextmanager
def count_progress(label: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yields a callback that takes the numbers of processed states and of all states.

    Yields None if quiet, without a terminal, and except in process 0.

    Args:
        label: description of the work.
        quiet: whether to show no progress.
    """
    if quiet or distributed.process_index() != 0 or not _shows_bars():
        yield None
        return
    with _bar() as bar:
        task = bar.add_task(label, total=None, epoch="", rate="")
        start = time.monotonic()

        def show(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - start, 1e-9)
            states = f"{done}/{total} states"
            bar.update(task, completed=done, total=total, epoch=states, rate=f"{rate:,.0f}/s")

        yield show


@contextmanager
def stage_progress(label: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yields a callback that takes a description of each stage before it starts.

    Shows nothing if quiet, without a terminal, and except in process 0.

    Args:
        label: description of the work.
        quiet: whether to show no progress.
    """
    if quiet or distributed.process_index() != 0 or not _shows_bars():
        yield lambda stage: None
        return
    with Console(stderr=True).status(Text(label)) as status:
        yield lambda stage: status.update(Text(f"{label}: {stage}"))


def _shows_bars() -> bool:
    """Whether a bar can be drawn: in a terminal, and in a notebook with widgets."""
    if sys.stderr.isatty():
        return True
    return Console().is_jupyter and importlib.util.find_spec("ipywidgets") is not None


def _bar() -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.TextColumn("{task.fields[epoch]}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TextColumn("{task.fields[rate]}", markup=False),
        rich.progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _RateMeter:
    """Average rate since the first report."""

    def __init__(self, unit: str):
        self._unit = unit
        self._start: tuple[float, int] | None = None

    def per_second(self, current: Progress) -> float | None:
        """Returns the rate in units per second; None if it is not known yet."""
        now = time.monotonic()
        if self._start is None:
            self._start = (now, current.done)
        seconds, samples = now - self._start[0], current.done - self._start[1]
        return samples / seconds if samples and seconds > 0 else None

    def text(self, current: Progress) -> str:
        """Returns the rate with its unit; empty if it is not known yet."""
        rate = self.per_second(current)
        return "" if rate is None else f"{rate:,.0f} {self._unit}/s"


class _EpochLines:
    """Prints one line per completed epoch."""

    def __init__(self, label: str, unit: str):
        self._label, self._meter = label, _RateMeter(unit)

    def __call__(self, current: Progress) -> None:
        rate = self._meter.per_second(current)
        epoch_complete = current.done * current.epochs == current.epoch * current.total
        if rate is None or not epoch_complete:
            return
        left = (current.total - current.done) / rate
        print(
            f"{self._label}: epoch {current.epoch}/{current.epochs}, {self._meter.text(current)}, "
            f"{hours(left)} left",
            file=sys.stderr,
            flush=True,
        )
