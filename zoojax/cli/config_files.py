"""Config files of commands: `--config FILE`, `--print-config`, and the file in a zoo.

    command: train
    preset: usps-s-seed
    out: zoos/usps
    learning_rate: [0.001, 0.01]

A file is a YAML mapping of options to values, by the names that --help shows, with "-" or "_".
Options on the command line replace those of the file.
"""

import contextlib
import dataclasses
import difflib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args, get_origin

import tyro
import yaml

from zoojax.cli.parsing import find_command, subcommands
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write
from zoojax.filesystem.paths import user_path
from zoojax.filesystem.reading import MIB, read_bytes
from zoojax.text import first_line, printable

# The file in the folder of a zoo with the command that created it.
FILE_NAME = "command.yaml"
OPTION, PRINT = "--config", "--print-config"
_COMMAND, _PLUGINS = "command", "plugin"
_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_NULL = ("", "~", "null", "Null", "NULL")


class Argument(NamedTuple):
    """An argument of a command.

    Attributes:
        name: Name of the field.
        is_positional: Whether it has no option.
        is_flag: Whether it is an option without a value.
        takes_several: Whether it takes several values.
        default: Its default; `dataclasses.MISSING` without one.
    """

    name: str
    is_positional: bool
    is_flag: bool
    takes_several: bool
    default: Any

    @property
    def option(self) -> str:
        """Spelling of the option."""
        return f"--{self.name.replace('_', '-')}"


