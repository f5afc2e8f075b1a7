"""Options of `zoojax train` for hyperparameters, one per declaration in `zoojax.Grid`."""

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoojax.cli.options import option
from zoojax.hyperparameters.declaration import Hyperparameter
from zoojax.hyperparameters.grid import HYPERPARAMETERS

_METAVARS = {str: "NAME ...", float: "NUMBER ...", int: "N ..."}


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

else:
    Hyperparameters = dataclasses.make_dataclass(
        "Hyperparameters",
        map(_field, HYPERPARAMETERS),
        namespace={"__doc__": "Hyperparameters; every combination of several values is trained."},
        frozen=True,
    )

HyperparameterOptions = tyro.conf.OmitArgPrefixes[Hyperparameters]
