"""Parses the command line with tyro, and reports mistakes in one line.

tyro itself reports mistakes in boxes of several lines, and keeps the line breaks of docstrings in
help texts. What changes both here is not part of its public interface: without it, and for kinds
of mistakes that tyro may report in the future, its own output is shown.
"""

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
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
_ONE_VALUE = {int: "a whole number", float: "a number"}
_SEVERAL_VALUES = {int: "whole numbers", float: "numbers"}


def parse(
    commands: Any,
    words: list[str],
    prog: str,
    description: str,
) -> Any:
    """Parses the words of a command line.

    Args:
        commands: union of dataclasses, each named with `tyro.conf.subcommand`.
        words: the command line without the program's name.
        prog: name of the program.
        description: description of the program for --help.

    Returns:
        The command: an instance of one of the dataclasses, with `~` expanded in its paths.

    Raises:
        ZoojaxError: the words are not a valid command.
        SystemExit: help was requested and has been printed.
    """
    names, command_type = find_command(commands, words)
    words = _with_new_options(words, getattr(command_type, "OLD_OPTIONS", {}))
    flags = {option for option, kind in command_options(command_type) if kind is bool}
    for word in words:
        if word.partition("=")[0] in flags and "=" in word:
            raise _usage_error(f"{word.partition('=')[0]} takes no value", prog, names)
    with _one_line_errors(commands, words, prog), _joined_help_lines():
        command = tyro.cli(
            commands, prog=prog, description=description, args=words, config=_MARKERS
        )
    return _with_expanded_paths(command)


def without_aliases(words: Sequence[str], aliases: Mapping[str, str]) -> list[str]:
    """Replaces a command's name, or its name and that of its subcommand, by the present ones.

    Args:
        words: the command line.
        aliases: present names by older ones, which are not shown in the help: {"old": "new"} or
            {"command old": "command new"}.
    """
    words = list(words)
    positions = command_positions(words)
    for count in range(1, len(positions) + 1):
        name = " ".join(words[i] for i in positions[:count])
        if name in aliases:
            for i, word in zip(positions, aliases[name].split(), strict=False):
                words[i] = word
    return words


def command_positions(words: Sequence[str]) -> list[int]:
    """Positions of the first two words that are not options: command and subcommand, if any."""
    return [i for i, word in enumerate(words) if not word.startswith("-")][:2]


def _with_new_options(words: list[str], old_options: Mapping[str, str]) -> list[str]:
    """Replaces older spellings of options by the present ones.

    Args:
        words: the command line.
        old_options: present spellings by older ones, which are not shown in the help: the
            command's class variable OLD_OPTIONS.
    """
    result = []
    for word in words:
        option, equals, value = word.partition("=")
        option = old_options.get(option.replace("_", "-"), option)
        result.append(f"{option}{equals}{value}")
    return result


@contextlib.contextmanager
def _one_line_errors(commands: Any, words: list[str], prog: str) -> Iterator[None]:
    try:
        from tyro._errors import on_parse_error
    except ImportError:
        yield
        return

    def refuse(event: Any) -> None:
        names, command_type = find_command(commands, words)
        message = _message(event, names[-1] if names else prog, command_type, words)
        if message is not None:
            raise _usage_error(message, prog, names)

    with on_parse_error(refuse):
        yield


@contextlib.contextmanager
def _joined_help_lines() -> Iterator[None]:
    """Lets tyro join all lines of a paragraph, also indented ones, as in docstrings of fields."""
    try:
        from tyro import _strings

        before = _strings.remove_single_line_breaks
    except (ImportError, AttributeError):
        yield
        return
    _strings.remove_single_line_breaks = _join_lines
    try:
        yield
    finally:
        _strings.remove_single_line_breaks = before


def _join_lines(text: str) -> str:
    """Joins the lines of each paragraph; an example at the end becomes a paragraph of its own."""
    text = re.sub(r"\n\s*(Example: )", r"\n\n\1", text.strip())
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text))


def _usage_error(message: str, prog: str, names: list[str]) -> ZoojaxError:
    return ZoojaxError(f"{message} (see `{' '.join([prog, *names])} --help`)")


def _message(event: Any, name: str, command_type: Any, words: list[str]) -> str | None:
    """Describes a parsing error; None for an unknown kind of error.

    Args:
        event: the error as reported by tyro.
        name: name of the command or group of commands.
        command_type: its type.
        words: the command line.
    """
    kind = type(event).__name__
    if kind == "UnrecognizedArgs":
        return _unknown_word(event.tokens, name, command_type)
    if kind == "MissingSubcommand":
        return f"{name} needs one of {', '.join(subcommands(command_type))}"
    if kind == "MissingArgs":
        if event.unrecognized_tokens:
            return _unknown_word(event.unrecognized_tokens, name, command_type)
        return f"{name} needs {' and '.join(_usage(a.arg) for a in event.missing_arguments)}"
    if kind == "InvalidChoice":
        known = ", ".join(sorted(choice for choice in event.choices if choice != "None"))
        value = printable(event.value, 80)
        return f"{_usage(event.argument, False)} is '{value}'; give one of {known}"
    if kind == "BadValue" and event.reason == "too_few_values":
        return f"{_usage(event.argument, False)} needs a value: {event.argument.lowered.metavar}"
    if kind == "InstantiationFailure" and event.argument is not None:
        return _wrong_type(event.argument, words)
    return None


