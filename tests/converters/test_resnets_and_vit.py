"""Zoos of ResNets and of vision transformers under the published names; slow at full size."""

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tests.support.conversions import assert_round_trip, assert_verified, converted, read_rejects
from tests.support.torch_models import nchw
from tests.support.torch_zoos import config, write_trial
from zoojax import MagnitudePruning, Zoo, sparsify
from zoojax.architectures.base import Architecture
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts.network_registry import network_layout
from zoojax.datasets import loading
from zoojax.datasets.specs import Images, ImageSet
from zoojax.training import inference

networks = pytest.mark.parametrize(
    "name, activation",
    [
        # Compiling a ResNet takes long.
        pytest.param("resnet18-2", "relu", marks=pytest.mark.slow),
        pytest.param("resnet50-2", "relu", marks=pytest.mark.slow),
        ("vit-12-2-6-4-8", "gelu"),
        pytest.param("resnet18", "relu", marks=pytest.mark.slow),
        pytest.param("vit-384-12-6-16-224", "gelu", marks=pytest.mark.slow),
    ],
)


def torch_network(arch: Architecture, activation: str, seed: int) -> nn.Module:
    """A torch network with random parameters and running statistics."""
    torch.manual_seed(seed)
    module = network_layout(arch).torch_module(arch, activation)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        else:
            # Beyond the numbers that float32 counts.
            buffer.fill_(2**24 + 1 + seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 or name.endswith(("cls_token", "pos_embed")):
            nn.init.normal_(parameter, 0.5, 0.2)
    return module.eval()


def prunable(module: nn.Module) -> list[tuple[nn.Module, str]]:
    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [(layer, "weight") for layer in layers]


def images_of(arch: Architecture) -> ImageSet:
    rng = np.random.default_rng(0)
    part = Images(
        rng.normal(size=(2, *arch.image_shape)).astype(np.float32), np.arange(2, dtype=np.int32)
    )
    return loading.make("noise", part, part, part, arch.classes)


def convert_members(tmp_path, arch: Architecture, modules: list[nn.Module], **changes: Any) -> Zoo:
    root = tmp_path / "root"
    for seed, module in enumerate(modules):
        write_trial(
            root, seed, {50: OrderedDict(module.state_dict())}, config(seed, "dense", **changes)
        )
    done = converted(root, tmp_path / "zoo", images=(None, images_of(arch)))
    assert done.rejected == {}
    return done.zoo


def assert_same_pruning(ours: np.ndarray, theirs: np.ndarray, weights: np.ndarray) -> None:
    """Two masks are equal, except where the smallest weights that are kept are tied."""
    assert ours.sum() == theirs.sum()
    magnitudes = np.abs(weights)
    tied = magnitudes == magnitudes[~ours].max()
    assert tied.sum() < 20
    assert np.array_equal(ours[~tied], theirs[~tied] == 1)


@networks
def test_zoo_converts_evaluates_and_prunes_as_torch(tmp_path, name, activation):
    arch = architecture(name, 3)
    modules = [torch_network(arch, activation, seed) for seed in range(2)]
    zoo = convert_members(tmp_path, arch, modules, **{"model::nlin": activation})
    assert zoo.config.shape == arch
    assert assert_round_trip(zoo, tmp_path / "root", tmp_path / "back") == 2
    images = images_of(arch).test.images
    assert_verified(zoo, tmp_path / "root", images)
    with torch.no_grad():
        expected = np.stack([module(nchw(images)).numpy() for module in modules])
    logits = inference.logits(zoo, images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())

    twin = sparsify(zoo, MagnitudePruning(ratios=(0.7,)), tmp_path / "twin", epochs=0, quiet=True)
    masks, layout = twin.state(0)["mask"], network_layout(arch)
    for row, module in enumerate(modules):
        prune.global_unstructured(prunable(module), prune.L1Unstructured, amount=0.7)
        state = module.state_dict()
        prefixes = layout.default_prefixes(arch, False)
        layers = [each for each in layout.layers(arch, prefixes) if each.tensors is None]
        ours = [
            layout.kernel_to_torch(each.name, masks[each.name][row], arch).ravel()
            for each in layers
        ]
        theirs, weights = (
            [state[f"{each.prefix}.{name}"].numpy().ravel() for each in layers]
            for name in ("weight_mask", "weight_orig")
        )
        assert_same_pruning(*map(np.concatenate, (ours, theirs, weights)))


@pytest.mark.parametrize("name", ["resnet18-2", "resnet50-2", "vit-12-2-6-4-8"])
def test_pruned_members_round_trip(tmp_path, name):
    arch = architecture(name, 3)
    modules = [torch_network(arch, "relu", seed) for seed in range(2)]
    for module in modules:
        prune.global_unstructured(prunable(module), prune.L1Unstructured, amount=0.5)
    zoo = convert_members(tmp_path, arch, modules, **{"prune::amount": 0.5})
    assert zoo.config.sparsifier == MagnitudePruning(ratios=(), scope="global")
    assert assert_round_trip(zoo, tmp_path / "root", tmp_path / "back", keep_masks=True) == 2


def test_names_of_weightclip_round_trip(tmp_path):
    arch = architecture("resnet18-4", 3, 5)
    state = {
        name.replace("downsample", "shortcut"): tensor
        for name, tensor in torch_network(arch, "relu", 0).state_dict().items()
    }
    write_trial(tmp_path / "root", 1, {0: state})
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    assert zoo.config.shape == arch
    assert assert_round_trip(zoo, tmp_path / "root", tmp_path / "back") == 1


@pytest.mark.parametrize(
    "names",
    [
        {"hidden": "vit.head.0", "start": "vit."},
        {"hidden": "", "start": ""},
    ],
    ids=["hidden layer in the head", "timm's names"],
)
def test_other_vision_transformers_round_trip(tmp_path, names):
    name = "vit-12-1-6-4-8-5" if names["hidden"] else "vit-12-1-6-4-8"
    arch = architecture(name, 3)
    state = {
        key.replace("vit.", names["start"], 1): tensor
        for key, tensor in torch_network(arch, "gelu", 0).state_dict().items()
    }
    write_trial(tmp_path / "root", 1, {0: state})
    zoo = converted(tmp_path / "root", tmp_path / "zoo").zoo
    assert zoo.config.shape == arch
    assert assert_round_trip(zoo, tmp_path / "root", tmp_path / "back") == 1


def test_state_dict_of_resnet18_is_torchvisions():
    arch = architecture("resnet18", 3)
    state = network_layout(arch).torch_module(arch, "relu").state_dict()
    names = list(state)
    assert len(names) == 122
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert names[:6] == ["conv1.weight", *(f"bn1.{each}" for each in norm)]
    start = names.index("layer2.0.bn2.num_batches_tracked") + 1
    expected = ["downsample.0.weight", *(f"downsample.1.{each}" for each in norm), "conv1.weight"]
    blocks = ["layer2.0"] * 6 + ["layer2.1"]
    assert names[start : start + 7] == [
        ".".join(pair) for pair in zip(blocks, expected, strict=True)
    ]
    assert names[-2:] == ["fc.weight", "fc.bias"]
    assert state["bn1.num_batches_tracked"].dtype == torch.int64


def test_state_dict_of_resnet50_is_torchvisions():
    arch = architecture("resnet50-2", 3)
    state = network_layout(arch).torch_module(arch, "relu").state_dict()
    # 53 convolutions, as many normalizations with five tensors, and a linear layer.
    assert len(state) == 53 + 53 * 5 + 2
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    block = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample.0", "downsample.1")
    names = [name for name in shapes if name.startswith("layer3.0.")]
    layers = list(
        dict.fromkeys(name.removeprefix("layer3.0.").rpartition(".")[0] for name in names)
    )
    assert layers == list(block)
    assert [shapes[f"layer3.0.{name}.weight"] for name in block[::2]] == [
        *((8, 16, 1, 1), (8, 8, 3, 3), (32, 8, 1, 1), (32, 16, 1, 1)),
    ]
    assert shapes["layer1.0.downsample.0.weight"] == (8, 2, 1, 1)
    assert shapes["fc.weight"] == (10, 64)


@pytest.mark.parametrize(
    "count, problem",
    [
        (torch.tensor(-1), "bn1.num_batches_tracked is -1, not a whole number"),
        (torch.tensor(2**31), "bn1.num_batches_tracked is 2147483648, not a whole number"),
        (torch.tensor(1.5), "bn1.num_batches_tracked is 1.5, not a whole number"),
        (torch.tensor([1]), "bn1.num_batches_tracked has shape (1,), not ()"),
    ],
)
def test_invalid_counters_are_rejected(tmp_path, count, problem):
    arch = architecture("resnet18-2", 3)
    for seed in (1, 2):
        state = torch_network(arch, "relu", seed).state_dict()
        write_trial(
            tmp_path / "root",
            seed,
            {0: {**state, "bn1.num_batches_tracked": count} if seed == 2 else state},
        )
    done = converted(tmp_path / "root", tmp_path / "zoo")
    (reason,) = done.rejected.values()
    assert problem in reason
    assert read_rejects(done.zoo) == done.rejected
