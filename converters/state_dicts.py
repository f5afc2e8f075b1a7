"""Converts one torch state dict to one member of a zoo and back, without loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.registry import architecture
from zoojax.converters import layout
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable, printable

State = Mapping[str, np.ndarray]

# Names and numbers of input channels. Shapes alone identify a network: nothing else in a
# torch zoo is reliable.
KNOWN_NETWORKS = (("small", 1), ("small", 3), ("large", 1), ("large", 3))
_MAX_CLASSES = 10_000
_MAX_NAME_LENGTH = 200


class UnknownNetworkError(ZoojaxError):
    """The state dict matches no known architecture; the message says why."""


@dataclass(frozen=True)
class StateDictInfo:
    """The network and the kind of a state dict.

    Attributes:
        architecture: The network.
        kind: "dense", "mp" (pruned, with a mask next to the weights) or "vd" (with log sigma
            squared).
        variant: The variant of variational dropout; None for other kinds.
        prefixes: Torch's name of each layer, in order: "module_list.0", ...
    """

    architecture: Architecture
    kind: str
    variant: str | None
    prefixes: tuple[str, ...]


def infer_network(state: State) -> StateDictInfo:
    """Infers the network and the kind of a state dict from its names and shapes.

    Args:
        state: The state dict.

    Raises:
        UnknownNetworkError: If its layers are not those of a known network, or are of several
            kinds.
    """
    weights = {n.rpartition(".")[0]: v for n, v in state.items() if _is_weight(n)}
    prefixes = sorted(weights, key=layout.module_order)
    network = _match_shapes([weights[prefix].shape for prefix in prefixes])
    for prefix in prefixes:
        if not is_layer_name(prefix):
            raise UnknownNetworkError(f"a layer has an invalid name: {printable(prefix, 60)}")
    kind, variant = _infer_kind(state, prefixes[0])
    info = StateDictInfo(network, kind, variant, tuple(prefixes))
    expected = _expected_shapes(info)
    for key in sorted(expected.keys() ^ state.keys()):
        problem = "missing" if key in expected else "of no known network"
        raise UnknownNetworkError(f"{printable(key, 80)} is {problem}")
    for key, shape in expected.items():
        if state[key].shape != shape:
            raise UnknownNetworkError(f"{key} has shape {state[key].shape}, not {shape}")
    return info


def _match_shapes(shapes: list[tuple[int, ...]]) -> Architecture:
    """The known network whose weights have these shapes, in torch's order."""
    classes = shapes[-1][0] if shapes and shapes[-1] else 0
    for name, channels in KNOWN_NETWORKS if 0 < classes <= _MAX_CLASSES else ():
        network = architecture(name, channels, classes)
        if shapes == list(layout.torch_shapes(network).values()):
            return network
    listed = printable(", ".join(str(tuple(shape)) for shape in shapes[:8]) or "none")
    raise UnknownNetworkError(f"no known network has weights of these shapes: {listed}")


def is_layer_name(name: str) -> bool:
    """Whether torch's name of a layer can be displayed and stored."""
    return len(name) <= _MAX_NAME_LENGTH and is_printable(name)


def _is_weight(name: str) -> bool:
    return name.endswith((".weight", ".weight_orig"))


def _infer_kind(state: State, prefix: str) -> tuple[str, str | None]:
    """Kind and variant, by the names in the first layer."""
    if f"{prefix}.weight_mask" in state:
        return "mp", None
    if f"{prefix}.log_sigma2" in state:
        return "vd", "released" if f"{prefix}.log_sigma2_bias" in state else "corrected"
    return "dense", None


