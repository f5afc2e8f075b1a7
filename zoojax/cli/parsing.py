"""From words on the command line to a command; a mistake in them is one line.

tyro parses, and says in boxes of several lines what it cannot parse. Its hook for that is
not part of its public interface: without it, or for what it may report one day, the box is
what is shown.
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import tyro

from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.text import printable

_MARKERS = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
)
_WANTED = {int: "a whole number", float: "a number"}
_SEVERAL = {int: "whole numbers", float: "numbers"}


def parse(commands: Any, words: list[str], prog: str, description: str) -> Any:
    """The command that words describe, with `~` expanded in its paths.

    Args:
        commands: a union of dataclasses, each with its name by `tyro.conf.subcommand`.
        words: the command line after the program's name.
        prog: the program's name.
        description: of the program, for --help.

    Raises:
        ZoojaxError: the words describe no command.
        SystemExit: they ask for help, which has been printed.
    """
    names, here = _chosen(commands, words)
    flags = {option for option, kind in _options(here) if kind is bool}
    for word in words:
        if word.partition("=")[0] in flags and "=" in word:
            raise _mistake(f"{word.partition('=')[0]} takes no value", prog, names)
    with _mistakes_in_one_line(commands, words, prog):
        command = tyro.cli(
            commands, prog=prog, description=description, args=words, config=_MARKERS
        )
    return _with_whole_paths(command)


@contextlib.contextmanager
def _mistakes_in_one_line(commands: Any, words: list[str], prog: str) -> Iterator[None]:
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        yield
        return

    def refuse(event: Any) -> None:
        names, here = _chosen(commands, words)
        message = _message(event, names[-1] if names else prog, here, words)
        if message is not None:
            raise _mistake(message, prog, names)

    with on_parse_error(refuse):
        yield


def _mistake(message: str, prog: str, names: list[str]) -> ZoojaxError:
    return ZoojaxError(f"{message} (see `{' '.join([prog, *names])} --help`)")


def _message(event: Any, name: str, here: Any, words: list[str]) -> str | None:
    """What is wrong with the words for a command or group; None for an unknown event."""
    kind = type(event).__name__
    if kind == "UnrecognizedArgs":
        return _unknown(event.tokens, name, here)
    if kind == "MissingSubcommand":
        return f"{name} needs one of {', '.join(_subcommands(here))}"
    if kind == "MissingArgs":
        if event.unrecognized_tokens:
            return _unknown(event.unrecognized_tokens, name, here)
        return f"{name} needs {' and '.join(_shown(a.arg) for a in event.missing_arguments)}"
    if kind == "InvalidChoice":
        known = ", ".join(sorted(choice for choice in event.choices if choice != "None"))
        value = printable(event.value, 80)
        return f"{_shown(event.argument, False)} is '{value}'; give one of {known}"
    if kind == "BadValue" and event.reason == "too_few_values":
        return f"{_shown(event.argument, False)} needs a value: {event.argument.lowered.metavar}"
    if kind == "InstantiationFailure" and event.argument is not None:
        return _of_wrong_type(event.argument, words)
    return None


def _unknown(tokens: list[str], name: str, here: Any) -> str:
    """Names the first word that a command does not know, and the nearest that it does."""
    options = [token for token in tokens if token.startswith("-")]
    token = (options or tokens)[0].partition("=")[0]
    word = printable(token, 80)
    subcommands = list(_subcommands(here))
    if not options and not subcommands:
        return f"{name} takes no further argument '{word}'"
    known = subcommands
    if options:
        whole = () if dataclasses.is_dataclass(here) else ("--version",)
        known = ["--help", *whole, *(option for option, _ in _options(here))]
    near = difflib.get_close_matches(token.replace("_", "-"), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name} has no {'option' if options else 'command'} {word}{hint}"


def _shown(argument: Any, with_value: bool = True) -> str:
    """An argument as a user writes it: --out ZOO, or ZOO if it is positional."""
    value = argument.lowered.metavar
    if argument.is_positional():
        return value
    # Aliases come before the name.
    option = argument.lowered.name_or_flags[-1]
    return f"{option} {value}" if with_value and value else option


def _of_wrong_type(argument: Any, words: list[str]) -> str | None:
    kind, several = _scalar(argument.field.type_stripped)
    if kind not in _WANTED:
        return None
    given = words if argument.is_positional() else _values(argument.lowered.name_or_flags, words)
    wrong = next((word for word in given if not _is(kind, word)), " ".join(given))
    wanted = (_SEVERAL if several else _WANTED)[kind]
    return f"{_shown(argument, False)} wants {wanted}, not '{printable(wrong, 80)}'"


def _scalar(kind: Any) -> tuple[Any, bool]:
    """The type of one value of an argument, and whether there may be several."""
    several = False
    while get_args(kind):
        several |= get_origin(kind) is tuple
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind, several


def _values(options: tuple[str, ...], words: list[str]) -> list[str]:
    """The words that are values of an option where it was last given."""
    for i in reversed(range(len(words))):
        option, equals, value = words[i].partition("=")
        if option.replace("_", "-") in options:
            following = words[i + 1 :]
            end = next((j for j, w in enumerate(following) if w.startswith("--")), None)
            return [value] if equals else following[:end]
    return []


def _is(kind: type, word: str) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True


def _chosen(commands: Any, words: list[str]) -> tuple[list[str], Any]:
    """The names of the command that words choose, and its class.

    Where they choose none, the union of commands or the class of the group of commands.
    """
    names, here = [], commands
    for word in words:
        known = _subcommands(here)
        if not known:
            break
        if word in known:
            names.append(word)
            here = known[word]
        elif not word.startswith("-"):
            break
    return names, here


def _subcommands(here: Any) -> dict[str, Any]:
    """Commands by name, of a union of them or of a class that holds one; {} of others."""
    if dataclasses.is_dataclass(here):
        return next(filter(None, (_subcommands(f.type) for f in dataclasses.fields(here))), {})
    found = {}
    for choice in get_args(here):
        for note in getattr(choice, "__metadata__", ()):
            if dataclasses.is_dataclass(get_args(choice)[0]) and hasattr(note, "name"):
                found[note.name] = get_args(choice)[0]
    return found


def _options(here: Any) -> list[tuple[str, Any]]:
    """The options of a command: their names and types; none of a group."""
    found = []
    for field in dataclasses.fields(here) if dataclasses.is_dataclass(here) else ():
        kind, notes = field.type, ()
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
        if dataclasses.is_dataclass(kind):
            found += _options(kind)
        elif tyro.conf.Positional not in notes and not _subcommands(kind):
            found.append((f"--{field.name.replace('_', '-')}", kind))
    return found


def _with_whole_paths(command: Any) -> Any:
    """A command with `~` expanded in all of its paths."""

    def whole(value: Any) -> Any:
        if isinstance(value, Path):
            return expand_user(value)
        if isinstance(value, tuple):
            return tuple(whole(part) for part in value)
        if dataclasses.is_dataclass(value):
            return _with_whole_paths(value)
        return value

    values = {f.name: whole(getattr(command, f.name)) for f in dataclasses.fields(command)}
    return dataclasses.replace(command, **values)
