"""ResNet-18: training equals torch's, statistics of batches, padding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.support.torch_models import made_up_variables, nchw
from zoojax.architectures.base import training_logits, variable_shapes
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts.network_registry import network_layout
from zoojax.converters.state_dicts import StateDictInfo, to_torch
from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.sparsifiers.dense import Dense
from zoojax.training import loop
from zoojax.training.programs import ProgramSpec, train_member

ARCH = architecture("resnet18-4-16", 3)
MEMBERS, BATCH, EPOCHS = 3, 8, 2
LEARNING_RATE, WEIGHT_DECAY = 0.01, 5e-4


def torch_state(variables: dict[str, Any]) -> dict[str, torch.Tensor]:
    prefixes = network_layout(ARCH).default_prefixes(ARCH, False)
    collections = {"batch_stats": variables["batch_stats"]}
    member = {"params": variables["params"], "collections": collections}
    state = to_torch(member, StateDictInfo(ARCH, Dense(), prefixes))
    return {name: torch.tensor(value) for name, value in state.items()}


def untrained(seed: int) -> dict[str, Any]:
    """Random parameters, and statistics before the first batch."""
    norms = variable_shapes(ARCH)["batch_stats"]
    statistics = {
        name: {
            "mean": np.zeros(leaves["mean"].shape, np.float32),
            "var": np.ones(leaves["var"].shape, np.float32),
            "count": np.int32(0),
        }
        for name, leaves in norms.items()
    }
    return {"params": made_up_variables(ARCH, seed)["params"], "batch_stats": statistics}


def data(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 16, 16, 3)).astype(np.float32)
    return images, rng.integers(0, 10, count).astype(np.int32)


def trained_by_torch(
    activation: str, variables: dict[str, Any], order: np.ndarray
) -> dict[str, np.ndarray]:
    """The state dict after an epoch of SGD with a one-cycle schedule."""
    images, labels = data(len(order))
    batches = np.split(order, range(BATCH, len(order), BATCH))
    module = network_layout(ARCH).torch_module(ARCH, activation)
    module.load_state_dict(torch_state(variables))
    optimizer = torch.optim.SGD(
        module.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * len(batches), cycle_momentum=False
    )
    for batch in batches:
        loss = torch.nn.functional.cross_entropy(
            module.train()(nchw(images[batch])), torch.tensor(labels[batch], dtype=torch.long)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {name: value.numpy() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    "activation, steps",
    # Rounding errors that cross the kink of ReLU grow by 1000 in five steps, also in torch.
    [("gelu", 20), pytest.param("relu", 3, marks=pytest.mark.slow)],
)
def test_training_of_three_members_equals_torch(activation, steps):
    """Parameters and running statistics; the last batch is smaller."""
    count = steps * BATCH - 3
    members = [untrained(seed) for seed in range(MEMBERS)]
    orders = np.stack([np.random.default_rng(s).permutation(count) for s in range(MEMBERS)])
    spec = ProgramSpec(
        *(Dense(), ARCH, activation, "sgd", False, BATCH), schedule="one_cycle", epochs=EPOCHS
    )
    images, labels = data(count)

    def train(variables, seed, order):
        numbers = jnp.float32(LEARNING_RATE), jnp.float32(WEIGHT_DECAY), jnp.float32(0)
        statistics = {"batch_stats": variables["batch_stats"]}
        state = loop.init_state({"params": variables["params"]}, {}, "sgd", statistics)
        hyperparams = loop.Hyperparams(seed, *numbers)
        split = jnp.asarray(images), jnp.asarray(labels)
        return train_member(spec, state, hyperparams, split, jnp.int32(1), order)[0]

    stacked = population.stack(members)
    seeds = np.arange(MEMBERS, dtype=np.uint32)
    states = jax.device_get(population.jit_fast_compile(jax.vmap(train))(stacked, seeds, orders))
    for row, variables in enumerate(members):
        expected = trained_by_torch(activation, variables, orders[row])
        state = population.take(states, row)
        after = {"params": state.trainable["params"], **state.collections}
        actual = torch_state(after)
        assert list(actual) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, rtol=0, atol=1e-4, err_msg=name)
        assert expected["bn1.num_batches_tracked"] == steps
        assert np.abs(expected["layer4.1.bn2.running_var"] - 1).max() > 0.05


def test_padding_does_not_enter_the_statistics():
    variables, module = made_up_variables(ARCH), ARCH.module("relu", "uniform")
    images = np.random.default_rng(1).normal(size=(6, 16, 16, 3)).astype(np.float32)
    apply = population.jit_fast_compile(
        lambda x, mask: training_logits(module, variables, x, None, None, mask)
    )
    padded = np.concatenate([images[:4], 1e3 * images[4:]])
    logits, updated = apply(padded, jnp.arange(6) < 4)
    expected, statistics = apply(images[:4], jnp.ones(4, bool))
    np.testing.assert_allclose(logits[:4], expected, atol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, (updated, statistics)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["resnet18-257", "resnet18-4-1025", "resnet18-4-8-8", "resnet18-0", "resnet18-"]
)
def test_sizes_out_of_range_are_unknown_names(name):
    with pytest.raises(ZoojaxError, match=r"no architecture named.*ResNets such as resnet18-16"):
        architecture(name, 3)
