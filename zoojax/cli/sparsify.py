"""`zoojax sparsify NAME ZOO --out TWIN`: trains a sparse twin of a dense zoo; `sparsify list`.

The subcommands and their options are derived from the registered sparsifiers. Importing this
module imports neither them nor JAX.
"""

import dataclasses
import functools
import operator
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import docstring_parser
import tyro

from zoojax.cli.list_sparsifiers import ListSparsifiers
from zoojax.cli.options import LogOption, RunningOptions, RunOptions, callbacks, option
from zoojax.cli.parsing import command_options
from zoojax.errors import ZoojaxError
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.sparsifiers.base import Sparsifier


@dataclass(frozen=True)
class SparsifyWith:
    """Options that all sparsifiers share; `_command` adds those of a sparsifier."""

    sparsifier: ClassVar[type[Any]]

    zoo: Annotated[Path, tyro.conf.Positional, option("ZOO")]
    """Folder of the dense zoo."""

    out: Annotated[Path, option("TWIN")]
    """Folder of the twin: new, or of an interrupted run of the same command."""

    epoch: Annotated[int | None, option("EPOCH")] = None
    """Epoch of the dense zoo to start from (default: the last)."""

    members: Annotated[int | None, option("N")] = None
    """Sparsify only the first N members of the dense zoo (default: all)."""

    learning_rate: Annotated[float | None, option("RATE")] = None
    """Learning rate (default: the preset's; without a preset, each member's own)."""

    epochs: Annotated[int, option("N")] = 0
    """Number of epochs."""

    data: Annotated[Path | None, option("NPZ")] = None
    """Current path of the .npz file with the dense zoo's images, if it was moved."""

    log: LogOption = ()
    """Also write event files for TensorBoard to logs/tensorboard in the folder of the zoo."""

    running: RunningOptions = field(default_factory=RunOptions)

    def run(self) -> None:
        """Trains the twin and prints its metrics."""
        configure_jax(self.running.processes.group)
        from zoojax.api.twins import sparsify
        from zoojax.cli.terminal import show

        names = [each.name for each in dataclasses.fields(self.sparsifier)]
        sparsifier = self.sparsifier(**{name: getattr(self, name) for name in names})
        running = self.running
        twin = sparsify(
            *(self.zoo, sparsifier, self.out),
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            epoch=self.epoch,
            members=self.members,
            chunk=running.chunk,
            data=self.data,
            data_dir=running.data_dir,
            quiet=running.quiet,
            callbacks=callbacks(self.log),
        )
        last = twin.metrics.filter(epoch=twin.epochs[-1])
        show(twin, last, as_json=running.json, title=f"{twin.config.name} in {twin.path}")


@dataclass(frozen=True)
class Sparsify:
    """Train a sparse twin of a dense zoo; `zoojax sparsify list` lists the sparsifiers."""

    action: ClassVar[SparsifyWith | ListSparsifiers]

    def run(self) -> None:
        """Trains the twin, or lists the sparsifiers."""
        self.action.run()


_LIST = "list"
# Names that options of sparsifiers cannot have.
_RESERVED = {
    *("help", "plugin", "run", "sparsifier", "zoo", "running"),
    *(name.strip("-").replace("-", "_") for name, _ in command_options(SparsifyWith)),
}


def sparsify_command(examples: bool = True) -> type[Sparsify]:
    """Creates the command `sparsify`: one subcommand per registered sparsifier, and "list".

    Args:
        examples: Whether descriptions of sparsifiers have an example; the help that lists all
            sparsifiers has none.

    Raises:
        ZoojaxError: If the name or the options of a sparsifier cannot be those of a command.
    """
    from zoojax.sparsifiers.dense import Dense
    from zoojax.sparsifiers.registry import sparsifiers

    annotated: Any = Annotated
    choices = [annotated[ListSparsifiers, tyro.conf.subcommand(_LIST)]]
    for each in sparsifiers().values():
        name = subcommand_name(each)
        if name == _LIST:
            raise ZoojaxError(f"sparsifier {each.__qualname__}: '{_LIST}' names another command")
        if each is not Dense:
            description = None if examples else _summary(each)
            named = tyro.conf.subcommand(name, description=description)
            choices.append(annotated[_command(each), named])
    return dataclasses.make_dataclass(
        "SparsifyCommand",
        [("action", functools.reduce(operator.or_, choices))],
        bases=(Sparsify,),
        namespace={"__doc__": Sparsify.__doc__, "__module__": __name__},
        frozen=True,
    )


