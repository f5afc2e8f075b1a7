"""100 planted permutations with noise, of trained members and of the full ResNet-18."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.plugins import residual_cnn
from tests.support.symmetries import changed, copies, is_undone, random_transform
from tests.support.torch_models import made_up_variables
from zoojax import train_zoo
from zoojax.architectures.base import Architecture, logits
from zoojax.architectures.registry import architecture
from zoojax.geometry import match_weights

assert residual_cnn.ResidualCNN  # Registered by the import.
COUNT, NOISE = 100, 0.01


def assert_recovered(arch: Architecture, variables: dict, activation: str, tolerance: float):
    """Of each permuted copy with noise: its order, and the logits of the copy."""
    module = arch.module(activation, "uniform")
    shape = (4, *arch.image_shape)
    images = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    apply = jax.jit(lambda v: logits(module, v, images))
    recovered = 0
    for seed in range(COUNT):
        planted = random_transform(arch, 1, seed)
        noisy = copies(variables["params"], 1, NOISE, seed)
        stacked = {**copies(variables, 1), "params": noisy}
        permuted = changed(arch, stacked, planted)
        found = match_weights(arch, permuted["params"], variables["params"], activation=activation)
        assert (found.after <= found.before).all()
        recovered += int(is_undone(planted, found.transform)[0])
        if seed < 3:
            rescalings = arch.rescalings(activation)
            back = changed(arch, permuted, found.transform, rescalings)
            before, after = (
                np.asarray(apply(jax.tree.map(lambda x: x[0], each))) for each in (permuted, back)
            )
            atol = tolerance * np.abs(before).max()
            np.testing.assert_allclose(after, before, rtol=0, atol=atol)
    assert recovered == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small", "mlp-24-12", "residual_cnn", "resnet18-8"])
def test_trained_members(tmp_path_factory, name):
    zoo = train_zoo(
        architecture=name,
        data=str(zoo_fixtures.images(tmp_path_factory)),
        members=1,
        epochs=5,
        learning_rate=1e-2,
        quiet=True,
    )
    _, variables = zoo.module(0)
    activation = zoo.members_table["activation"][0]
    tolerance = 1e-4 if name.startswith("resnet") else 1e-5
    assert_recovered(zoo.config.shape, variables, activation, tolerance)


@pytest.mark.slow
def test_full_resnet18():
    arch = architecture("resnet18", 3)
    assert_recovered(arch, made_up_variables(arch), "relu", 1e-4)
