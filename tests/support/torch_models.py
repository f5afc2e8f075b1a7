"""The zoos' networks in plain torch, and the files of the reference zoo, for comparison."""

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from torch import nn

from zoojax import ops
from zoojax.architectures.base import Architecture, variable_shapes
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import MaxPool
from zoojax.architectures.layers import OMEGA
from zoojax.converters.layouts import networks as layout
from zoojax.datasets import loading, specs
from zoojax.datasets.specs import DataSpec
from zoojax.sparsifiers.base import Batch

# These networks are too small to benefit from threads.
torch.set_num_threads(1)

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


class TorchCNN(nn.Module):
    """The small (28x28) or large (32x32) CNN of the zoos, as an ordered list of modules."""

    def __init__(self, name: str, channels: int, activation: str, dropout: float | None = None):
        super().__init__()
        act = ACTIVATIONS[activation]
        # The large CNN has dropout modules also without dropout.
        drop = [] if dropout is None and name == "small" else [nn.Dropout(dropout or 0.0)]
        if name == "small":
            modules = [
                *[nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(), *drop],
                *[nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(), *drop],
                *[nn.Conv2d(6, 4, 2), act()],
                *[nn.Flatten(), nn.Linear(36, 20), act(), *drop, nn.Linear(20, 10)],
            ]
        else:
            modules = [
                *[nn.Conv2d(channels, 16, 3), nn.MaxPool2d(2), act(), *drop],
                *[nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), act(), *drop],
                *[nn.Conv2d(32, 15, 3), nn.MaxPool2d(2), act(), *drop],
                *[nn.Flatten(), nn.Linear(60, 20), act(), *drop, nn.Linear(20, 10)],
            ]
        self.module_list = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for module in self.module_list:
            x = module(x)
        return x

    def layers(self) -> list[Any]:
        """The five modules with weights."""
        return [m for m in self.module_list if isinstance(m, nn.Conv2d | nn.Linear)]

    def prunable(self) -> list[tuple[nn.Module, str]]:
        """Arguments for torch.nn.utils.prune: all weights, no biases."""
        return [(module, "weight") for module in self.layers()]


class TorchVariational(TorchCNN):
    """The CNN with variational dropout; the caller supplies the noise."""

    def __init__(self, name: str, channels: int, activation: str, variant: str):
        super().__init__(name, channels, activation)
        for module in self.layers():
            module.log_sigma2 = nn.Parameter(torch.full_like(module.weight, -10.0))
            if variant == "released" and isinstance(module, nn.Conv2d):
                assert module.bias is not None
                module.log_sigma2_bias = nn.Parameter(torch.full_like(module.bias, -10.0))

    @staticmethod
    def _log_alpha(
        log_sigma2: torch.Tensor, weight: torch.Tensor, module: nn.Module
    ) -> torch.Tensor:
        clip = 8.0 if isinstance(module, nn.Conv2d) else 10.0
        return torch.clamp(log_sigma2 - 2 * torch.log(weight.abs() + 1e-15), -clip, clip)

    def _variance(self, module: Any, name: str) -> torch.Tensor:
        weight, log_sigma2 = getattr(module, name), _log_sigma2(module, name)
        return torch.exp(self._log_alpha(log_sigma2, weight, module)) * weight**2

    def sample(self, x: torch.Tensor, noises: Iterable[torch.Tensor]) -> torch.Tensor:
        """Logits with pre-activations sampled from standard normal noise, one array per layer."""
        noises = iter(noises)
        for module in self.module_list:
            if isinstance(module, nn.Conv2d):
                mean, bias = module(x), None
                if hasattr(module, "log_sigma2_bias"):
                    bias = self._variance(module, "bias")
                variance = nn.functional.conv2d(x**2, self._variance(module, "weight"), bias)
            elif isinstance(module, nn.Linear):
                mean = module(x)
                variance = nn.functional.linear(x**2, self._variance(module, "weight"))
            else:
                x = module(x)
                continue
            noise = next(noises)
            # There is no noise for rows and columns that pooling drops.
            pooled = tuple(slice(size) for size in noise.shape)
            x = mean[pooled] + torch.sqrt(variance[pooled] + 1e-8) * noise
        return x

    def kl(self) -> torch.Tensor:
        """Summed KL divergence (Molchanov et al. 2017) of all variational parameters."""
        total = torch.zeros(())
        for module in self.layers():
            for name in ("weight", "bias"):
                if _log_sigma2(module, name) is None:
                    continue
                alpha = self._log_alpha(_log_sigma2(module, name), getattr(module, name), module)
                gain = 0.63576 * torch.sigmoid(1.8732 + 1.48695 * alpha)
                total = total - (gain - 0.5 * torch.log1p(torch.exp(-alpha)) - 0.63576).sum()
        return total

    def loss(self, x, labels, noises, kl_weight: float) -> torch.Tensor:
        """Mean cross entropy + kl_weight * summed KL."""
        return nn.functional.cross_entropy(self.sample(x, noises), labels) + kl_weight * self.kl()