def _unknown_word(tokens: list[str], name: str, command_type: Any) -> str:
    """Names the first word that a command does not know, and the most similar one it knows."""
    below = list(subcommands(command_type))
    options = [token for token in tokens if token.startswith("-")]
    if below and not tokens[0].startswith("-"):
        options = []  # They are those of an unknown command.
    token = (options or tokens)[0].partition("=")[0]
    word = printable(token, 80)
    if not options and not below:
        return f"{name} takes no further argument '{word}'"
    known = below
    if options:
        global_options = ("--plugin", "--config", "--print-config")
        if not dataclasses.is_dataclass(command_type):
            global_options = (*global_options, "--version")
        own = [option for option, _ in command_options(command_type)]
        known = ["--help", *global_options, *own]
    near = difflib.get_close_matches(token.replace("_", "-"), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{name} has no {'option' if options else 'command'} {word}{hint}"


def _usage(argument: Any, with_value: bool = True) -> str:
    """Formats an argument as users write it: --out ZOO, or ZOO if it is positional."""
    value = argument.lowered.metavar
    if argument.is_positional():
        return value
    # Aliases come before the name.
    option = argument.lowered.name_or_flags[-1]
    return f"{option} {value}" if with_value and value else option


def _wrong_type(argument: Any, words: list[str]) -> str | None:
    """Describes the first value of an argument that is not of its type."""
    kind, several = _value_type(argument.field.type_stripped)
    if kind not in _ONE_VALUE:
        return None
    if argument.is_positional():
        values = words
    else:
        values = _option_values(argument.lowered.name_or_flags, words)
    wrong = next((word for word in values if not _is_valid(kind, word)), " ".join(values))
    expected = (_SEVERAL_VALUES if several else _ONE_VALUE)[kind]
    return f"{_usage(argument, False)} expects {expected}, not '{printable(wrong, 80)}'"


def _value_type(kind: Any) -> tuple[Any, bool]:
    """Returns the type of one value of an argument, and whether it takes several values."""
    several = False
    while get_args(kind):
        several |= get_origin(kind) is tuple
        kind = next(part for part in get_args(kind) if part is not type(None))
    return kind, several


def _option_values(options: tuple[str, ...], words: list[str]) -> list[str]:
    """Returns the values of an option at its last occurrence.

    Args:
        options: spellings of the option.
        words: the command line.
    """
    for i in reversed(range(len(words))):
        option, equals, value = words[i].partition("=")
        if option.replace("_", "-") in options:
            following = words[i + 1 :]
            end = next((j for j, w in enumerate(following) if w.startswith("--")), None)
            return [value] if equals else following[:end]
    return []


def _is_valid(kind: type, word: str) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True


def find_command(commands: Any, words: list[str]) -> tuple[list[str], Any]:
    """Returns the names of the command in a command line, and its type.

    Without a complete command, the type is that of the group of commands, or the union of all.
    """
    names, command_type = [], commands
    for word in words:
        known = subcommands(command_type)
        if not known:
            break
        if word in known:
            names.append(word)
            command_type = known[word]
        elif not word.startswith("-"):
            break
    return names, command_type


def subcommands(command_type: Any) -> dict[str, Any]:
    """Returns the types of commands by name, of a union or a group of commands; else {}."""
    if dataclasses.is_dataclass(command_type):
        fields = dataclasses.fields(command_type)
        return next(filter(None, (subcommands(field.type) for field in fields)), {})
    commands = {}
    for choice in get_args(command_type):
        for note in getattr(choice, "__metadata__", ()):
            if dataclasses.is_dataclass(get_args(choice)[0]) and hasattr(note, "name"):
                commands[note.name] = get_args(choice)[0]
    return commands


def command_options(command_type: Any) -> list[tuple[str, Any]]:
    """Returns the names and types of a command's options; none for a group of commands."""
    options = []
    for field in dataclasses.fields(command_type) if dataclasses.is_dataclass(command_type) else ():
        kind, notes = field.type, ()
        if get_origin(kind) is Annotated:
            kind, *notes = get_args(kind)
        if dataclasses.is_dataclass(kind):
            options += command_options(kind)
        elif tyro.conf.Positional not in notes and not subcommands(kind):
            options.append((f"--{field.name.replace('_', '-')}", kind))
    return options


def _with_expanded_paths(command: Any) -> Any:
    """Returns a command with `~` expanded in all of its paths."""

    def expanded(value: Any) -> Any:
        if isinstance(value, Path):
            return expand_user(value)
        if isinstance(value, tuple):
            return tuple(expanded(part) for part in value)
        if dataclasses.is_dataclass(value):
            return _with_expanded_paths(value)
        return value

    values = {f.name: expanded(getattr(command, f.name)) for f in dataclasses.fields(command)}
    return dataclasses.replace(command, **values)
