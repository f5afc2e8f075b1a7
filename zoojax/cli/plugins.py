"""Modules of the user: --plugin, $ZOOJAX_PLUGINS, and MODULE:OBJECT.

A module registers architectures, sparsifiers and analysis tables when it is imported. An object is
a sparsifier, or a function that creates an architecture.

Only modules that the user names on the command line or in the environment are imported, never
anything that a zoo names.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoojax.errors import ZoojaxError
from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.sparsifiers.base import Sparsifier

OPTION = "--plugin"
VARIABLE = "ZOOJAX_PLUGINS"


def split_plugins(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes the plugins out of a command line.

    Args:
        words: The command line; --plugin may occur anywhere in it, also several times.

    Returns:
        The other words, and the names of the modules: those of $ZOOJAX_PLUGINS, separated by
        commas, then those of the command line.

    Raises:
        ZoojaxError: If --plugin has no value.
    """
    listed = os.environ.get(VARIABLE, "").split(",")
    others, modules = [], [name.strip() for name in listed if name.strip()]
    remaining = iter(words)
    for word in remaining:
        option, equals, value = word.partition("=")
        if option != OPTION:
            others.append(word)
            continue
        value = value if equals else next(remaining, "")
        if not value or value.startswith("-"):
            raise ZoojaxError(f"{OPTION} needs a value: MODULE (see `zoojax --help`)")
        modules.append(value)
    return others, modules


def import_plugins(plugins: Sequence[str]) -> None:
    """Imports modules that register something, and objects; also from the current folder.

    Args:
        plugins: Names of modules, such as "package.module", or of objects in them, such as
            "package.module:net".

    Raises:
        ZoojaxError: If a name is invalid, a module cannot be found or imported, or an object is
            neither a sparsifier nor a function.
    """
    for plugin in plugins:
        if ":" not in plugin:
            _import(plugin)
        elif isinstance(_object(plugin), type):
            load_sparsifier(plugin)
        else:
            load_architecture(plugin)


def load_sparsifier(reference: str) -> "type[Sparsifier]":
    """Imports a sparsifier, and registers it if its module does not.

    Args:
        reference: Its module and name, such as "package.module:MySparsifier".

    Raises:
        ZoojaxError: If the module cannot be imported, has no such object, or the object is not
            a sparsifier.
    """
    from zoojax.sparsifiers.dense import Dense
    from zoojax.sparsifiers.registry import register_sparsifier, sparsifiers

    loaded = _object(reference)
    if loaded is Dense:
        raise ZoojaxError(f"{reference} trains without sparsification; name a sparsifier")
    if loaded not in sparsifiers().values():
        register_sparsifier(loaded)
    return loaded


def load_architecture(reference: str) -> None:
    """Imports a function that creates an architecture, and registers it under its reference.

    Args:
        reference: Its module and name, such as "package.module:net": a function of the number of
            channels and of classes.

    Raises:
        ZoojaxError: If the module cannot be imported, has no such object, or the object is not
            a function.
    """
    from zoojax.architectures.registry import register_architecture

    loaded = _object(reference)
    if isinstance(loaded, type) or not callable(loaded):
        raise ZoojaxError(
            f"{printable(reference, 200)} is not a function (channels, classes) that returns an "
            "architecture"
        )
    register_architecture(reference, _Named(reference, loaded))


@dataclass(frozen=True)
class _Named:
    """Creates an architecture under the name that it is loaded by."""

    name: str
    factory: Callable[[int, int], Any]

    def __call__(self, channels: int, classes: int) -> Any:
        from zoojax.architectures.base import Architecture

        created = self.factory(channels, classes)
        return replace(created, name=self.name) if isinstance(created, Architecture) else created


def _object(reference: str) -> Any:
    """Imports the module of an object and returns the object."""
    module_name, _, name = reference.partition(":")
    module = _import(module_name)
    if not hasattr(module, name):
        file = getattr(module, "__file__", None)
        raise ZoojaxError(
            f"module {module_name}{f' ({file})' if file else ''} has no object "
            f"'{printable(name, 80)}'"
        )
    return getattr(module, name)


def _import(name: str):
    """Imports a module from `sys.path`, or else from the current folder."""
    shown = printable(name, 80)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ZoojaxError(f"'{shown}' is not the name of a module, such as package.module")
    folder = str(Path.cwd())
    if folder not in sys.path and not _is_known(name.partition(".")[0]):
        # Last, so that files in the folder never replace modules that are installed.
        sys.path.append(folder)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        reason = error if isinstance(error, ZoojaxError) else f"{type(error).__name__}: {error}"
        raise ZoojaxError(f"module {shown} cannot be imported: {printable(reason)}") from error


def _is_known(package: str) -> bool:
    """Whether a top-level module is imported or can be found."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
