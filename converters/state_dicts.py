"""Converts one torch state dict to one member of a zoo and back, without loss."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import masked
from zoojax.converters.dialects.base import ReadState, listed
from zoojax.converters.layouts import network_registry
from zoojax.converters.layouts.base import (
    Layer,
    NetworkLayout,
    SparsifierLayout,
    TensorLayout,
)
from zoojax.converters.layouts.registry import LAYOUTS, layout_of
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.text import is_printable, printable

State = Mapping[str, np.ndarray]

_WEIGHTS = tuple(f".{layout.weight}" for layout in LAYOUTS.values())
_MAX_NAME_LENGTH = 200
_COUNTER = ".num_batches_tracked"  # An integer.


class UnknownNetworkError(ZoojaxError):
    """The state dict matches no known architecture; the message says why."""


class ExtraTensorsError(UnknownNetworkError):
    """The state dict has tensors that belong to no layer.

    Attributes:
        names: Their names.
    """

    def __init__(self, message: str, names: Sequence[str]):
        super().__init__(message)
        self.names = tuple(names)


@dataclass(frozen=True)
class StateDictInfo:
    """The network and the sparsifier of a state dict.

    Attributes:
        architecture: The network.
        sparsifier: The sparsifier, without per-member options.
        prefixes: Torch's name of each layer with weights, in torch's order: "module_list.0", ...
    """

    architecture: Architecture
    sparsifier: Sparsifier
    prefixes: tuple[str, ...]

    @property
    def layout(self) -> SparsifierLayout:
        """The torch layout of the sparsifier.

        Raises:
            ZoojaxError: If there is none.
        """
        return layout_of(self.sparsifier)

    @property
    def network(self) -> NetworkLayout:
        """The torch layout of the network.

        Raises:
            ZoojaxError: If there is none.
        """
        return network_registry.network_layout(self.architecture)

    @functools.cached_property
    def tensors(self) -> tuple[tuple[Layer, tuple[TensorLayout, ...]], ...]:
        """The layers in order, each with its tensors in torch's order."""
        layers = self.network.layers(self.architecture, self.prefixes)
        return tuple((layer, self._tensors_of(layer)) for layer in layers)

    def _tensors_of(self, layer: Layer) -> tuple[TensorLayout, ...]:
        if layer.tensors is not None:
            return layer.tensors
        tensors = self.layout.tensors(self.sparsifier, layer)
        return tuple(each for each in tensors if each.is_weight or layer.has_bias)

    def mask_names(self) -> list[str]:
        """Returns the names of all masks in the state dict."""
        return [
            layer.key(tensor)
            for layer, tensors in self.tensors
            for tensor in tensors
            if tensor.is_mask
        ]


def infer_network(state: State) -> StateDictInfo:
    """Infers the network and the sparsifier of a state dict from its names and shapes.

    Args:
        state: The state dict.

    Raises:
        UnknownNetworkError: If its layers are not those of a known network, or are of several
            sparsifiers.
    """
    shapes = {name: array.shape for name, array in state.items()}
    weights = {n.rpartition(".")[0]: s for n, s in shapes.items() if n.endswith(_WEIGHTS)}
    known = state.network if isinstance(state, ReadState) else None
    inferred = network_registry.infer(weights, shapes, known)
    if inferred is None and known is not None:
        raise UnknownNetworkError(f"its weights are not those of the {known.label} in its config")
    if inferred is None:
        first = [str(shape) for shape in weights.values()][:8]
        shown = printable(", ".join(first) or "none")
        raise UnknownNetworkError(f"no known network has weights of these shapes: {shown}")
    network, prefixes = inferred
    for prefix in prefixes:
        if not is_layer_name(prefix):
            raise UnknownNetworkError(f"a layer has an invalid name: {printable(prefix, 60)}")
    info = StateDictInfo(network, _infer_sparsifier(state, prefixes[0]), prefixes)
    expected = {
        layer.key(tensor): tensor.shape(layer)
        for layer, tensors in info.tensors
        for tensor in tensors
    }
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing:
        raise UnknownNetworkError(f"{printable(min(missing), 80)} is missing")
    for key, shape in expected.items():
        if state[key].shape != shape:
            raise UnknownNetworkError(f"{key} has shape {state[key].shape}, not {shape}")
        if state[key].dtype != np.float32 and not key.endswith(_COUNTER):
            raise UnknownNetworkError(f"{key} is {state[key].dtype}, not float32")
    if extra:
        names = sorted(extra)
        verb = "is" if len(names) == 1 else "are"
        raise ExtraTensorsError(
            f"{listed(names)} {verb} of no known layer; --drop-extra takes the rest", names
        )
    return info


