"""Torch's layout of members trained with variational dropout: that of the zoos' code."""

from collections.abc import Mapping, Set
from typing import ClassVar

import torch

from zoojax.converters.layouts.base import Layer, SparsifierLayout, TensorLayout
from zoojax.converters.layouts.dense import BIAS, WEIGHT
from zoojax.converters.layouts.torch_models import log_alpha
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.variational_dropout import (
    INIT_LOG_SIGMA2,
    LOG_ALPHA_CLIP,
    LOG_ALPHA_THRESHOLD,
    VariationalDropout,
)

_LOG_SIGMA2 = TensorLayout("log_sigma2", "log_sigma2", "kernel", is_weight=True)
_LOG_SIGMA2_BIAS = TensorLayout("log_sigma2_bias", "log_sigma2", "bias")
# The original code saves this uninitialized memory of fully connected layers and never reads
# it. A zoo stores it so that exporting reproduces the files.
_UNUSED_BIAS = TensorLayout("log_sigma2_bias", "unused", None, default=INIT_LOG_SIGMA2)


class VariationalDropoutLayout(SparsifierLayout):
    """log sigma squared next to the weights; in the released variant also next to the biases."""

    adjective: ClassVar = "variational"
    model_type: ClassVar = "CNN_ARD"

    def infer(self, names: Set[str]) -> Sparsifier | None:
        """The released variant if biases have a log sigma squared, too."""
        if "log_sigma2" not in names:
            return None
        return VariationalDropout("released" if "log_sigma2_bias" in names else "corrected")

    def tensors(self, sparsifier: Sparsifier, layer: Layer) -> tuple[TensorLayout, ...]:
        """Weight, bias, and log sigma squared."""
        assert isinstance(sparsifier, VariationalDropout)
        if sparsifier.variant == "corrected":
            return WEIGHT, BIAS, _LOG_SIGMA2
        bias = _LOG_SIGMA2_BIAS if layer.is_conv else _UNUSED_BIAS
        return WEIGHT, BIAS, _LOG_SIGMA2, bias

    def holds(self, sparsifier: Sparsifier) -> bool:
        """Only with the threshold of the zoos' code, which files do not name."""
        assert isinstance(sparsifier, VariationalDropout)
        return sparsifier.threshold == LOG_ALPHA_THRESHOLD

    def evaluated(
        self, layer: Layer, tensors: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Sets weights, and biases of convolutions, with a large noise level to zero."""
        clip = LOG_ALPHA_CLIP["conv" if layer.is_conv else "fc"]

        def threshold(values: torch.Tensor, log_sigma2: torch.Tensor) -> torch.Tensor:
            return values.masked_fill(
                log_alpha(values, log_sigma2, clip) >= LOG_ALPHA_THRESHOLD, 0.0
            )

        weight, bias = threshold(tensors["weight"], tensors["log_sigma2"]), tensors.get("bias")
        if layer.is_conv and bias is not None and "log_sigma2_bias" in tensors:
            bias = threshold(bias, tensors["log_sigma2_bias"])
        return weight, bias
