"""Every option of every command exists in Python under the same name and with the same default."""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import tyro

from tests.cli.test_help import COMMANDS
from zoojax.cli.sparsify import subcommand_name
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers

# Functions, or classes of options, that take a command's options in Python.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "presets": ("zoojax.presets:preset_table",),
    "train": ("zoojax:train_zoo",),
    **{
        f"sparsify {subcommand_name(kind)}": ("zoojax:sparsify", f"zoojax:{kind.__name__}")
        for kind in sparsifiers().values()
        if kind is not Dense
    },
    "sparsify list": ("zoojax.sparsifiers.registry:sparsifiers",),
    "evaluate": ("zoojax:evaluate",),
    "analyze": ("zoojax:analyze",),
    "reproduce": ("zoojax:reproduce",),
    "publish": ("zoojax:publish",),
    "info": ("zoojax:info",),
    "bench": ("zoojax.experiments.bench.benchmark:bench",),
    "convert from": ("zoojax.converters:convert_from",),
    "convert from-torch": ("zoojax.converters:from_torch",),
    "convert from-dataset": ("zoojax.converters:from_dataset",),
    "convert to": ("zoojax.converters:convert_to",),
    "convert to-torch": ("zoojax.converters:to_torch",),
    "convert verify": ("zoojax.converters:verify",),
    "represent train": ("zoojax:train_representation",),
    "represent evaluate": ("zoojax.hyper_representation:evaluate_representation",),
    "represent sparsify": ("zoojax.hyper_representation:sparsify_zero_shot",),
    "geometry align": ("zoojax.geometry:align",),
    "geometry align-twin": ("zoojax.geometry:align_twin",),
    "geometry lines": ("zoojax.geometry:lines",),
    "geometry curves": ("zoojax.geometry:curves",),
    "geometry soup": ("zoojax.geometry:soup",),
    "geometry average": ("zoojax.geometry:average_epochs",),
    "geometry curvature": ("zoojax.workflows.geometry:curvature",),
    "geometry similarity": ("zoojax.workflows.geometry:similarity",),
    "geometry basins": ("zoojax.workflows.geometry:basins",),
    "geometry transfer": ("zoojax.workflows.geometry:mask_transfer",),
    "represent sample": ("zoojax.hyper_representation:sample_zoo",),
}
# Options that only the command line has, by the reason. `--plugin` is an option of `zoojax`
# itself: in Python, a module is imported.
ONLY_COMMAND_LINE = {
    "convert from each_network": "a function of its own, convert_each",
    "json": "format of the printed results",
    "geometry lines out": "in Python, barriers and the tables' own methods",
    "geometry curves out": "in Python, barriers and the tables' own methods",
    "evaluate members": "format of the printed results",
    "log": "callbacks, such as TensorBoard()",
    "publish quiet": "report, a function",
    "info show_command": "the file of a command",
    "evaluate select": "`members` in Python, as in `apply`: here, --members is a flag",
    "draw": "distributions, which replace the values of hyperparameters in Python",
    "coordinator": "parameter of zoojax.initialize",
    "num_processes": "parameter of zoojax.initialize",
    "process_id": "parameter of zoojax.initialize",
}


def options(command: type) -> dict[str, Any]:
    """Defaults of a command's options by name; MISSING for those that must be given."""
    found = {}
    for field in dataclasses.fields(command):
        kind, *notes = get_args(field.type) or (field.type,)
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found |= options(kind)
        elif tyro.conf.Positional not in notes:
            names = [note.name for note in notes if getattr(note, "name", None)]
            found[names[0] if names else field.name] = field.default
    return found


def imported(path: str) -> Callable:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def defaults(command: str) -> dict[str, Any]:
    """Defaults of the parameters in Python by name."""
    return {
        name: parameter.default
        for path in FUNCTIONS[command]
        for name, parameter in inspect.signature(imported(path)).parameters.items()
    }


def resolved(command: str, name: str, default: Any) -> Any:
    """A default in Python; None is replaced by the default that the sparsifier supplies."""
    kinds = {f"sparsify {subcommand_name(kind)}": kind for kind in sparsifiers().values()}
    if default is None and command in kinds:
        return getattr(kinds[command], f"default_{name}", None)
    return default


def test_every_command_has_a_function():
    assert FUNCTIONS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", FUNCTIONS)
def test_options_are_parameters_in_python(command):
    in_python = defaults(command)
    for name, default in options(COMMANDS[command]).items():
        if name in ONLY_COMMAND_LINE or f"{command} {name}" in ONLY_COMMAND_LINE:
            continue
        assert name in in_python, f"no parameter {name} in {FUNCTIONS[command]}"
        if default is not dataclasses.MISSING:
            found = resolved(command, name, in_python[name])
            expected = str(default) if isinstance(default, Path) else default
            assert found == expected and type(found) is type(expected), name


def test_options_of_processes_are_those_of_initialize():
    names = {name for name, reason in ONLY_COMMAND_LINE.items() if "initialize" in reason}
    assert names == inspect.signature(imported("zoojax:initialize")).parameters.keys()


def test_exceptions_are_options():
    """So that no exception outlives its option."""
    known = {name for command in COMMANDS.values() for name in options(command)}
    known |= {f"{name} {each}" for name, kind in COMMANDS.items() for each in options(kind)}
    assert set(ONLY_COMMAND_LINE) <= known
