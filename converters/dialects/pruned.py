"""Masks of pruned networks: torch.nn.utils.prune and torch.ao.pruning."""

from typing import Any, ClassVar

import numpy as np

from zoojax.converters.dialects.base import Arrays, Dialect, Draft, listed
from zoojax.converters.inert import UnsafePickleError, shorten

_PARAMETRIZATIONS = ".parametrizations."
_ORIGINAL = f"{_PARAMETRIZATIONS}weight.original"
_ADAPTERS = (".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B")


class AoPruning(Dialect):
    """Parametrizations of torch.ao.pruning, whose masks are in the sparsifier's state.

    Unknown parametrizations are refused, and the error names them.
    """

    name: ClassVar = "ao_pruning"

    def read(self, draft: Draft) -> None:
        """Takes the masks from the sparsifier."""
        self._refuse_unknown(draft)
        layers = [n.removesuffix(_ORIGINAL) for n in draft.arrays if n.endswith(_ORIGINAL)]
        for layer in layers:
            mask = draft.masks.get(f"{layer}.weight")
            weight = draft.arrays[layer + _ORIGINAL]
            if mask is None:
                raise UnsafePickleError(
                    f"{shorten(layer + _ORIGINAL)} has no mask in the file: what the network "
                    "computes with is unknown; save sparsifier.state_dict() next to the state dict"
                )
            if mask.shape != weight.shape:
                raise UnsafePickleError(f"the mask of {shorten(layer)} has shape {mask.shape}")
            draft.arrays[f"{layer}.weight_orig"] = draft.arrays.pop(layer + _ORIGINAL)
            draft.arrays[f"{layer}.weight_mask"] = mask.astype(np.float32)
        if layers:
            draft.records.append((self.name, {"layers": layers}))

    def _refuse_unknown(self, draft: Draft) -> None:
        for name in draft.arrays:
            if any(adapter in name for adapter in _ADAPTERS):
                raise UnsafePickleError(f"{shorten(name)} is a LoRA adapter; merge it, then save")
            if _PARAMETRIZATIONS in name and not name.endswith(_ORIGINAL):
                raise UnsafePickleError(
                    f"{shorten(name)} is of a parametrization that is not known; call "
                    "torch.nn.utils.parametrize.remove_parametrizations, then save"
                )

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Restores the names; the masks are not part of the state dict."""
        arrays = dict(arrays)
        for layer in facts["layers"]:
            arrays[layer + _ORIGINAL] = arrays.pop(f"{layer}.weight_orig")
            del arrays[f"{layer}.weight_mask"]
        return arrays


class MaskTypes(Dialect):
    """Masks of bool or integers instead of the weight's type."""

    name: ClassVar = "mask_types"

    def read(self, draft: Draft) -> None:
        """Converts the masks to float32."""
        types = {}
        for name, array in draft.arrays.items():
            if name.endswith(("_mask", ".mask")) and array.dtype.kind in "biu":
                types[name] = array.dtype.name
                if array.dtype.kind != "b" and not np.isin(array, (0, 1)).all():
                    raise UnsafePickleError(f"{shorten(name)} has values other than 0 and 1")
                draft.arrays[name] = array.astype(np.float32)
        if types:
            draft.records.append((self.name, {"each": types}))

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Converts the masks back."""
        types = facts["each"]
        if not all(np.dtype(kind).kind in "biu" for kind in types.values()):
            raise ValueError("a mask of another type")
        return {n: a.astype(types[n]) if n in types else a for n, a in arrays.items()}


class BiasMasks(Dialect):
    """Masks on biases, which are applied: a zoo stores the biases that the network uses."""

    name: ClassVar = "bias_masks"

    def read(self, draft: Draft) -> None:
        """Applies the masks; pruned values become +0.0."""
        layers = []
        for name in list(draft.arrays):
            layer = name.removesuffix(".bias_orig")
            mask = draft.arrays.get(f"{layer}.bias_mask")
            if not name.endswith(".bias_orig") or mask is None:
                continue
            bias = draft.arrays[name]
            if mask.shape != bias.shape or not np.isin(mask, (0, 1)).all():
                raise UnsafePickleError(f"{shorten(f'{layer}.bias_mask')} is not a mask of biases")
            draft.keep(name)
            draft.keep(f"{layer}.bias_mask")
            draft.arrays[f"{layer}.bias"] = np.where(mask != 0, bias, np.float32(0))
            layers.append(layer)
        if layers:
            draft.notes.append(f"masks on biases are applied: {listed(layers)}")
            draft.records.append((self.name, {"layers": layers}))

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Restores the biases and their masks."""
        arrays = dict(arrays)
        for layer in facts["layers"]:
            del arrays[f"{layer}.bias"]
            arrays |= {n: kept[n] for n in (f"{layer}.bias_orig", f"{layer}.bias_mask")}
        return arrays


class SomeMasks(Dialect):
    """Masks on some layers only; the other layers get masks that keep all weights."""

    name: ClassVar = "some_masks"

    def read(self, draft: Draft) -> None:
        """Adds the masks."""
        masked = [name for name in draft.arrays if name.endswith(".weight_mask")]
        if not masked:
            return
        added = []
        for name in list(draft.arrays):
            layer = name.removesuffix(".weight")
            # Weights of normalization layers have one axis and no masks.
            if not name.endswith(".weight") or draft.arrays[name].ndim < 2:
                continue
            draft.arrays[f"{layer}.weight_orig"] = draft.arrays.pop(name)
            mask = np.ones(draft.arrays[f"{layer}.weight_orig"].shape, np.float32)
            draft.arrays[f"{layer}.weight_mask"] = mask
            added.append(layer)
        if added:
            draft.notes.append(f"no masks in the file: {listed(added)}")
            draft.records.append((self.name, {"layers": added}))

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Removes the masks again."""
        arrays = dict(arrays)
        for layer in facts["layers"]:
            del arrays[f"{layer}.weight_mask"]
            arrays[f"{layer}.weight"] = arrays.pop(f"{layer}.weight_orig")
        return arrays
