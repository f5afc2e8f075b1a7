"""`zoojax <command>`: parses the command line and calls one file per command.

    zoojax train usps-s-seed --members 64 --out zoos/usps

Heavy imports wait inside the commands, so that --help answers at once.
"""

import contextlib
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any

import tyro

import zoojax
from zoojax.cli import environment
from zoojax.cli.analyze import Analyze
from zoojax.cli.bench import Bench
from zoojax.cli.convert import Convert
from zoojax.cli.evaluate import Evaluate
from zoojax.cli.info import Info
from zoojax.cli.list_presets import Presets
from zoojax.cli.parsing import parse
from zoojax.cli.represent import Represent
from zoojax.cli.represent.sample import Sample
from zoojax.cli.represent.sparsify import ZeroShot
from zoojax.cli.represent.train import TrainRepresentation
from zoojax.cli.reproduce import Reproduce
from zoojax.cli.sparsify import Sparsify
from zoojax.cli.train import Train
from zoojax.errors import ZoojaxError
from zoojax.runtime import signals
from zoojax.text import printable

_Command = (
    Annotated[Presets, tyro.conf.subcommand("presets")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sparsify, tyro.conf.subcommand("sparsify")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[Analyze, tyro.conf.subcommand("analyze")]
    | Annotated[Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[Represent, tyro.conf.subcommand("represent")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Bench, tyro.conf.subcommand("bench")]
)
# Older spellings of commands, accepted but not shown in the help.
_ALIASES = {"analyse": "analyze"}
# After an interruption these go on where they were; others begin anew.
_RESUMABLE = (Train, Sparsify, Convert, Reproduce, TrainRepresentation, ZeroShot, Sample)
_INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_ADVICE = "; give a smaller --chunk or fewer members, or end other programs"
_DESCRIPTION = (
    "Train, sparsify and measure whole populations of small neural networks. "
    "`zoojax --version` prints the version."
)
# Characters of a message: a path may have 4096.
_LONGEST = 5000


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; an interruption, or failing beside other processes, ends this process.

    Python's own way out would wait for what the devices compute, and JAX for the other
    processes, which wait for this one.

    Returns:
        Exit status: 0; 2 for bad input, with one line on standard error; 130 and 143 for
        ctrl-C and SIGTERM, after which the same command goes on; 141 where nobody reads on.
    """
    if arguments is None:
        environment.use_utf8()
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # Names may hold characters that the terminal's encoding does not have.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
    except Exception:
        if _peer_processes() is None:
            raise
        traceback.print_exc()
        status = 1
    company = _peer_processes()
    if status in _INTERRUPTED or (status and company):
        with contextlib.suppress(OSError):  # Nobody reads on.
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(KeyboardInterrupt):
            if company:
                company.wait_before_exit()
        os._exit(status)
    return status


def _run(words: list[str]) -> int:
    command = None
    try:
        with signals.raise_on_signal(), _short_warnings():
            if words[:1] == ["--version"]:
                print(f"zoojax {zoojax.__version__}")
            else:
                command = _parsed(words)
                environment.with_named_out(command).run()
            sys.stdout.flush()
    except ZoojaxError as error:
        print(_line(error), file=sys.stderr)
        return 2
    except signals.Interrupted as error:
        on = isinstance(getattr(command, "action", command), _RESUMABLE)
        advice = "; the same command goes on from the last whole epoch" if on else ""
        print(_line(f"interrupted{advice}"), file=sys.stderr)
        return 128 + error.number
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(_line(f"there is too little memory ({_first(error)}){_ADVICE}"), file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read it (head, less) has seen enough; Python would say so once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _is_out_of_memory(error: Exception) -> bool:
    """JAX raises a RuntimeError of its own, which names what it lacks by this word."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _first(error: Exception) -> str:
    return (str(error).strip() or "an array could not be allocated").splitlines()[0]


def _parsed(words: list[str]) -> Any:
    try:
        return parse(_Command, words, "zoojax", _DESCRIPTION, _ALIASES)
    except SystemExit:  # Help was printed; whether somebody reads it shows here.
        sys.stdout.flush()
        raise


def _line(message: object) -> str:
    """What zoojax has to say, in one line that is safe to print."""
    return f"zoojax: {printable(message, _LONGEST)}"


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    """Shows zoojax's own warnings as its errors are: one line, without a place in the code."""
    before = warnings.formatwarning

    def format_one(message: Any, category: type, *rest: Any, **options: Any) -> str:
        if category.__module__.startswith("zoojax"):
            return f"{_line(message)}\n"
        return before(message, category, *rest, **options)

    warnings.formatwarning = format_one
    try:
        yield
    finally:
        warnings.formatwarning = before


def _peer_processes() -> ModuleType | None:
    """`zoojax.runtime.distributed` if this process has peers or waits for them; else None.

    Most commands never import it.
    """
    processes = sys.modules.get("zoojax.runtime.distributed")
    return (
        processes if processes and (processes.is_distributed() or processes.is_joining()) else None
    )


if __name__ == "__main__":
    sys.exit(main())