def _log_sigma2(module: nn.Module, name: str) -> Any:
    return getattr(module, "log_sigma2" if name == "weight" else "log_sigma2_bias", None)


_normal = jax.jit(ops.normal, static_argnums=(1, 2))


def torch_noises(step: ops.Noise, arch: Chain, batch: int) -> list[torch.Tensor]:
    """The noise of zoojax's variational layers at one step, in torch's axes."""
    noises = []
    for i, each in enumerate(arch.steps):
        if each.slot is None or not each.layer.has_weights:
            continue
        following = arch.steps[i + 1 : i + 2]
        shape, axis, (*field, features) = (batch, *each.outputs), -1, each.outputs
        if field:
            pool = 1
            if following and isinstance(following[0].layer, MaxPool):
                pool, axis = following[0].layer.window, 2
            side = field[0] // pool
            shape = (batch, side, pool, pool, side, features)
        noise = np.asarray(_normal(step.at(each.slot), shape, axis))
        if field:
            rows = shape[1] * shape[2]
            noise = noise.transpose(0, 5, 1, 2, 4, 3).reshape(batch, features, rows, rows)
        noises.append(torch.tensor(noise))
    return noises


# Random members and images


def made_up_params(arch: Architecture, seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Random weights of Kaiming scale, and biases and scales that are not negligible.

    Weights of SIRENs are smaller by the factor of their sines, as the initial ones are.
    """
    rng = np.random.default_rng(seed)
    factor = 1 / OMEGA if arch.task.has_own_images else 1

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) > 1:
            scale = np.float32(factor * np.sqrt(2 / np.prod(shape[:-1])))
            return rng.normal(size=shape).astype(np.float32) * scale
        return np.float32(name == "scale") + rng.normal(scale=0.2, size=shape).astype(np.float32)

    shapes = variable_shapes(arch)["params"]
    return {
        layer: {name: draw(name, leaves[name].shape) for name in sorted(leaves, reverse=True)}
        for layer, leaves in shapes.items()
    }


def made_up_variables(arch: Architecture, seed: int = 0) -> dict[str, Any]:
    """Random parameters, and random batch statistics if the network has any."""
    rng = np.random.default_rng(seed + 1)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if leaf.dtype == np.int32:
            return rng.integers(1, 1000, leaf.shape).astype(np.int32)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    collections = {name: tree for name, tree in variable_shapes(arch).items() if name != "params"}
    return {"params": made_up_params(arch, seed), **jax.tree.map(draw, collections)}


def made_up_batch(arch: Architecture, count: int, seed: int = 0) -> Batch:
    """Random images that are zero in one corner, as real images are.

    For members that learn an image: random coordinates and pixels.
    """
    rng = np.random.default_rng(seed)
    if arch.task.has_own_images:
        points = rng.uniform(-1, 1, (count, *arch.image_shape)).astype(np.float32)
        pixels = rng.uniform(-0.5, 0.5, (count, arch.classes)).astype(np.float32)
        return Batch(jnp.asarray(points), jnp.asarray(pixels), jnp.ones(count))
    images = rng.normal(size=(count, arch.size, arch.size, arch.channels)).astype(np.float32)
    images[:, :8, :8] = 0
    labels = rng.integers(0, arch.classes, count).astype(np.int32)
    return Batch(jnp.asarray(images), jnp.asarray(labels), jnp.ones(count))


# Conversion between zoojax and torch


def layer_prefixes(state: Mapping[str, object], arch: Architecture) -> dict[str, str]:
    """Maps layers to torch prefixes by their order: {"conv1": "module_list.0", ...}."""
    prefixes = {n.rpartition(".")[0] for n in state if n.endswith((".weight", ".weight_orig"))}
    return dict(zip(arch.layers, sorted(prefixes, key=layout.module_order), strict=True))


def params_to_flax(state: Mapping[str, np.ndarray], arch: Architecture) -> dict[str, Any]:
    """Converts a state dict, or gradients by name, to parameters; masks are applied."""
    params = {}
    for layer, prefix in layer_prefixes(state, arch).items():
        if f"{prefix}.weight_orig" in state:
            weight = state[f"{prefix}.weight_orig"] * state[f"{prefix}.weight_mask"]
        else:
            weight = state[f"{prefix}.weight"]
        kernel = layout.kernel_to_flax(layer, weight, layout.known_network(arch))
        params[layer] = {"kernel": kernel, "bias": state[f"{prefix}.bias"]}
    return params


def log_sigma2_to_flax(
    state: Mapping[str, np.ndarray], arch: Architecture, variant: str
) -> dict[str, Any]:
    """Extracts log sigma squared of the parameters that are variational in a variant."""
    log_sigma2 = {}
    for layer, prefix in layer_prefixes(state, arch).items():
        weight = state[f"{prefix}.log_sigma2"]
        log_sigma2[layer] = {
            "kernel": layout.kernel_to_flax(layer, weight, layout.known_network(arch))
        }
        if variant == "released" and weight.ndim == 4:
            log_sigma2[layer]["bias"] = state[f"{prefix}.log_sigma2_bias"]
    return log_sigma2


def params_to_torch(params: Mapping, arch: Architecture, dropout: bool) -> dict[str, np.ndarray]:
    """Converts the parameters of a member to a state dict with the zoos' module names."""
    state = {}
    for layer, prefix in zip(
        arch.layers, layout.default_prefixes(layout.known_network(arch), dropout), strict=True
    ):
        kernel = layout.kernel_to_torch(
            layer, np.asarray(params[layer]["kernel"]), layout.known_network(arch)
        )
        state[f"{prefix}.weight"] = np.ascontiguousarray(kernel)
        state[f"{prefix}.bias"] = np.asarray(params[layer]["bias"])
    return state


def nchw(images: Array | np.ndarray) -> torch.Tensor:
    """Converts images, channels last, to a torch tensor, channels first."""
    return torch.tensor(np.asarray(images).transpose(0, 3, 1, 2))


def torch_labels(batch: Batch) -> torch.Tensor:
    """The labels of a batch as a torch tensor."""
    return torch.tensor(np.asarray(batch.labels), dtype=torch.long)


def numpy_state(values: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copies a state dict (or gradients under the same names) into NumPy arrays."""
    return {name: value.detach().numpy().copy() for name, value in values.items()}


def gradients(module: nn.Module) -> dict[str, np.ndarray]:
    """The gradients of a module's parameters by name."""
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return numpy_state(grads)


def load(module: nn.Module, params: Mapping, arch: Architecture, dropout: bool = False) -> None:
    """Loads the parameters of a member into a torch module, except log sigma squared."""
    state = params_to_torch(params, arch, dropout)
    wrong = module.load_state_dict({k: torch.tensor(v) for k, v in state.items()}, strict=False)
    assert not wrong.unexpected_keys
    assert not [name for name in wrong.missing_keys if "log_sigma2" not in name]


def load_log_sigma2(module: TorchVariational, log_sigma2: Mapping, arch: Architecture) -> None:
    """Loads log sigma squared of a member into a torch module."""
    with torch.no_grad():
        for layer, m in zip(arch.layers, module.layers(), strict=True):
            kernel = np.asarray(log_sigma2[layer]["kernel"])
            m.log_sigma2.copy_(
                torch.tensor(
                    layout.kernel_to_torch(layer, kernel, layout.known_network(arch)).copy()
                )
            )
            if "bias" in log_sigma2[layer]:
                m.log_sigma2_bias.copy_(torch.tensor(np.asarray(log_sigma2[layer]["bias"])))


def assert_trees_close(actual: Any, expected: Any, rtol: float, atol: float) -> None:
    """Equal structures and close leaves; a failure names the leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


# The reference zoo on disk

FOLDERS = {
    "dense": ("tune_zoo_usps_uniform", "NN_tune_trainable_*_{seed}_seed={seed}_*"),
    "vd": ("cnn_small_usps_ard", "NN_tune_trainable_*_{seed}_seed={seed}_*"),
    "mp": ("cnn_small_usps_mp", "NN_tune_trainable_*_{seed}_seed={seed}_amount={amount}"),
}


def trial(reference: Path, kind: str, seed: int, amount: int | None = None) -> Path:
    """The trial folder of a reference member."""
    folder, pattern = FOLDERS[kind]
    (path,) = (reference / folder).glob(pattern.format(seed=seed, amount=amount))
    return path


def checkpoint(folder: Path, epoch: int) -> dict[str, np.ndarray]:
    """The state dict of a trial at an epoch."""
    path = folder / f"checkpoint_{epoch:06d}" / "checkpoints"
    return numpy_state(torch.load(path, weights_only=True))


def result(folder: Path, epoch: int) -> dict[str, Any]:
    """The reported metrics of a trial at an epoch."""
    rows = [json.loads(line) for line in (folder / "result.json").read_text().splitlines()]
    (row,) = (row for row in rows if row["training_iteration"] == epoch)
    return row


USPS = DataSpec("usps", 28, 1, 0.1307, 0.3081, train=6000, val=1291)


@functools.cache
def usps(data_dir: Path) -> specs.ImageSet:
    """USPS with the split of the reference zoo."""
    return loading.load(USPS, data_dir)
