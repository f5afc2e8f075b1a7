"""Callbacks that receive the metrics of each epoch."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import polars as pl

from zoojax.errors import ZoojaxError
from zoojax.runtime import distributed
from zoojax.storage.zoo import Zoo
from zoojax.text import printable


class EpochMetrics(NamedTuple):
    """Argument of a callback, after an epoch is saved.

    Attributes:
        zoo: The zoo, for reading.
        epoch: The epoch.
        metrics: One row per member: the rows of `zoo.metrics` of this epoch.
        is_new: Whether the epoch was just trained. Epochs of earlier calls are reported first, so
            resumed training has one complete curve. After members were added, no epoch is new.
    """

    zoo: Zoo
    epoch: int
    metrics: pl.DataFrame
    is_new: bool


class EpochCallback(Protocol):
    """Function that receives the metrics of each epoch, in order, once per call.

    In a multi-process run it is called in process 0 only. An error ends the training; the epoch is
    saved, and the training can be resumed.
    """

    def __call__(self, done: EpochMetrics, /) -> Any:
        """Receives the metrics of an epoch."""
        ...


def checked_callbacks(callbacks: Any) -> tuple[EpochCallback, ...]:
    """Returns callbacks as a tuple.

    Raises:
        ZoojaxError: They are not a list of functions.
    """
    if callable(callbacks) or not isinstance(callbacks, Iterable):
        raise ZoojaxError(f"callbacks is {printable(callbacks, 80)}; give a list of functions")
    functions = tuple(callbacks)
    for each in functions:
        if not callable(each):
            raise ZoojaxError(f"callback {printable(each, 80)} is not a function")
    return functions


def reporter(zoo: Zoo, callbacks: Iterable[EpochCallback]) -> Callable[[int, bool], None]:
    """Returns a function (epoch, is_new) that calls the callbacks with an epoch of a zoo."""
    functions = tuple(callbacks) if distributed.process_index() == 0 else ()

    def report(epoch: int, is_new: bool) -> None:
        if functions:
            metrics = zoo.metrics.filter(pl.col("epoch") == epoch)
            for each in functions:
                each(EpochMetrics(zoo, epoch, metrics, is_new))

    return report
