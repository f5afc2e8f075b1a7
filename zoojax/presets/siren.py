"""Zoos of SIRENs, one member per image, like those of DWSNets: "mnist-siren", ..."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoojax.hyperparameters.grid import Grid
from zoojax.presets.settings import Preset, twin_settings

# Changes to the image sets of the CNNs: images keep their size and colors (STL-10: 32x32).
_CHANGES: dict[str, dict[str, Any]] = {
    "digits": {"size": 8},
    "usps": {"size": 16},
    "svhn": {"size": 32, "channels": 3, "crop": False},
    "cifar10": {"size": 32},
    "stl10": {"size": 32},
}
_SUFFIX = "-s-seed"
_GRID = Grid(activations=("sine",), inits=("siren",), learning_rates=(1e-3,), seeds=1000)


def siren_presets(presets: Mapping[str, Preset]) -> dict[str, Preset]:
    """Derives a preset of SIRENs from each preset of small CNNs with different seeds.

    Outputs are pixels in [0, 1] minus 0.5, as in the zoos of DWSNets (Navon et al., "Equivariant
    Architectures for Learning in Deep Weight Spaces", 2023). Members are trained with Adam for
    1,000 steps and saved every 100.

    Args:
        presets: Presets by name, such as "mnist-s-seed".

    Returns:
        Presets by name, such as "mnist-siren".
    """
    result = {}
    for name, preset in presets.items():
        if not name.endswith(_SUFFIX):
            continue
        short = name.removesuffix(_SUFFIX)
        data = replace(preset.data, mean=0.5, std=1.0, **_CHANGES.get(short, {}))
        result[f"{short}-siren"] = Preset(
            "siren",
            data,
            _GRID,
            twin_settings(),
            epochs=10,
            batch_size=data.size**2,
            steps_per_epoch=100,
        )
    return result
