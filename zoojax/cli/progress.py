"""A progress bar with rate and time left; a line an epoch where there is no terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console

from zoojax.runtime import distributed
from zoojax.training.trainer import Progress, ProgressCallback


@contextmanager
def training_progress(
    label: str, quiet: bool, unit: str = "member-samples"
) -> Iterator[ProgressCallback | None]:
    """Yields what `zoojax.training.trainer.train` reports to; None in all processes but the first.

    Says so where there is nothing left to do.

    Args:
        label: what is being done.
        quiet: show no progress.
        unit: of what `Progress` counts.
    """
    if distributed.process_index() != 0:
        yield None
        return
    with _shown(label, quiet, unit) as show:
        begun = False

        def report(at: Progress) -> None:
            nonlocal begun
            if not begun and at.done == at.total:
                print(f"{label}: already complete (epoch {at.epochs})", file=sys.stderr)
            elif show is not None:
                show(at)
            begun = True

        yield report


@contextmanager
def _shown(label: str, quiet: bool, unit: str) -> Iterator[ProgressCallback | None]:
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as bar:
            task = bar.add_task(label, total=None, epoch="", rate="")
            meter = _Meter(unit)

            def show(at: Progress) -> None:
                bar.update(
                    task,
                    completed=at.done,
                    total=at.total,
                    epoch=f"epoch {at.epoch}/{at.epochs}",
                    rate=meter.rate(at),
                )

            yield show
    else:
        yield _Lines(label, unit)


@contextmanager
def count_progress(label: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Yields what is told (done, total) of states; None if quiet.

    Args:
        label: what is being done.
        quiet: show nothing.
    """
    if quiet or distributed.process_index() != 0 or not sys.stderr.isatty():
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


def _bar() -> progress.Progress:
    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.TextColumn("{task.fields[epoch]}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[rate]}", markup=False),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _Meter:
    """Units per second since the first report."""

    def __init__(self, unit: str):
        self._unit = unit
        self._start: tuple[float, int] | None = None

    def per_second(self, at: Progress) -> float | None:
        now = time.monotonic()
        if self._start is None:
            self._start = (now, at.done)
        seconds, samples = now - self._start[0], at.done - self._start[1]
        return samples / seconds if samples and seconds > 0 else None

    def rate(self, at: Progress) -> str:
        rate = self.per_second(at)
        return "" if rate is None else f"{rate:,.0f} {self._unit}/s"


class _Lines:
    """Prints a line when an epoch is done."""

    def __init__(self, label: str, unit: str):
        self._label, self._meter = label, _Meter(unit)

    def __call__(self, at: Progress) -> None:
        rate = self._meter.per_second(at)
        whole = at.done * at.epochs == at.epoch * at.total
        if rate is None or not whole:
            return
        left = (at.total - at.done) / rate
        print(
            f"{self._label}: epoch {at.epoch}/{at.epochs}, {self._meter.rate(at)}, "
            f"{left:,.0f} s left",
            file=sys.stderr,
            flush=True,
        )
