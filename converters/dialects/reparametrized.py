"""Weights that a network computes from other tensors: weight_norm and spectral_norm.

The weight is computed as in torch, up to rounding. The tensors are kept, so that the original
dialect can be restored bit for bit.
"""

from typing import Any, ClassVar

import numpy as np

from zoojax.converters.dialects.base import Arrays, Dialect, Draft
from zoojax.converters.inert import UnsafePickleError, shorten

_NEW = ".parametrizations.weight."


class _Computed(Dialect):
    """Weights computed from tensors that are kept."""

    def _replace(self, draft: Draft, layer: str, names: list[str], weight: np.ndarray) -> None:
        for name in names:
            draft.keep(name)
        draft.arrays[f"{layer}.weight"] = weight
        if not draft.records or draft.records[-1][0] != self.name:
            draft.records.append((self.name, {"layers": {}}))
        draft.records[-1][1]["layers"][layer] = names

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Replaces the weights by the tensors."""
        arrays = dict(arrays)
        for layer, names in facts["layers"].items():
            del arrays[f"{layer}.weight"]
            arrays |= {name: kept[name] for name in names}
        return arrays


class WeightNorm(_Computed):
    """weight_norm of torch.nn.utils (weight_g, weight_v) and of parametrizations (original0, 1).

    weight = g v / |v|, with norms over all axes but the first (Salimans and Kingma 2016, eq. 2).
    """

    name: ClassVar = "weight_norm"

    def read(self, draft: Draft) -> None:
        """Computes the weights."""
        for name in list(draft.arrays):
            for end, other in (
                (".weight_g", ".weight_v"),
                (f"{_NEW}original0", f"{_NEW}original1"),
            ):
                layer = name.removesuffix(end)
                if name.endswith(end) and layer + other in draft.arrays:
                    g, v = draft.arrays[name], draft.arrays[layer + other]
                    weight = self._weight(name, g, v)
                    self._replace(draft, layer, [name, layer + other], weight)

    def _weight(self, name: str, g: np.ndarray, v: np.ndarray) -> np.ndarray:
        if v.ndim < 2 or g.shape != (v.shape[0],) + (1,) * (v.ndim - 1):
            raise UnsafePickleError(
                f"{shorten(name)} has shape {g.shape} for weights of shape {v.shape}: not the "
                "norms of their outputs"
            )
        axes = tuple(range(1, v.ndim))
        exact = v.astype(np.float64)
        norm = np.sqrt((exact * exact).sum(axes, keepdims=True))
        with np.errstate(all="ignore"):
            return (exact * (g / norm)).astype(np.float32)


class SpectralNorm(_Computed):
    """spectral_norm of torch.nn.utils and of parametrizations, in evaluation mode.

    weight = W / (u . W v), with W as a matrix [out, in] (Miyato et al. 2018, eq. 9).
    """

    name: ClassVar = "spectral_norm"

    def read(self, draft: Draft) -> None:
        """Computes the weights if `fold_spectral_norm` is set."""
        for name in list(draft.arrays):
            for ends in (
                (".weight_orig", ".weight_u", ".weight_v"),
                (f"{_NEW}original", f"{_NEW}0._u", f"{_NEW}0._v"),
            ):
                layer = name.removesuffix(ends[0])
                names = [layer + end for end in ends]
                if not name.endswith(ends[0]) or not all(n in draft.arrays for n in names):
                    continue
                if not draft.options.fold_spectral_norm:
                    raise UnsafePickleError(
                        f"{shorten(layer)} has spectral_norm; --fold-spectral-norm computes its "
                        "weights"
                    )
                weight = self._weight(name, *(draft.arrays[n] for n in names))
                self._replace(draft, layer, names, weight)

    def _weight(self, name: str, w: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        if w.ndim < 2 or u.shape != w.shape[:1] or v.shape != (w[0].size,):
            raise UnsafePickleError(
                f"{shorten(name)} has shape {w.shape} and vectors {u.shape} and {v.shape}: not "
                "those of spectral_norm over outputs"
            )
        exact = w.astype(np.float64)
        sigma = u.astype(np.float64) @ (exact.reshape(len(w), -1) @ v.astype(np.float64))
        with np.errstate(all="ignore"):
            return (exact / sigma).astype(np.float32)
