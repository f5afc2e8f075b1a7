"""`zoojax presets`: lists the presets of `zoojax train`."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoojax.cli.options import Flag

if TYPE_CHECKING:
    from zoojax.presets import Preset


@dataclass(frozen=True)
class Presets:
    """List the presets of `zoojax train` with their hyperparameters."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Prints one row per preset."""
        from zoojax.cli.terminal import Column, print_table, show_json
        from zoojax.presets import PRESETS

        if self.json:
            show_json({name: _to_json(preset) for name, preset in PRESETS.items()})
            return
        twins = [twin.sparsifier for preset in PRESETS.values() for twin in preset.twins]
        sparsifiers = {each.name: each for each in twins}
        columns = (
            Column("preset", numeric=False),
            Column("members"),
            Column("lr", folds=True),
            *(Column(f"lr {each.short}", folds=True) for each in sparsifiers.values()),
            Column("weight decay", folds=True),
            Column("net", numeric=False),
            Column("activation", numeric=False, folds=True),
            Column("optimizer", numeric=False, folds=True),
            Column("dropout", folds=True),
            Column("data", numeric=False),
            Column("init", numeric=False, folds=True),
        )
        print_table(
            columns,
            [_row(name, preset, list(sparsifiers)) for name, preset in PRESETS.items()],
            caption="lr: learning rates of dense training, "
            + "".join(f"of {each.label} ({each.short}), " for each in sparsifiers.values())
            + "own: each member's own",
        )


def _to_json(preset: "Preset") -> dict[str, Any]:
    from zoojax.sparsifiers.registry import sparsifier_to_json

    twins = [
        {
            "sparsifier": sparsifier_to_json(twin.sparsifier),
            "learning_rate": twin.learning_rate,
            "alternative": twin.alternative and sparsifier_to_json(twin.alternative),
        }
        for twin in preset.twins
    ]
    return {**asdict(preset), "twins": twins}


def _row(name: str, preset: "Preset", sparsifiers: list[str]) -> tuple[str, ...]:
    grid = preset.grid
    return (
        name,
        str(grid.combinations * grid.seeds),
        _joined(grid.learning_rates),
        *(_rate(preset, sparsifier) for sparsifier in sparsifiers),
        _joined(grid.weight_decays),
        preset.architecture,
        _joined(grid.activations),
        _joined(grid.optimizers),
        _joined(grid.dropouts),
        preset.data.name,
        _joined(grid.inits),
    )


def _joined(values: tuple) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, float) else v for v in values)


def _rate(preset: "Preset", sparsifier: str) -> str:
    twin = preset.twin(sparsifier)
    return "own" if twin is None or twin.learning_rate is None else f"{twin.learning_rate:g}"
