"""One-shot magnitude pruning with masked fine-tuning.

Prunes the weights with the smallest absolute values and keeps them at zero during fine-tuning (Han
et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015). The scope
"global" is that of torch.nn.utils.prune.global_unstructured with L1Unstructured, "layer" that of
torch.nn.utils.prune.l1_unstructured.
"""

from dataclasses import dataclass
from typing import ClassVar

from zoojax.sparsifiers.score_pruning import ScorePruning


@dataclass(frozen=True)
class MagnitudePruning(ScorePruning):
    """Prunes by magnitude and fine-tunes, all members at all ratios as one population.

    Han et al., "Learning both Weights and Connections for Efficient Neural Networks", 2015.

    Attributes:
        ratios: Fractions of weights to prune, each in [0, 1); 0 only fine-tunes.
        scope: What a ratio applies to: the whole network ("global"), each layer ("layer"), or each
            output unit ("unit"); or how the weights that remain are allocated to layers:
            Erdos-Renyi ("er") or Erdos-Renyi-kernel ("erk").

    Raises:
        ZoojaxError: If there is no such scope.

    Example:
        >>> pruning = zoojax.MagnitudePruning(ratios=(0.5, 0.9), scope="layer")
        >>> pruning.describe(), pruning.method
        ('layer pruning', 'mp')
    """

    name: ClassVar = "magnitude_pruning"
    label: ClassVar = "magnitude pruning"
    short: ClassVar = "MP"
    color: ClassVar = "#D55E00"
    source: ClassVar = (
        "Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks"
    )
    takes_scores: ClassVar = True
