"""Hidden units: what belongs to them, and networks without some of them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.plugins.mlp import MLP
from tests.support.plugins.residual_cnn import ResidualCNN
from zoojax import Architecture, ZoojaxError, functional
from zoojax.architectures.base import init_variables, logits
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import (
    Activation,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Normalization,
)
from zoojax.architectures.parameters import flat_layers, nested_layers
from zoojax.architectures.permutations import permute
from zoojax.architectures.permuted_axes import PermutedAxis
from zoojax.architectures.registry import architecture
from zoojax.architectures.units import (
    parameters_by_path,
    shrink,
    unit_masks,
    unused_units,
    weights_by_unit,
    without_units,
)


def chain(*layers, size: int = 8) -> Chain:
    return Chain("own", size, 2, 3, layers)


NETWORKS = {
    "small": architecture("small", 1),
    "mlp": architecture("mlp-16-12", 1),
    "flattened normalization": chain(Conv(4, 3), Flatten(), Normalization("batch"), Dense(3)),
    "batch normalization": chain(
        *(Conv(5, 3), Normalization("batch"), Activation("relu"), MaxPool(2)),
        *(Conv(4, 2), Normalization("batch"), Activation(), GlobalAvgPool(), Dense(6), Dense(3)),
    ),
    "group normalization": chain(
        *(Conv(4, 3), Normalization("group", 2), Activation()),
        *(Conv(5, 2), Activation("sigmoid"), Flatten(), Dense(3)),
    ),
    "residual": ResidualCNN("residual_cnn", 28, 1, 10),
}
by_network = pytest.mark.parametrize("arch", NETWORKS.values(), ids=list(NETWORKS))


def variables_of(arch: Architecture) -> dict[str, Any]:
    """Random parameters and statistics."""
    rng = np.random.default_rng(0)

    def draw(x: jax.Array) -> jax.Array:
        return jnp.asarray(rng.uniform(0.1, 1, x.shape) * rng.choice([-1, 1], x.shape), x.dtype)

    variables = init_variables(arch, "kaiming_uniform", 1)
    statistics = {n: jax.tree.map(lambda x: abs(draw(x)), variables[n]) for n in arch.collections}
    return {"params": jax.tree.map(draw, variables["params"]), **statistics}


def random_units(arch: Architecture) -> list[np.ndarray]:
    """Some units of each group, all but one of the first."""
    rng = np.random.default_rng(1)
    units = [rng.random(count) < 0.5 for count in arch.permuted_units()]
    units[0][:] = True
    for each in units:
        each[-1] = False
    return units


def zeroed(params: dict, arch: Architecture, removed: list[np.ndarray]) -> dict:
    """Parameters with zeros for all entries of some units."""
    shapes = {path: x.shape for path, x in parameters_by_path(params).items()}
    masks = unit_masks(shapes, [jnp.asarray(~each) for each in removed], arch.permutations)
    layers = {
        layer: {n: x * masks[f"{layer}/{n}"] for n, x in leaves.items()}
        for layer, leaves in flat_layers(params).items()
    }
    return nested_layers(layers)


def run(arch: Architecture, variables: dict, images) -> np.ndarray:
    return np.asarray(
        jax.jit(lambda v: logits(arch.module("tanh", "uniform"), v, images))(variables)
    )


@by_network
def test_shrunk_network_has_the_same_logits(arch):
    variables = variables_of(arch)
    removed = random_units(arch)
    params = zeroed(variables.pop("params"), arch, removed)
    found = unused_units(params, arch.permutations)
    for ours, expected in zip(found, removed, strict=True):
        np.testing.assert_array_equal(ours, expected)
    small = shrink(arch, params, variables)
    images = jnp.asarray(np.random.default_rng(2).normal(size=(4, *arch.image_shape)), jnp.float32)
    before = run(arch, {"params": params, **variables}, images)
    after = run(small.architecture, {"params": small.params, **small.collections}, images)
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert small.architecture.permuted_units() == tuple(int((~each).sum()) for each in removed)
    whole = sum(x.size for x in jax.tree.leaves(params))
    assert small.size == sum(x.size for x in jax.tree.leaves(small.params)) < whole


@by_network
def test_network_that_uses_all_units_stays_as_it_is(arch):
    params = variables_of(arch)["params"]
    small = shrink(arch, params, {})
    assert small.architecture == arch
    assert jax.tree.all(jax.tree.map(np.array_equal, small.params, params))


def test_units_that_only_unused_units_read_are_found():
    arch = architecture("mlp-16-12", 1)
    params = variables_of(arch)["params"]
    params["fc3"]["kernel"] = params["fc3"]["kernel"].at[4].set(0)
    keep = np.zeros(12, bool)
    keep[4] = True
    params["fc2"]["kernel"] = params["fc2"]["kernel"].at[7].set(keep * 1.0)
    first, second = unused_units(params, arch.permutations)
    assert first.nonzero()[0].tolist() == [7]
    assert second.nonzero()[0].tolist() == [4]


def test_one_unit_remains_if_none_is_used():
    arch = architecture("mlp-16-12", 1)
    params = jax.tree.map(jnp.zeros_like, variables_of(arch)["params"])
    small = shrink(arch, params)
    assert small.architecture.permuted_units() == (1, 1)


@pytest.mark.parametrize("positions, width", [(1, 1), (3, 1), (1, 2), (3, 2)])
def test_axes_with_positions_and_several_values_of_a_unit(positions, width):
    """Masks and weights of units are where `permute` moves them, such as those of heads."""
    units = 4
    axis = PermutedAxis("heads/kernel", -1, positions, width)
    kernel = jnp.arange(5.0 * positions * units * width).reshape(5, -1)
    by_unit = weights_by_unit(kernel, axis, units)
    order = jnp.array([2, 0, 3, 1])
    moved = permute({"heads": {"kernel": kernel}}, [order], [(axis,)])["heads"]["kernel"]
    np.testing.assert_array_equal(weights_by_unit(moved, axis, units), by_unit[order])
    kept = jnp.array([True, False, True, True])
    masks = unit_masks({"heads/kernel": kernel.shape}, [kept], [(axis,)])
    removed = np.asarray(kernel)[~np.asarray(masks["heads/kernel"])]
    assert set(removed) == set(np.asarray(by_unit[1]))


def test_weights_that_are_nan_are_used():
    arch = architecture("mlp-16-12", 1)
    params = variables_of(arch)["params"]
    params["fc2"]["kernel"] = params["fc2"]["kernel"].at[7].set(np.nan)
    assert not any(each.any() for each in unused_units(params, arch.permutations))


@pytest.mark.parametrize("norm", [Normalization("layer"), Normalization("group")])
def test_normalization_over_units_is_refused(norm):
    """Without a unit, the others would be normalized differently."""
    arch = chain(Conv(4, 3), norm, Flatten(), Dense(3))
    params = variables_of(arch)["params"]
    assert shrink(arch, params).architecture == arch
    params["fc1"]["kernel"] = params["fc1"]["kernel"].at[1::4].set(0)
    with pytest.raises(
        ZoojaxError, match="own CNN cannot have fewer units in conv1: Normalization"
    ):
        shrink(arch, params)


def test_architectures_without_units_or_description_are_refused(monkeypatch):
    mlp = MLP("mlp", 28, 1, 10)
    with pytest.raises(ZoojaxError, match="mlp cannot be described with fewer hidden units"):
        shrink(mlp, variables_of(mlp)["params"])

    without = ResidualCNN("residual_cnn", 28, 1, 10)
    monkeypatch.setattr(ResidualCNN, "permutations", ())
    with pytest.raises(ZoojaxError, match="residual_cnn has no permutation groups"):
        shrink(without, variables_of(without)["params"])


def test_description_of_another_network_is_refused():
    class Wrong(ResidualCNN):
        def narrowed(self, units):
            return dataclasses.replace(self, features=units[0] + 1)

    arch = Wrong("residual_cnn", 28, 1, 10)
    params = variables_of(arch)["params"]
    with pytest.raises(ZoojaxError, match=r"has block/bias of shape \(7,\), not \(6,\)"):
        without_units(arch, params, {}, [np.zeros(6, bool)])


def test_shrink_of_a_member():
    member = functional.init("mlp-16-12", seed=1, init="kaiming_uniform")
    removed = [np.arange(16) < 9, np.arange(12) < 2]
    pruned = member.with_params(zeroed(member.params, member.architecture, removed))
    small = functional.shrink(pruned)
    images = np.random.default_rng(2).normal(size=(4, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(
        functional.logits(small, images), functional.logits(pruned, images), atol=1e-5
    )
    trained, _ = functional.train_epoch(small, images, np.arange(4), 1e-3)
    assert trained.params["fc2"]["kernel"].shape == (7, 10)
    with pytest.raises(ZoojaxError, match="call shrink outside"):
        jax.jit(functional.shrink)(member)
