"""Settings of published zoos, as data.

>>> zoojax.presets.preset("usps-s-seed").grid.learning_rates
(0.0003,)
"""

from zoojax.presets.comparison import difference as difference
from zoojax.presets.comparison import preset_of as preset_of
from zoojax.presets.comparison import recorded as recorded
from zoojax.presets.comparison import resolve_learning_rate as resolve_learning_rate
from zoojax.presets.comparison import twin_difference as twin_difference
from zoojax.presets.known import PRESETS as PRESETS
from zoojax.presets.known import preset, preset_table
from zoojax.presets.known import preset_sparsifiers as preset_sparsifiers
from zoojax.presets.settings import Preset, TwinSettings

__all__ = ["Preset", "TwinSettings", "preset", "preset_table"]
