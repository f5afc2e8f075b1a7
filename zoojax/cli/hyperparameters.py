"""Options of `zoojax train` for hyperparameters, one per declaration in `zoojax.Grid`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoojax.cli.options import option
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import Hyperparameter, check_name
from zoojax.hyperparameters.draws import parse_distribution
from zoojax.hyperparameters.grid import BY_NAME, HYPERPARAMETERS

_METAVARS = {str: "NAME ...", float: "NUMBER ...", int: "N ..."}


_DRAW = option(
    "NAME=DISTRIBUTION ...",
    text="Hyperparameters for which every member draws its own value, determined by its seed, such "
    "as learning_rate=log:1e-4:1e-2, dropout=uniform:0:0.5 or activation=choice:relu:tanh.",
)


def _field(declared: Hyperparameter) -> tuple[str, Any, Any]:
    default = "the preset's"
    if declared.optional and not declared.static:
        default = declared.default if declared.known else f"{declared.default:g}"
    text = f"{declared.help} (default: {default})."
    several = tuple[declared.kind, ...] | None
    note = option(_METAVARS[declared.kind], text=text)
    return declared.name, Annotated[several, note], dataclasses.field(default=None)


if TYPE_CHECKING:

    class Hyperparameters:
        """Options by the name of the hyperparameter: its values, or None."""

        draw: tuple[str, ...]

else:
    Hyperparameters = dataclasses.make_dataclass(
        "Hyperparameters",
        [*map(_field, HYPERPARAMETERS), ("draw", Annotated[tuple[str, ...], _DRAW], ())],
        namespace={"__doc__": "Hyperparameters; every combination of several values is trained."},
        frozen=True,
    )


def given(options: Hyperparameters) -> dict[str, Any]:
    """Returns the values and distributions that the options name, by hyperparameter.

    Raises:
        ZoojaxError: If a distribution is invalid, or a hyperparameter is given twice.
    """
    values = {name: value for name, value in vars(options).items() if name != "draw"}
    for text in options.draw:
        name, _, distribution = text.partition("=")
        name = name.replace("-", "_")
        check_name("hyperparameter", name, BY_NAME)
        if values[name] is not None:
            raise ZoojaxError(f"{name} is given twice; give values or one distribution")
        values[name] = parse_distribution(distribution, BY_NAME[name])
    return values


HyperparameterOptions = tyro.conf.OmitArgPrefixes[Hyperparameters]