def subcommand_name(sparsifier: "type[Sparsifier]") -> str:
    """Returns the name of a sparsifier on the command line, such as "magnitude-pruning"."""
    return sparsifier.name.replace("_", "-")


def _command(sparsifier: "type[Sparsifier]") -> type[SparsifyWith]:
    """Creates the subcommand of a sparsifier, whose options are the sparsifier's fields."""
    name = subcommand_name(sparsifier)
    example = (
        f"Example: zoojax sparsify {name} zoos/usps --out zoos/usps-{sparsifier.short.lower()}"
    )
    epochs = Annotated[int, option("N")]
    return dataclasses.make_dataclass(
        "SparsifyWithOptions",
        [("epochs", epochs, field(default=sparsifier.default_epochs)), *_options(sparsifier)],
        bases=(SparsifyWith,),
        namespace={
            "__doc__": f"{_summary(sparsifier)}\n\n{example}",
            "__module__": __name__,
            "sparsifier": sparsifier,
        },
        frozen=True,
        kw_only=True,
    )


def _summary(sparsifier: "type[Sparsifier]") -> str:
    """Returns the first paragraph of a sparsifier's docstring."""
    text = (sparsifier.__doc__ or "").strip()
    if not text or text.startswith(f"{sparsifier.__name__}("):  # Written by `dataclass`.
        return f"Sparsify with {sparsifier.label}."
    return text.split("\n\n")[0]


def _options(sparsifier: "type[Sparsifier]") -> Iterator[tuple[str, Any, Any]]:
    """Yields name, type and default of the options of a sparsifier, as for `make_dataclass`."""
    where = f"sparsifier {sparsifier.__qualname__}"
    try:
        types = typing.get_type_hints(sparsifier, include_extras=True)
    except (NameError, TypeError) as error:
        raise ZoojaxError(f"{where}: a type is invalid: {error}") from error
    texts = _texts(sparsifier)
    for each in dataclasses.fields(sparsifier):
        if each.name in _RESERVED:
            raise ZoojaxError(f"{where}: {each.name} is the name of an option of all sparsifiers")
        kind = types[each.name]
        metavar = _metavar(sparsifier, each.name, kind)
        annotated: Any = Annotated
        default = field(default=each.default)
        if each.default_factory is not dataclasses.MISSING:
            default = field(default_factory=each.default_factory)
        yield each.name, annotated[kind, option(metavar, text=texts.get(each.name))], default


def _texts(sparsifier: "type[Sparsifier]") -> dict[str, str]:
    """Returns the documentation of options: docstrings of fields, or "Attributes" of the class."""
    texts: dict[str, str] = {}
    for parent in reversed(sparsifier.__mro__[:-1]):
        for entry in docstring_parser.parse_from_object(parent).params:
            if entry.description:
                texts[entry.arg_name] = " ".join(entry.description.split())
    return texts


def _metavar(sparsifier: "type[Sparsifier]", name: str, kind: Any) -> str | None:
    """Returns the placeholder of an option's value; None for flags and choices."""
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    several = typing.get_origin(kind) is tuple
    values = typing.get_args(kind)[:1] if several else (kind,)
    if kind is bool or any(typing.get_origin(value) is Literal for value in values):
        return None
    metavar = "N" if values == (int,) else sparsifier.per_member.get(name, name)
    return metavar.upper().replace("_", "-") + (" ..." if several else "")
