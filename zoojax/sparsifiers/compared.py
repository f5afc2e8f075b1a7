"""Properties that a comparison of sparsifiers uses; base class of `Sparsifier`."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self


class Compared:
    """Defines how a sparsifier is compared with others.

    Attributes:
        starts_untrained: Whether the method trains sparse members from scratch. In a comparison,
            it then starts from epoch 0 of the parents, and trains as many epochs as parents and
            twins of other methods together.
        ratio_of: What a pruning ratio is a fraction of, such as "weights" or "units".
    """

    starts_untrained: ClassVar[bool] = False
    ratio_of: ClassVar[str] = "weights"

    @classmethod
    def at_ratios(cls, ratios: Sequence[float]) -> tuple[Self, ...]:
        """Returns the sparsifiers that represent this method in a comparison at pruning ratios.

        Args:
            ratios: Fractions of weights to prune, each in [0, 1).

        Returns:
            One sparsifier per twin; by default one with these ratios, or with the default options
            if the method has no ratios.

        Example:
            >>> zoojax.NMPruning.at_ratios((0.9,))
            (NMPruning(ratios=(0.5, 0.75), m=4), NMPruning(ratios=(0.5,), m=8))
        """
        kind: Any = cls
        names = [name for name, column in kind.per_member.items() if column == "ratio"]
        return (kind(**{name: tuple(ratios) for name in names}),)

    def comparison_epochs(self, parent_epochs: int) -> int:
        """Returns the number of epochs that the method trains in a comparison without a budget.

        Args:
            parent_epochs: Epochs of the parents.

        Example:
            >>> zoojax.SET().comparison_epochs(50), zoojax.MagnitudePruning().comparison_epochs(50)
            (65, 15)
        """
        this: Any = self
        return this.default_epochs + (parent_epochs if self.starts_untrained else 0)

    def measured_epochs(self, epochs: int) -> list[int]:
        """Returns the epochs at which a member is a finished network of its sparsity.

        Args:
            epochs: Epochs of the twin.

        Returns:
            Ascending. By default the last epoch if an option, such as the ratio, determines
            the sparsity; else all epochs.

        Example:
            >>> zoojax.IterativeMagnitude(ratios=(0.5, 0.9)).measured_epochs(10)
            [5, 10]
        """
        this: Any = self
        decided = this.sweep == "ratio" or this.per_member
        return [epochs] if decided else list(range(epochs + 1))