@dataclasses.dataclass(frozen=True)
class ConfigFile:
    """The content of a config file.

    Attributes:
        path: The file.
        command: Names of the command and its subcommand; empty if the file names none.
        plugins: Modules to import.
        values: Values by the name of the option: None, a text, or a list of texts.
    """

    path: Path
    command: tuple[str, ...]
    plugins: tuple[str, ...]
    values: dict[str, str | list[str] | None]

    def with_command(self, words: Sequence[str]) -> list[str]:
        """Returns a command line that starts with the file's command.

        Raises:
            ZoojaxError: The command line has another command.
        """
        own = list(self.command)
        given = list(itertools.takewhile(lambda word: not word.startswith("-"), words))[: len(own)]
        if given != own[: len(given)]:
            raise ZoojaxError(
                f"{self.path} is the config of `zoojax {printable(' '.join(own), 80)}`, not of "
                f"`zoojax {printable(' '.join(given), 80)}`"
            )
        return [*own, *words[len(given) :]]

    def with_options(self, words: Sequence[str], commands: Any) -> list[str]:
        """Adds the options of the file to a command line, except those that the command line has.

        Args:
            words: The command line.
            commands: Union of all commands.

        Raises:
            ZoojaxError: An option is unknown to the command, or its value is invalid.
        """
        names, command_type = find_command(commands, list(words))
        below = list(subcommands(command_type))
        if below:
            raise self._no_command(names, words, below)
        known = {each.name: each for each in arguments(command_type)}
        present = {word.partition("=")[0].replace("_", "-") for word in words}
        options: list[str] = []
        positional: dict[str, list[str]] = {}
        for key, value in self.values.items():
            argument = known.get(key.replace("-", "_"))
            if argument is None:
                raise self._unknown(key, names, list(known))
            if argument.is_positional:
                positional[argument.name] = self._texts(argument, value)
            elif argument.option not in present:
                options += self._option_words(argument, value)
        end = _end_of_command(words, names)
        first = []
        if end == len(words) or words[end].startswith("-"):
            first = [word for name in known for word in positional.get(name, ())]
        return [*words[:end], *first, *words[end:], *options]

    def _no_command(
        self, names: Sequence[str], words: Sequence[str], known: list[str]
    ) -> ZoojaxError:
        """Returns the error if a file and a command line do not name a complete command."""
        group = "zoojax" if not names else names[-1]
        given = [word for word in words if not word.startswith("-")][len(names) :]
        if not given:
            what = f"no command of {group}; there are: {', '.join(known)}"
            return ZoojaxError(f"{self.path} names {what} (add a line such as 'command: train')")
        near = difflib.get_close_matches(given[0], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return ZoojaxError(f"{self.path}: {group} has no command {printable(given[0], 60)}{hint}")

    def _unknown(self, key: str, names: Sequence[str], known: list[str]) -> ZoojaxError:
        near = difflib.get_close_matches(key.replace("-", "_"), [*known, _PLUGINS], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        command = " ".join(names)
        return ZoojaxError(f"{self.path}: {command} has no option {printable(key, 60)}{hint}")

    def _texts(self, argument: Argument, value: str | list[str] | None) -> list[str]:
        if value is None:
            return []
        if isinstance(value, str):
            return [value]
        if not argument.takes_several:
            raise ZoojaxError(f"{self.path}: {argument.name} takes one value, not a list")
        return value

    def _option_words(self, argument: Argument, value: str | list[str] | None) -> list[str]:
        texts = self._texts(argument, value)
        if not argument.is_flag:
            if value is None:
                return []
            # With "=", a value may start with "-".
            single = len(texts) == 1
            return [f"{argument.option}={texts[0]}"] if single else [argument.option, *texts]
        text = texts[0].lower() if texts else ""
        if text not in (*_TRUE, *_FALSE):
            raise ZoojaxError(f"{self.path}: {argument.name} is true or false, not {value}")
        if (text in _TRUE) == bool(argument.default):
            return []
        return [argument.option if text in _TRUE else f"--no-{argument.option[2:]}"]


def _end_of_command(words: Sequence[str], names: Sequence[str]) -> int:
    """Returns the position after the command's names in a command line."""
    left, position = list(names), 0
    while left:
        if words[position] == left[0]:
            left.pop(0)
        position += 1
    return position


def split_config(words: Sequence[str]) -> tuple[list[str], Path | None, bool]:
    """Takes --config and --print-config out of a command line.

    Args:
        words: The command line; the options may be anywhere in it.

    Returns:
        The other words, the file, and whether to print the config.

    Raises:
        ZoojaxError: --config has no value, or is given twice.
    """
    others: list[str] = []
    files: list[str] = []
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option == OPTION:
            files.append(value if equals else next(remaining, ""))
        elif word.replace("_", "-") != PRINT:
            others.append(word)
    if len(files) > 1:
        raise ZoojaxError(f"{OPTION} is given {len(files)} times; give one file")
    if files and (not files[0] or files[0].startswith("--")):
        raise ZoojaxError(f"{OPTION} needs a value: FILE (see `zoojax --help`)")
    shown = any(word.replace("_", "-") == PRINT for word in words)
    return others, user_path(files[0], "config") if files else None, shown


def read_config(path: Path) -> ConfigFile:
    """Reads a config file.

    Raises:
        ZoojaxError: It is missing, not YAML, or not a mapping of names to values.
    """
    try:
        text = read_bytes(path, MIB).decode()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (ValueError, RecursionError) as error:
        raise ZoojaxError(f"{path} is not a config: {first_line(error)}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}"
        reason = getattr(error, "problem", None) or first_line(error)
        raise ZoojaxError(f"{path}{where} is not YAML: {printable(reason, 200)}") from error
    values: dict[str, str | list[str] | None] = {}
    if not isinstance(root, yaml.MappingNode):
        raise ZoojaxError(f"{path} is not a config: it has no lines such as 'members: 64'")
    for key, node in root.value:
        where = f"{path}, line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ZoojaxError(f"{where}: not the name of an option")
        name = key.value.replace("-", "_")
        if name in values:
            raise ZoojaxError(f"{where}: {printable(name, 60)} occurs twice")
        values[name] = _value(node, f"{where}: {printable(name, 60)}")
    command, plugins = values.pop(_COMMAND, None), values.pop(_PLUGINS, None)
    names = command.split() if isinstance(command, str) else command or []
    listed = [plugins] if isinstance(plugins, str) else plugins or []
    return ConfigFile(path, tuple(names), tuple(listed), values)


def _value(node: yaml.Node, where: str) -> str | list[str] | None:
    """Returns the texts of a value. The option determines its type, not YAML."""
    if isinstance(node, yaml.ScalarNode):
        value = None if node.style is None and node.value in _NULL else node.value
        if value is not None and "\0" in value:
            raise ZoojaxError(f"{where} has a null character")
        return value
    if isinstance(node, yaml.SequenceNode):
        values = [_value(item, where) for item in node.value]
        texts = [value for value in values if isinstance(value, str)]
        if len(texts) == len(values):
            return texts
    raise ZoojaxError(f"{where} is neither a value nor a list of values")


def arguments(command_type: Any) -> Iterator[Argument]:
    """Yields the arguments of a command, in the order of its fields."""
    for field in dataclasses.fields(command_type):
        kind, notes = field.type, ()
        while get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            notes = (*notes, *more)
        if dataclasses.is_dataclass(kind):
            yield from arguments(kind)
        else:
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            yield Argument(
                field.name,
                tyro.conf.Positional in notes,
                kind is bool,
                any(get_origin(part) is tuple for part in (kind, *get_args(kind))),
                default,
            )


def to_yaml(command: Any, names: Sequence[str], plugins: Sequence[str]) -> str:
    """Returns the config file of a command, with all of its options that have a value.

    Args:
        command: The parsed command.
        names: Names of the command and its subcommand.
        plugins: Modules that the command imports.
    """
    content: dict[str, Any] = {_COMMAND: " ".join(names)}
    if plugins:
        content[_PLUGINS] = list(plugins)
    for name, value in _values(getattr(command, "action", command)):
        if value is not None:
            content[name] = _plain(value)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=math.inf)


def _values(command: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(command):
        value = getattr(command, field.name)
        if dataclasses.is_dataclass(value):
            yield from _values(value)
        else:
            yield field.name, value


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, bool | int | float) else str(value)


def record(command: Any, names: Sequence[str], plugins: Sequence[str]) -> None:
    """Writes the config of a command to the zoo that it created, unless the zoo already has one.

    Args:
        command: The command, which has run.
        names: Names of the command and its subcommand.
        plugins: Modules that the command imports.
    """
    folder = getattr(getattr(command, "action", command), "out", None)
    if not isinstance(folder, Path) or not (folder / "zoo.json").is_file():
        return
    text, file = to_yaml(command, names, plugins), folder / FILE_NAME
    # The folder of a complete zoo may be read-only.
    with contextlib.suppress(OSError, ZoojaxError):
        if not file.is_file() or file.read_text("utf-8") != text:
            atomic_write(file, lambda path: path.write_text(text, "utf-8"))


def recorded(folder: Path) -> str:
    """Returns the command and the config file that recreate a zoo.

    Args:
        folder: Folder of the zoo.

    Raises:
        ZoojaxError: The zoo has no such file, for example because it was created in Python.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        raise ZoojaxError(
            f"{folder} has no {FILE_NAME}: it was created in Python, or by an older zoojax"
        )
    config = read_config(file)
    text = read_bytes(file, MIB).decode()
    lines = [printable(line, 5000) for line in text.splitlines()]
    head = f"# zoojax {' '.join(config.command)} --config {FILE_NAME}"
    return "\n".join([printable(head), *lines])
