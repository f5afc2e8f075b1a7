"""Ctrl-C and SIGTERM: never in the middle of a save, never lost, and soon."""

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Signals that came and have not ended anything yet, oldest first.
_received: list[int] = []


class Interrupted(BaseException):
    """A signal, on its way out through whatever is running.

    Attributes:
        number: which signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def check() -> None:
    """Raises `Interrupted` again where a finaliser or a callback swallowed it.

    Python can only print an exception that leaves a finaliser. Long work calls this
    between its steps, so that no signal is lost.
    """
    if _received:
        raise Interrupted(_received[0])


def run_interruptible(work: Callable[..., _T], *arguments: object) -> _T:
    """What `work(*arguments)` returns, where that waits for devices.

    An epoch of many members can take minutes, and Python handles no signal while its main
    thread is inside XLA: another thread waits there.
    """
    if threading.current_thread() is not threading.main_thread():
        return work(*arguments)
    return begun(work, *arguments).result()


def begun(work: Callable[..., _T], *arguments: object) -> "Future[_T]":
    """`work(*arguments)` in the thread that waits for devices; the main thread is free."""
    return _waiter().submit(work, *arguments)


@functools.cache
def _waiter() -> "Executor":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "zoojax-waiter")


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """Makes ctrl-C and SIGTERM raise `Interrupted` in here: for a command."""
    _received.clear()
    with _handling(_record_and_raise):
        yield


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Holds ctrl-C and SIGTERM back until the end of it: for saving.

    Threads of other libraries write files in here, which an exception in the main thread
    would leave behind half done, or waiting for it for minutes. In another thread than
    the main one, where no signal arrives, this does nothing.
    """
    came: list[int] = []
    try:
        with _handling(lambda number, frame: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


def _record_and_raise(number: int, frame: object) -> None:
    _received.append(number)
    raise Interrupted(number)


@contextlib.contextmanager
def _handling(handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
