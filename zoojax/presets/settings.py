"""The classes of presets: settings of a zoo and of its twins."""

from dataclasses import dataclass

from zoojax.datasets.specs import DataSpec
from zoojax.hyperparameters.grid import Grid
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout

# The paper's sparsifiers. According to its text all zoos were pruned globally, but its Table 8
# shows equal sparsity in every layer of one of them: either scope is compared with the paper.
_DROPOUT = VariationalDropout().shared()
_GLOBAL = MagnitudePruning().shared()


@dataclass(frozen=True)
class TwinSettings:
    """Settings of a preset's twins.

    Attributes:
        sparsifier: Sparsifier, without per-member options.
        learning_rate: Learning rate; None keeps each member's own.
        alternative: Another sparsifier that the paper may have used instead, if any.

    Example:
        >>> settings = zoojax.presets.TwinSettings(zoojax.VariationalDropout(), 3e-4)
        >>> settings.sparsifier.label
        'variational dropout'
    """

    sparsifier: Sparsifier
    learning_rate: float | None = None
    alternative: Sparsifier | None = None


def twin_settings(
    vd_learning_rate: float | None = None,
    mp_learning_rate: float | None = None,
    alternative: Sparsifier | None = None,
) -> tuple[TwinSettings, ...]:
    """Returns the settings of twins by variational dropout and magnitude pruning.

    Args:
        vd_learning_rate: Learning rate of variational dropout; None keeps each member's own.
        mp_learning_rate: Learning rate of magnitude pruning.
        alternative: Another pruning that the paper may have used instead.
    """
    return (
        TwinSettings(_DROPOUT, vd_learning_rate),
        TwinSettings(_GLOBAL, mp_learning_rate, alternative),
    )


@dataclass(frozen=True)
class Preset:
    """Settings of a zoo and of its twins.

    Attributes:
        architecture: Name of the architecture.
        data: Image set.
        grid: Hyperparameters and number of members.
        twins: Settings of its twins, at most one per sparsifier.
        epochs: Number of epochs of dense training.
        batch_size: Images per step.
        data_order: "member" or "shared"; see `zoojax.train_zoo`.
        steps_per_epoch: Steps per epoch of members that learn one image each; None for others.

    Example:
        >>> data = zoojax.DataSpec("digits")
        >>> mine = zoojax.presets.Preset("small", data, zoojax.Grid(seeds=2), epochs=0)
        >>> len(zoojax.train_zoo(mine, quiet=True))
        2
    """

    architecture: str
    data: DataSpec
    grid: Grid
    twins: tuple[TwinSettings, ...] = twin_settings()
    epochs: int = 50
    batch_size: int = 10
    data_order: str = "member"
    steps_per_epoch: int | None = None

    def twin(self, sparsifier: str) -> TwinSettings | None:
        """Returns the settings of the twins of a sparsifier, given by name; None without.

        Example:
            >>> zoojax.presets.preset("usps-s-seed").twin("magnitude_pruning").learning_rate
            0.001
        """
        return next((twin for twin in self.twins if twin.sparsifier.name == sparsifier), None)
