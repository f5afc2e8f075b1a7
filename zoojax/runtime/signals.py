"""Prompt, save-safe handling of SIGINT and SIGTERM."""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Signals received since the current command started, oldest first.
_received: list[int] = []


class Interrupted(BaseException):
    """Raised in the main thread by SIGINT and SIGTERM.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def check() -> None:
    """Raises `Interrupted` again if the original exception was swallowed.

    Python can only print an exception that is raised inside a finalizer or a callback. Long
    loops call this function between their steps, so that no signal is lost.

    Raises:
        Interrupted: If a signal was received.
    """
    if _received:
        raise Interrupted(_received[0])


def run_interruptible(function: Callable[..., _T], *arguments: object) -> _T:
    """Calls a function that waits for devices, while the main thread handles signals.

    An epoch of many members can take minutes, and Python handles no signals while its main
    thread is inside XLA. The call is therefore made in another thread.

    Args:
        function: The function.
        *arguments: Its arguments.

    Returns:
        The result of the call.

    Raises:
        Interrupted: If a signal arrives during the call.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    return submit(function, *arguments).result()


def submit(function: Callable[..., _T], *arguments: object) -> "Future[_T]":
    """Starts a call in the thread that waits for devices and returns its future."""
    return _executor().submit(function, *arguments)


@functools.cache
def _executor() -> "Executor":
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "zoojax-waiter")


@contextlib.contextmanager
def explain_interrupt(advice: str) -> Iterator[None]:
    """Adds a line to the traceback of ctrl-C in Python; the command line has its own message.

    Args:
        advice: What is kept, and how to resume.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        stop.add_note(f"zoojax: interrupted; {advice}")
        raise


@contextlib.contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raises `Interrupted` on SIGINT and SIGTERM inside the context, for the whole command."""
    _received.clear()
    with _handle_signals(_record_and_raise), _quiet_when_swallowed():
        yield


@contextlib.contextmanager
def _quiet_when_swallowed() -> Iterator[None]:
    """Prints nothing for an `Interrupted` raised in a finalizer; `check` raises it again."""
    previous = sys.unraisablehook

    def hook(unraisable) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            previous(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """Defers SIGINT and SIGTERM until the end of the context, for saving.

    During a save, threads of other libraries write files. An exception in the main thread
    would leave these files partially written, or wait for the threads for minutes. Outside the
    main thread, where no signals arrive, this context does nothing.
    """
    deferred: list[int] = []
    try:
        with _handle_signals(lambda number, frame: deferred.append(number)):
            yield
    finally:
        if deferred:
            signal.raise_signal(deferred[0])


def _record_and_raise(number: int, frame: object) -> None:
    _received.append(number)
    raise Interrupted(number)


@contextlib.contextmanager
def _handle_signals(handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
