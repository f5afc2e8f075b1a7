"""The ResNet-18 zoos of "Model Zoos" (Schürholt et al., 2022).

The settings are those of code/zoo_generators in https://github.com/ModelZoos/ModelZooDataset. The
third image set, Tiny ImageNet, is not available in zoojax; its network is "resnet18-64-64".
"""

from zoojax.datasets.specs import DataSpec
from zoojax.hyperparameters.grid import Grid
from zoojax.presets.settings import Preset, twin_settings

_CIFAR10 = DataSpec(
    "cifar10",
    32,
    3,
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    train=40_000,
    val=10_000,
)
_CIFAR100 = DataSpec(
    "cifar100",
    32,
    3,
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    train=40_000,
    val=10_000,
)


def _resnet18(data: DataSpec, learning_rate: float, epochs: int, batch_size: int) -> Preset:
    grid = Grid(
        activations=("relu",),
        inits=("kaiming_uniform",),
        optimizers=("sgd",),
        learning_rates=(learning_rate,),
        weight_decays=(5e-4,),
        schedules=("one_cycle",),
        augmentations=("crop_flip",),
        seeds=1000,
    )
    return Preset("resnet18", data, grid, twin_settings(), epochs, batch_size)


RESNETS = {
    "cifar10-resnet18": _resnet18(_CIFAR10, 0.05, epochs=50, batch_size=256),
    "cifar100-resnet18": _resnet18(_CIFAR100, 0.1, epochs=60, batch_size=128),
}
