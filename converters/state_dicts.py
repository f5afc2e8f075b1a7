"""One torch state dict <-> one member of a zoo: what it is, and its arrays, losslessly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoojax.architectures.base import Architecture, architecture
from zoojax.converters import layout
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable, printable

State = Mapping[str, np.ndarray]

# Of the layers below, the shapes tell which: nothing else in a zoo is to be trusted.
_KNOWN = (("small", 1), ("small", 3), ("large", 1), ("large", 3))
_LARGEST_CLASSES = 10_000
_LONGEST_NAME = 200


class UnknownNetworkError(ZoojaxError):
    """A state dict that is not of a known network; the message says why."""


@dataclass(frozen=True)
class StateDictInfo:
    """What a state dict is of.

    Attributes:
        architecture: the network.
        kind: "dense", "mp" (pruned: a mask beside the weights) or "vd" (log sigma squared).
        variant: of variational dropout; None for other kinds.
        prefixes: torch's name of each layer, in order: "module_list.0", ...
    """

    architecture: Architecture
    kind: str
    variant: str | None
    prefixes: tuple[str, ...]


def infer_network(state: State) -> StateDictInfo:
    """Tells a state dict's network and kind from its names and shapes.

    Raises:
        UnknownNetworkError: its layers are of no known network, or of several kinds at once.
    """
    weights = {n.rpartition(".")[0]: v for n, v in state.items() if _is_weight(n)}
    ordered = sorted(weights, key=layout.module_order)
    shapes = [weights[prefix].shape for prefix in ordered]
    for name, channels in _KNOWN:
        classes = shapes[-1][0] if shapes and shapes[-1] else 0
        if not 0 < classes <= _LARGEST_CLASSES:
            continue
        known = architecture(name, channels, classes)
        if shapes == list(layout.torch_shapes(known).values()):
            break
    else:
        listed = ", ".join(str(tuple(s)) for s in shapes[:8])
        listed = printable(listed or "none")
        raise UnknownNetworkError(f"no known network has weights of these shapes: {listed}")
    for prefix in ordered:
        if not is_layer_name(prefix):
            raise UnknownNetworkError(f"a layer has no proper name: {printable(prefix, 60)}")
    kind, variant = _kind(state, ordered)
    description = StateDictInfo(known, kind, variant, tuple(ordered))
    expected = _expected(description)
    for key in sorted(expected.keys() ^ state.keys()):
        known = "missing" if key in expected else "of no known network"
        raise UnknownNetworkError(f"{printable(key, 80)} is {known}")
    for key, shape in expected.items():
        if state[key].shape != shape:
            raise UnknownNetworkError(f"{key} has shape {state[key].shape}, not {shape}")
    return description


def is_layer_name(name: str) -> bool:
    """Whether torch's name of a layer can be shown and kept."""
    return len(name) <= _LONGEST_NAME and is_printable(name)


def _is_weight(name: str) -> bool:
    return name.endswith((".weight", ".weight_orig"))


def _kind(state: State, prefixes: list[str]) -> tuple[str, str | None]:
    first = prefixes[0]
    if f"{first}.weight_mask" in state:
        return "mp", None
    if f"{first}.log_sigma2" in state:
        return "vd", "released" if f"{first}.log_sigma2_bias" in state else "corrected"
    return "dense", None


def _expected(description: StateDictInfo) -> dict[str, tuple[int, ...]]:
    """Names and shapes that a state dict of this description has."""
    shapes = {}
    of_layers = layout.torch_shapes(description.architecture).values()
    for prefix, shape in zip(description.prefixes, of_layers, strict=True):
        shapes[f"{prefix}.bias"] = shape[:1]
        if description.kind == "mp":
            shapes[f"{prefix}.weight_orig"] = shapes[f"{prefix}.weight_mask"] = shape
        else:
            shapes[f"{prefix}.weight"] = shape
        if description.kind == "vd":
            shapes[f"{prefix}.log_sigma2"] = shape
            if description.variant == "released":
                shapes[f"{prefix}.log_sigma2_bias"] = shape[:1]
    return shapes


def to_member(state: State, description: StateDictInfo) -> dict[str, Any]:
    """One member out of a state dict that `describe` has accepted.

    Returns:
        {"params"}; with {"mask"} (bool) for pruned states, whose params keep what is under
        the mask; with {"log_sigma2"} for variational ones, and {"unused"}: the
        log_sigma2_bias of fully connected layers, uninitialised memory that the original
        code saves and never reads, kept so that the way back is lossless.
    """
    net = description.architecture
    member: dict[str, Any] = {"params": {}}
    for layer, prefix in zip(net.layers, description.prefixes, strict=True):

        def kernel(name: str, layer: str = layer, prefix: str = prefix) -> np.ndarray:
            return layout.kernel_to_flax(layer, state[f"{prefix}.{name}"], net)

        weight = "weight_orig" if description.kind == "mp" else "weight"
        member["params"][layer] = {"kernel": kernel(weight), "bias": state[f"{prefix}.bias"]}
        if description.kind == "mp":
            mask = kernel("weight_mask")
            if not np.isin(mask, (0, 1)).all():
                raise UnknownNetworkError(f"{prefix}.weight_mask holds other values than 0 and 1")
            member.setdefault("mask", {})[layer] = mask != 0
        if description.kind == "vd":
            leaves = member.setdefault("log_sigma2", {}).setdefault(layer, {})
            leaves["kernel"] = kernel("log_sigma2")
            if description.variant == "released":
                bias = state[f"{prefix}.log_sigma2_bias"]
                if layer.startswith("conv"):
                    leaves["bias"] = bias
                else:
                    member.setdefault("unused", {})[layer] = bias
    return member


def to_torch(
    member: Mapping[str, Any], description: StateDictInfo, *, masked: bool = False
) -> dict[str, np.ndarray]:
    """One member as a state dict: the inverse of `to_member`, names in torch's order.

    Args:
        member: what `to_member` returns; "unused" may be missing.
        description: what it is of.
        masked: write a pruned member as plain weights, zero where pruned, in place of
            torch.nn.utils.prune's weight_orig and weight_mask.
    """
    net, state = description.architecture, {}
    for layer, prefix in zip(net.layers, description.prefixes, strict=True):

        def weight(kernel: np.ndarray, layer: str = layer) -> np.ndarray:
            return np.ascontiguousarray(layout.kernel_to_torch(layer, np.asarray(kernel), net))

        kernel, bias = (member["params"][layer][name] for name in ("kernel", "bias"))
        pruned = description.kind == "mp"
        if pruned and masked:
            kernel = np.where(member["mask"][layer], kernel, np.float32(0))
        if not pruned or masked:
            state[f"{prefix}.weight"] = weight(kernel)
        state[f"{prefix}.bias"] = np.asarray(bias)
        if pruned and not masked:
            state[f"{prefix}.weight_orig"] = weight(kernel)
            state[f"{prefix}.weight_mask"] = weight(member["mask"][layer]).astype(np.float32)
        if description.kind == "vd":
            leaves = member["log_sigma2"][layer]
            state[f"{prefix}.log_sigma2"] = weight(leaves["kernel"])
            if description.variant == "released":
                unused = member.get("unused", {}).get(layer, np.full_like(bias, -10.0))
                state[f"{prefix}.log_sigma2_bias"] = np.asarray(leaves.get("bias", unused))
    return state