def _expected_shapes(info: StateDictInfo) -> dict[str, tuple[int, ...]]:
    """Shapes by name of a state dict of this network and kind."""
    expected = {}
    shapes = layout.torch_shapes(info.architecture).values()
    for prefix, shape in zip(info.prefixes, shapes, strict=True):
        expected[f"{prefix}.bias"] = shape[:1]
        if info.kind == "mp":
            expected[f"{prefix}.weight_orig"] = expected[f"{prefix}.weight_mask"] = shape
        else:
            expected[f"{prefix}.weight"] = shape
        if info.kind == "vd":
            expected[f"{prefix}.log_sigma2"] = shape
            if info.variant == "released":
                expected[f"{prefix}.log_sigma2_bias"] = shape[:1]
    return expected


def to_member(state: State, info: StateDictInfo) -> dict[str, Any]:
    """Converts a state dict that `infer_network` has accepted to a member.

    Args:
        state: The state dict.
        info: What `infer_network` returned for it.

    Returns:
        {"params"}; with {"mask"} (bool) for pruned states, whose params include the weights
        under the mask; with {"log_sigma2"} for variational states, and {"unused"}: the
        log_sigma2_bias of fully connected layers. The original code saves this uninitialized
        memory and never reads it; it is stored so that `to_torch` is lossless.

    Raises:
        UnknownNetworkError: If a mask has values other than 0 and 1.
    """
    net = info.architecture
    member: dict[str, Any] = {"params": {}}
    for layer, prefix in zip(net.layers, info.prefixes, strict=True):

        def kernel(name: str, layer: str = layer, prefix: str = prefix) -> np.ndarray:
            return layout.kernel_to_flax(layer, state[f"{prefix}.{name}"], net)

        weight = "weight_orig" if info.kind == "mp" else "weight"
        member["params"][layer] = {"kernel": kernel(weight), "bias": state[f"{prefix}.bias"]}
        if info.kind == "mp":
            mask = kernel("weight_mask")
            if not np.isin(mask, (0, 1)).all():
                raise UnknownNetworkError(f"{prefix}.weight_mask has values other than 0 and 1")
            member.setdefault("mask", {})[layer] = mask != 0
        if info.kind == "vd":
            leaves = member.setdefault("log_sigma2", {}).setdefault(layer, {})
            leaves["kernel"] = kernel("log_sigma2")
            if info.variant == "released":
                bias = state[f"{prefix}.log_sigma2_bias"]
                if layer.startswith("conv"):
                    leaves["bias"] = bias
                else:
                    member.setdefault("unused", {})[layer] = bias
    return member


def to_torch(
    member: Mapping[str, Any], info: StateDictInfo, *, masked: bool = False
) -> dict[str, np.ndarray]:
    """Converts a member to a state dict, names in torch's order; inverts `to_member`.

    Args:
        member: What `to_member` returns; "unused" may be missing.
        info: The network and kind of the member, and the names of its layers.
        masked: Whether a pruned member is written as plain weights, zero where pruned,
            instead of torch.nn.utils.prune's weight_orig and weight_mask.
    """
    net, state = info.architecture, {}
    for layer, prefix in zip(net.layers, info.prefixes, strict=True):

        def weight(kernel: np.ndarray, layer: str = layer) -> np.ndarray:
            return np.ascontiguousarray(layout.kernel_to_torch(layer, np.asarray(kernel), net))

        kernel, bias = (member["params"][layer][name] for name in ("kernel", "bias"))
        pruned = info.kind == "mp"
        if pruned and masked:
            kernel = np.where(member["mask"][layer], kernel, np.float32(0))
        if not pruned or masked:
            state[f"{prefix}.weight"] = weight(kernel)
        state[f"{prefix}.bias"] = np.asarray(bias)
        if pruned and not masked:
            state[f"{prefix}.weight_orig"] = weight(kernel)
            state[f"{prefix}.weight_mask"] = weight(member["mask"][layer]).astype(np.float32)
        if info.kind == "vd":
            leaves = member["log_sigma2"][layer]
            state[f"{prefix}.log_sigma2"] = weight(leaves["kernel"])
            if info.variant == "released":
                unused = member.get("unused", {}).get(layer, np.full_like(bias, -10.0))
                state[f"{prefix}.log_sigma2_bias"] = np.asarray(leaves.get("bias", unused))
    return state
