"""What an analysis finds, by name."""

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from zoojax.storage.zoo import Zoo

# Names of the tables there may be.
TABLES = (
    *("members", "trajectories", "layer_sparsity", "hyperparameters", "correlation"),
    "change_by_hyperparameters",
    *("friendliness", "consistency", "predictability", "pruning_frequency", "methods"),
    *("crossing", "agreement", "agreement_summary", "paper"),
)


@dataclass
class Analysis:
    """What `analyse` found.

    Attributes:
        zoo: the dense zoo.
        twins: its twins, at most one of each kind.
        tables: polars frames by names of TABLES. Those that hold several populations name them in
            `method` ("dense", "mp", "vd"), `ratio` (of pruning) and `epoch`. Those of a
            hyper-representation's evaluation, if one was added, are "representation_...".
        matrices: pairwise agreement by what it is of, [members, members]: of the dense zoo,
            and of twins in the order of their parents there; NaN where there is none.
        notes: what was left out, and why; sentences.
    """

    zoo: Zoo
    twins: list[Zoo]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    matrices: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def twin(self, kind: str) -> Zoo | None:
        """The twin of a kind, "mp" or "vd"."""
        return next((twin for twin in self.twins if twin.config.kind == kind), None)
