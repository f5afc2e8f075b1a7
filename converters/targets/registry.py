"""All target formats."""

from zoojax.converters.targets.base import TargetFormat
from zoojax.converters.targets.dataset import ModelDatasetFile
from zoojax.converters.targets.matrix import FlatMatrixFolder
from zoojax.converters.targets.stacked import StackedSafetensors
from zoojax.converters.targets.trials import OriginalTrials, PruneTrials, ShrunkTrials, Trials

TARGETS: dict[str, TargetFormat] = {
    each.name: each
    for each in (
        Trials(),
        PruneTrials(),
        ShrunkTrials(),
        OriginalTrials(),
        StackedSafetensors(),
        FlatMatrixFolder(),
        ModelDatasetFile(),
    )
}
