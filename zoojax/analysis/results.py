"""The result of an analysis: tables, agreement matrices and notes."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from zoojax.storage.zoo import Zoo

# Names of all possible tables.
TABLES = (
    *("members", "trajectories", "layer_sparsity", "hyperparameters", "correlation"),
    "change_by_hyperparameters",
    *("friendliness", "consistency", "predictability", "pruning_frequency", "methods"),
    *("crossing", "agreement", "agreement_summary", "paper"),
)


@dataclass
class Analysis:
    """The result of `analyze`.

    Attributes:
        zoo: the dense zoo.
        twins: its twins, at most one of each kind.
        tables: polars frames by names in TABLES. Tables of several populations identify them by
            `method` ("dense", "mp", "vd"), `ratio` (pruning ratio) and `epoch`. If the evaluation
            of a hyper-representation was added, its tables are named "representation_...".
        matrices: pairwise agreement, [members, members], by the populations compared: the
            dense zoo, and twins in the order of their parents; NaN where it is undefined.
        notes: sentences about what was left out, and why.
    """

    zoo: Zoo
    twins: list[Zoo]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def twin(self, kind: str) -> Zoo | None:
        """The twin of a kind, "mp" or "vd"; None if there is none."""
        return next((twin for twin in self.twins if twin.config.kind == kind), None)
