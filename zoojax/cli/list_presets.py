"""`zoojax presets`: lists the presets of `zoojax train`."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

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
            show_json({name: asdict(preset) for name, preset in PRESETS.items()})
            return
        columns = (
            Column("preset", numeric=False),
            Column("members"),
            Column("lr", folds=True),
            Column("lr VD", folds=True),
            Column("lr MP", folds=True),
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
            [_row(name, preset) for name, preset in PRESETS.items()],
            caption="lr: learning rates of dense training, of variational dropout (VD) and of "
            "fine-tuning after magnitude pruning (MP); own: each member's own",
        )


def _row(name: str, preset: "Preset") -> tuple[str, ...]:
    grid = preset.grid
    return (
        name,
        str(grid.combinations * grid.seeds),
        _joined(grid.learning_rates),
        _rate(preset.vd_learning_rate),
        _rate(preset.mp_learning_rate),
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


def _rate(value: float | None) -> str:
    return "own" if value is None else f"{value:g}"
