"""`zoojax presets`: the zoos that `zoojax train` knows."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Presets:
    """List the zoos that `zoojax train` knows, with their hyper-parameters."""

    json: bool = False
    """Print JSON on standard output."""

    def run(self) -> None:
        """Prints a row a preset."""
        from experiments.tables import show_json, show_rows
        from zoojax.presets import PRESETS

        if self.json:
            show_json({name: asdict(preset) for name, preset in PRESETS.items()})
            return
        import polars as pl

        def listed(values: tuple) -> str:
            return ", ".join(f"{v:g}" if isinstance(v, float) else v for v in values)

        rows = [
            {
                "preset": name,
                "members": p.grid.combinations * p.grid.seeds,
                "cells": p.grid.combinations,
                "net": p.architecture,
                "data": p.data.name,
                "activation": listed(p.grid.activations),
                "optimiser": listed(p.grid.optimizers),
                "lr": listed(p.grid.learning_rates),
                "lr VD": "own" if p.vd_learning_rate is None else f"{p.vd_learning_rate:g}",
                "lr MP": "own" if p.mp_learning_rate is None else f"{p.mp_learning_rate:g}",
                "weight decay": listed(p.grid.weight_decays),
            }
            for name, p in PRESETS.items()
        ]
        show_rows(pl.DataFrame(rows))
