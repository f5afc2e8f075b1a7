"""`zoojax <command>`: parses the command line and runs the command; each has its own module.

    zoojax train usps-s-seed --members 64 --out zoos/usps

Commands import JAX only when they run, so that --help is fast.
"""

import contextlib
import functools
import io
import operator
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
from zoojax.cli.config_files import ConfigFile, read_config, record, split_config, to_yaml
from zoojax.cli.convert import Convert
from zoojax.cli.evaluate import Evaluate
from zoojax.cli.geometry import Geometry
from zoojax.cli.geometry.align import Align
from zoojax.cli.geometry.align_twin import AlignTwin
from zoojax.cli.geometry.transfer import Transfer
from zoojax.cli.info import Info
from zoojax.cli.list_presets import Presets
from zoojax.cli.parsing import command_positions, find_command, parse, without_aliases
from zoojax.cli.plugins import import_plugins, load_sparsifier, split_plugins
from zoojax.cli.publish import Publish
from zoojax.cli.represent import Represent
from zoojax.cli.represent.sample import Sample
from zoojax.cli.represent.sparsify import ZeroShot
from zoojax.cli.represent.train import TrainRepresentation
from zoojax.cli.reproduce import Reproduce
from zoojax.cli.sparsify import Sparsify, SparsifyWith, sparsify_command, subcommand_name
from zoojax.cli.train import Train
from zoojax.errors import ZoojaxError
from zoojax.runtime import signals
from zoojax.runtime.environment import check_environment
from zoojax.text import printable

_COMMANDS = {
    "presets": Presets,
    "train": Train,
    "sparsify": Sparsify,
    "convert": Convert,
    "analyze": Analyze,
    "reproduce": Reproduce,
    "represent": Represent,
    "geometry": Geometry,
    "publish": Publish,
    "evaluate": Evaluate,
    "info": Info,
    "bench": Bench,
}
# Older spellings of commands, accepted but not shown in the help.
_ALIASES = {"analyse": "analyze", "sparsify magnitude": "sparsify magnitude-pruning"}
# Commands that resume after an interruption; the others start over.
_RESUMABLE = (
    *(Train, SparsifyWith, Convert, Reproduce, TrainRepresentation, ZeroShot, Sample),
    *(Align, AlignTwin, Transfer),
)
_INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_MEMORY_ADVICE = "use a smaller --chunk or fewer members, or close other programs"
_DESCRIPTION = (
    "Train, sparsify and analyze populations of small neural networks. "
    "`zoojax --version` prints the version. `--plugin MODULE`, anywhere in a command, imports "
    "your module that registers architectures or sparsifiers (MODULE:OBJECT: one of them); so "
    "does $ZOOJAX_PLUGINS (MODULE,MODULE). `--config FILE` takes options from a YAML file, and "
    "`--print-config` prints that file instead of running the command."
)
# Maximum length of a message: a path may have 4096 characters.
_MAX_LENGTH = 5000


def main(arguments: list[str] | None = None) -> int:
    """Runs one command.

    Ends this process if the command was interrupted, or if it failed in one of several processes:
    a normal exit would wait for running computations on the devices, and JAX for the other
    processes, which wait for this one.

    Args:
        arguments: command line without the program's name; None takes `sys.argv`.

    Returns:
        Exit status: 0 on success, 2 for invalid input (with one line on standard error), 130
        after ctrl-C and 143 after SIGTERM (rerun most commands to resume), 141 on a broken pipe.
    """
    if arguments is None:
        environment.use_utf8()
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # Names may have characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(words)
    except Exception:
        if _peer_processes() is None:
            raise
        traceback.print_exc()
        status = 1
    peers = _peer_processes()
    if status in _INTERRUPTED or (status and peers):
        with contextlib.suppress(OSError):  # Broken pipe.
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(KeyboardInterrupt):
            if peers:
                peers.wait_before_exit()
        os._exit(status)
    return status


