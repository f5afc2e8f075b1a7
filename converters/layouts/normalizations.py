"""Tensors of torch's normalizations."""

from zoojax.converters.layouts.base import TensorLayout

_STATISTICS = "collections/batch_stats"
# Name of the counter of batches, the only tensor that is not float32.
COUNTER = "num_batches_tracked"

LAYER_NORM = (TensorLayout("weight", "params", "scale"), TensorLayout("bias", "params", "bias"))
BATCH_NORM = (
    *LAYER_NORM,
    TensorLayout("running_mean", _STATISTICS, "mean"),
    TensorLayout("running_var", _STATISTICS, "var"),
    TensorLayout(COUNTER, _STATISTICS, "count", size=(), is_count=True),
)
