"""All presets by name."""

import difflib

import polars as pl

from zoojax.datasets.specs import DataSpec
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.draws import Distribution
from zoojax.hyperparameters.grid import BY_NAME, Grid
from zoojax.presets.paper import PAPER
from zoojax.presets.resnets import RESNETS
from zoojax.presets.settings import Preset, twin_settings
from zoojax.presets.siren import siren_presets
from zoojax.presets.small_cnn_zoo import SMALL_CNN_ZOO
from zoojax.sparsifiers.base import Sparsifier
from zoojax.text import printable

# Not from the paper: its images need no download, and it trains in minutes on a laptop.
_DIGITS = Preset(
    "small",
    DataSpec("digits", 28, 1, 0.5, 0.5),
    Grid(inits=("kaiming_uniform",), learning_rates=(1e-3,), seeds=1000),
    twin_settings(3e-3, 1e-3),
    epochs=25,
)
PRESETS: dict[str, Preset] = {"digits-s-seed": _DIGITS, **PAPER, **SMALL_CNN_ZOO, **RESNETS}
PRESETS |= siren_presets(PAPER | {"digits-s-seed": _DIGITS})


def preset(name: str) -> Preset:
    """Returns the preset with a name.

    Raises:
        ZoojaxError: If there is no such preset; the message suggests the most similar name.

    Example:
        >>> zoojax.presets.preset("usps-s-seed").epochs
        50
    """
    if not isinstance(name, str):
        raise ZoojaxError(f"preset is {printable(name, 80)}; give the name of a preset")
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise ZoojaxError(f"no preset named '{name}'; {hint}`zoojax presets` lists them all")


def preset_table() -> pl.DataFrame:
    """Lists all presets with their hyperparameters.

    Returns:
        One row per preset: `preset` (its name), `members`, `learning_rates`, one column
        `learning_rate_METHOD` per sparsifier, such as `learning_rate_vd` (null: each member's
        own), `weight_decays`, `architecture`, `activations`, `optimizers`, `dropouts`, `data`,
        `inits`, and `drawn`: the hyperparameters that every member draws, such as "learning rate:
        0.001 to 0.1 (log)"; their lists are empty.

    Example:
        >>> table = zoojax.presets.preset_table()
        >>> table.filter(preset="usps-s-seed")["learning_rates"].to_list()
        [[0.0003]]
    """
    sparsifiers = preset_sparsifiers()
    rows = []
    for name, settings in PRESETS.items():
        grid = settings.grid
        rates = {}
        for sparsifier in sparsifiers:
            twin = settings.twin(sparsifier.name)
            rate = None if twin is None else twin.learning_rate
            rates[f"learning_rate_{sparsifier.method}"] = rate
        rows.append(
            {
                "preset": name,
                "members": grid.combinations * grid.seeds,
                "learning_rates": _listed(grid.learning_rates),
                **rates,
                "weight_decays": _listed(grid.weight_decays),
                "architecture": settings.architecture,
                "activations": _listed(grid.activations),
                "optimizers": _listed(grid.optimizers),
                "dropouts": _listed(grid.dropouts),
                "data": settings.data.name,
                "inits": _listed(grid.inits),
                "drawn": [f"{BY_NAME[n].label}: {d}" for n, d in grid.distributions.items()],
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


def _listed(values: tuple | Distribution) -> list:
    return [] if isinstance(values, Distribution) else list(values)


def preset_sparsifiers() -> list[Sparsifier]:
    """Returns the sparsifiers of the presets' twins, one per kind."""
    used = [twin.sparsifier for settings in PRESETS.values() for twin in settings.twins]
    return list({each.name: each for each in used}.values())
