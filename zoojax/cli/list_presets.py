"""`zoojax presets`: lists the presets of `zoojax train`."""

from dataclasses import asdict, dataclass, fields
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
        from zoojax.presets import PRESETS, preset_sparsifiers, preset_table

        if self.json:
            show_json({name: _to_json(preset) for name, preset in PRESETS.items()})
            return
        sparsifiers = preset_sparsifiers()
        columns = (
            Column("preset", numeric=False),
            Column("members"),
            Column("lr", folds=True),
            *(Column(f"lr {each.short}", folds=True) for each in sparsifiers),
            Column("weight decay", folds=True),
            Column("net", numeric=False),
            Column("activation", numeric=False, folds=True),
            Column("optimizer", numeric=False, folds=True),
            Column("dropout", folds=True),
            Column("data", numeric=False),
            Column("init", numeric=False, folds=True),
        )
        table = preset_table()
        print_table(
            columns,
            [list(map(_text, row)) for row in table.drop("drawn").iter_rows()],
            caption="lr: learning rates of dense training, "
            + "".join(f"of {each.label} ({each.short}), " for each in sparsifiers)
            + "own: each member's own; drawn: every member draws its own (--json shows from what)",
        )


def _to_json(preset: "Preset") -> dict[str, Any]:
    from zoojax.hyperparameters.draws import Distribution
    from zoojax.sparsifiers.registry import sparsifier_to_json

    twins = [
        {
            "sparsifier": sparsifier_to_json(twin.sparsifier),
            "learning_rate": twin.learning_rate,
            "alternative": twin.alternative and sparsifier_to_json(twin.alternative),
        }
        for twin in preset.twins
    ]
    grid = {
        field.name: str(value) if isinstance(value, Distribution) else value
        for field in fields(preset.grid)
        for value in [getattr(preset.grid, field.name)]
    }
    return {**asdict(preset), "grid": grid, "twins": twins}


def _text(value: Any) -> str:
    """Formats a cell; learning rates that are null are each member's own."""
    if value is None:
        return "own"
    if value == []:
        return "drawn"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