def is_layer_name(name: str) -> bool:
    """Whether torch's name of a layer can be displayed and stored."""
    return len(name) <= _MAX_NAME_LENGTH and is_printable(name)


def _infer_sparsifier(state: State, prefix: str) -> Sparsifier:
    """Infers the sparsifier from the names in the first layer."""
    start = f"{prefix}."
    names = {name.removeprefix(start) for name in state if name.startswith(start)}
    inferred = (layout.infer(names) for layout in LAYOUTS.values())
    return next(sparsifier for sparsifier in inferred if sparsifier is not None)


def to_member(state: State, info: StateDictInfo) -> dict[str, Any]:
    """Converts a state dict that `infer_network` has accepted to a member.

    Args:
        state: The state dict.
        info: What `infer_network` returned for it.

    Returns:
        The state of the member in a zoo: {"params"} and the other parts of its sparsifier, such
        as {"mask"} (bool) or {"log_sigma2"}. The params of a pruned state include the weights
        under the mask. {"unused"} contains arrays that are stored only so that `to_torch` is
        lossless.

    Raises:
        UnknownNetworkError: If a mask has values other than 0 and 1, or a counter is none.
    """
    member: dict[str, Any] = {"params": {}}
    for layer, tensors in info.tensors:
        for tensor in tensors:
            name = layer.key(tensor)
            array = state[name]
            if tensor.is_weight:
                array = info.network.kernel_to_flax(layer.name, array, info.architecture)
            if tensor.is_count:
                array = _counter(name, array)
            if tensor.is_mask:
                if not np.isin(array, (0, 1)).all():
                    raise UnknownNetworkError(f"{name} has values other than 0 and 1")
                array = array != 0
            part = member
            for key in tensor.part.split("/"):
                part = part.setdefault(key, {})
            if tensor.leaf is None:
                part[layer.name] = array
            else:
                part.setdefault(layer.name, {})[tensor.leaf] = array
    return member


def missing_state(info: StateDictInfo) -> dict[str, Any]:
    """Returns the state of a member that has none at an epoch: all NaN, nothing masked."""
    state = {
        layer.key(tensor): _missing(layer, tensor)
        for layer, tensors in info.tensors
        for tensor in tensors
    }
    return to_member(state, info)


def _missing(layer: Layer, tensor: TensorLayout) -> np.ndarray:
    if tensor.is_count:
        return np.zeros(tensor.shape(layer), np.int64)
    return np.full(tensor.shape(layer), 1 if tensor.is_mask else np.nan, np.float32)


def _counter(name: str, array: np.ndarray) -> np.ndarray:
    """Converts a counter to int32, as zoos store it."""
    if array.dtype.kind not in "iu" or not 0 <= int(array) < 2**31:
        shown = printable(array.item(), 40)
        raise UnknownNetworkError(f"{name} is {shown}, not a whole number from 0 to 2**31 - 1")
    return array.astype(np.int32)


def to_torch(
    member: Mapping[str, Any], info: StateDictInfo, *, without_masks: bool = False
) -> dict[str, np.ndarray]:
    """Converts a member to a state dict, names in torch's order; inverts `to_member`.

    Args:
        member: What `to_member` returns; "unused" may be missing.
        info: The network and sparsifier of the member, and the names of its layers.
        without_masks: Whether a pruned member is written as plain weights, zero where pruned,
            instead of torch.nn.utils.prune's weight_orig and weight_mask.
    """
    if without_masks and info.mask_names():
        member = {"params": masked(member["params"], member["mask"])}
        info = replace(info, sparsifier=Dense())
    return {
        layer.key(tensor): _to_tensor(member, info, layer, tensor)
        for layer, tensors in info.tensors
        for tensor in tensors
    }


def _to_tensor(
    member: Mapping[str, Any], info: StateDictInfo, layer: Layer, tensor: TensorLayout
) -> np.ndarray:
    """Converts one array of a member to torch's axes and dtype."""
    part: Any = member
    for key in tensor.part.split("/"):
        part = part.get(key, {})
    if tensor.default is not None and layer.name not in part:
        return np.full(tensor.shape(layer), tensor.default, np.float32)
    array = part[layer.name] if tensor.leaf is None else part[layer.name][tensor.leaf]
    array = np.asarray(array)
    if tensor.is_weight:
        flipped = info.network.kernel_to_torch(layer.name, array, info.architecture)
        array = np.ascontiguousarray(flipped)
    if tensor.is_count:
        return array.astype(np.int64)
    return array.astype(np.float32) if tensor.is_mask else array