def _run(words: list[str]) -> int:
    """Runs a command and returns its exit status; prints expected errors as one line."""
    command = None
    try:
        with signals.raise_on_signal(), _short_warnings():
            words, file, printed = split_config(words)
            words, plugins = split_plugins(words)
            config = None if file is None else read_config(file)
            if words[:1] == ["--version"]:
                print(f"zoojax {zoojax.__version__}")
            else:
                plugins = plugins if config is None else [*plugins, *config.plugins]
                command, names = _parse(words, plugins, config)
                if printed:
                    print(to_yaml(command, names, plugins), end="")
                else:
                    import_plugins(plugins)
                    _execute(environment.with_named_out(command), names, plugins)
            sys.stdout.flush()
    except ZoojaxError as error:
        print(_line(error), file=sys.stderr)
        return 2
    except signals.Interrupted as error:
        resumable = isinstance(getattr(command, "action", command), _RESUMABLE)
        advice = "; rerun the command to resume from the last complete epoch" if resumable else ""
        print(_line(f"interrupted{advice}"), file=sys.stderr)
        return 128 + error.number
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(_line(f"out of memory ({_first_line(error)}); {_MEMORY_ADVICE}"), file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has closed the pipe; Python would report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _execute(command: Any, names: list[str], plugins: list[str]) -> None:
    """Runs a command. A zoo that it creates stores its config, even if it is interrupted.

    A command that is refused changes nothing, so it is not stored.
    """
    is_refused = False
    try:
        command.run()
    except ZoojaxError:
        is_refused = True
        raise
    finally:
        peers = _peer_processes()
        is_first = peers is None or peers.process_index() == 0
        is_resumable = isinstance(getattr(command, "action", command), _RESUMABLE)
        if is_first and is_resumable and not is_refused:
            record(command, names, plugins)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error is Python's or JAX's out-of-memory error; JAX's is a RuntimeError."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "an array could not be allocated").splitlines()[0]


def _parse(
    words: list[str], plugins: list[str], config: ConfigFile | None
) -> tuple[Any, list[str]]:
    """Parses a command line; imports the plugins first if options of the command depend on them.

    Returns:
        The command, and the names of the command and its subcommand.
    """
    if config is not None:
        words = config.with_command(words)
    words, sparsify = without_aliases(words, _ALIASES), Sparsify
    positions = command_positions(words)
    if [words[i] for i in positions[:1]] == ["sparsify"]:
        check_environment()
        import_plugins(plugins)
        if len(positions) > 1 and ":" in words[positions[1]]:
            words[positions[1]] = subcommand_name(load_sparsifier(words[positions[1]]))
        sparsify = sparsify_command(examples=len(positions) > 1)
    commands = _commands(sparsify)
    if config is not None:
        words = config.with_options(words, commands)
    try:
        return parse(commands, words, "zoojax", _DESCRIPTION), find_command(commands, words)[0]
    except SystemExit:  # Help was printed; flushing raises BrokenPipeError if nobody reads it.
        sys.stdout.flush()
        raise


def _commands(sparsify: type[Sparsify]) -> Any:
    """Returns the union of all commands.

    Args:
        sparsify: The command `sparsify`: with its subcommands, or without if they are not needed.
    """
    annotated: Any = Annotated
    types = {**_COMMANDS, "sparsify": sparsify}
    commands = [annotated[kind, tyro.conf.subcommand(name)] for name, kind in types.items()]
    return functools.reduce(operator.or_, commands)


def _line(message: object) -> str:
    """Formats a message of zoojax as one line that is safe to print."""
    return f"zoojax: {printable(message, _MAX_LENGTH)}"


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    """Formats zoojax's own warnings like its errors: one line without a source location."""
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
    """Returns `zoojax.runtime.distributed` if this process has peers or waits for them; else None.

    Most commands never import that module.
    """
    distributed = sys.modules.get("zoojax.runtime.distributed")
    if distributed and (distributed.is_distributed() or distributed.is_joining()):
        return distributed
    return None


if __name__ == "__main__":
    sys.exit(main())
