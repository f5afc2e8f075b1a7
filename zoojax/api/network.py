"""The network that a zoo is trained with, and the images that fit it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from zoojax.api.data import LoadedData, load_data
from zoojax.architectures.base import Architecture
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_names import with_name
from zoojax.architectures.registry import architecture as registered_architecture
from zoojax.datasets import specs
from zoojax.errors import UnregisteredError, ZoojaxError
from zoojax.presets import Preset
from zoojax.text import printable


def network_and_images(
    base: Preset | None, architecture: Any, data: Any, data_dir: str | Path | None
) -> tuple[Architecture, LoadedData]:
    """Returns the network and its images: the caller's, else those of the preset.

    Args:
        base: The preset to start from; None without one.
        architecture: The caller's architecture, or its name; None for that of the preset.
        data: The caller's images; None for those of the preset.
        data_dir: Folder of image sets.

    Raises:
        ZoojaxError: One of them is unknown or invalid, or they do not fit together.
    """
    template = None if base is None else base.data
    if architecture is None:
        architecture = "small" if base is None else base.architecture
    shape = _registered(architecture, template)
    # Members that learn an image of their own take images of any size.
    size = None if shape.task.has_own_images else shape.size
    if template is not None and base is not None and shape.name != base.architecture:
        template = replace(template, size=size or template.size)
    if data is None and template is not None:
        data = template.name
    loaded = load_data(data, template, size, data_dir)
    if loaded.first_label and not shape.task.has_own_images:
        raise ZoojaxError(
            f"data: the labels start at {loaded.first_label}, so class 0 would have no images; "
            f"number the classes from 0, such as with labels - {loaded.first_label}"
        )
    if loaded.spec is not None and size not in (None, loaded.spec.size):
        raise ZoojaxError(
            f"the {shape.label} takes images of side {shape.size}, not {loaded.spec.size}; set size"
        )
    return shape, loaded


def _registered(architecture: Any, template: specs.DataSpec | None) -> Architecture:
    """Returns an architecture, which must be registered so that the zoo can be opened again.

    A chain that is not registered gets the name that describes it.
    """
    channels = 1 if template is None else template.channels
    if isinstance(architecture, str):
        return registered_architecture(architecture, channels)
    if not isinstance(architecture, Architecture):
        raise ZoojaxError(
            f"architecture is {printable(architecture, 100)}; give the name of an architecture, a "
            "Chain, or a LinenArchitecture that is registered"
        )
    try:
        own = architecture.task.has_own_images
        image_channels = architecture.classes if own else architecture.channels
        known = registered_architecture(architecture.name, image_channels, architecture.classes)
    except UnregisteredError as error:
        named = with_name(architecture) if type(architecture) is Chain else None
        if named is not None:
            return named
        name = printable(architecture.name, 60)
        raise ZoojaxError(
            f"architecture '{name}' is not registered; register it with register_architecture"
        ) from error
    if known != architecture:
        raise ZoojaxError(
            f"another architecture is registered as '{printable(architecture.name, 60)}'; "
            "register this one with register_architecture"
        )
    return architecture
