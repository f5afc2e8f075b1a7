"""`zoojax presets`: the zoos that `zoojax train` knows."""

from dataclasses import asdict, dataclass

from zoojax.cli.options import Flag


@dataclass(frozen=True)
class Presets:
    """List the zoos that `zoojax train` knows, with their hyper-parameters."""

    json: Flag = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Prints one row per preset."""
        from zoojax.cli.terminal import Column, print_table, show_json
        from zoojax.presets import PRESETS

        if self.json:
            show_json({name: asdict(preset) for name, preset in PRESETS.items()})
            return

        def listed(values: tuple) -> str:
            return ", ".join(f"{v:g}" if isinstance(v, float) else v for v in values)

        def rate(value: float | None) -> str:
            return "own" if value is None else f"{value:g}"

        columns = (
            Column("preset", numeric=False),
            Column("members"),
            Column("lr", folds=True),
            Column("lr VD", folds=True),
            Column("lr MP", folds=True),
            Column("weight decay", folds=True),
            Column("net", numeric=False),
            Column("activation", numeric=False, folds=True),
            Column("optimiser", numeric=False, folds=True),
            Column("dropout", folds=True),
            Column("data", numeric=False),
            Column("init", numeric=False, folds=True),
        )
        rows = [
            (
                name,
                str(p.grid.combinations * p.grid.seeds),
                listed(p.grid.learning_rates),
                rate(p.vd_learning_rate),
                rate(p.mp_learning_rate),
                listed(p.grid.weight_decays),
                p.architecture,
                listed(p.grid.activations),
                listed(p.grid.optimizers),
                listed(p.grid.dropouts),
                p.data.name,
                listed(p.grid.inits),
            )
            for name, p in PRESETS.items()
        ]
        print_table(
            columns,
            rows,
            caption="lr: learning rates of dense training, of variational dropout (VD) and of "
            "fine-tuning after magnitude pruning (MP); own: each member's",
        )
