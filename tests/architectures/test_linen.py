"""Architectures of users: any Linen module, its arguments, and what is checked on first use."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.torch_models import made_up_batch, made_up_params
from zoojax import ZoojaxError, keys
from zoojax.architectures import registry
from zoojax.architectures.base import init_variables, logits, training_logits
from zoojax.architectures.checks import check_architecture, check_replaceable
from zoojax.architectures.layers import INITS, PLAIN, ConvSpec, Layers
from zoojax.architectures.linen import LinenArchitecture
from zoojax.architectures.permuted_axes import PermutationGroup, PermutedAxis
from zoojax.architectures.registry import architecture, register_architecture
from zoojax.ops import max_pool
from zoojax.sparsifiers.variational_dropout import init_log_sigma2, variances
from zoojax.training import engine


class Net(nn.Module):
    classes: int
    activation: Callable = nn.tanh
    kernel_init: Callable = INITS["xavier_uniform"]

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(4, (3, 3), strides=(4, 4), kernel_init=self.kernel_init, name="conv")(images)
        x = self.activation(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        x = nn.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.classes, kernel_init=self.kernel_init, name="head")(x)


class Replaceable(nn.Module):
    classes: int
    layers: Layers = PLAIN

    @nn.compact
    def __call__(self, images, noise=None):
        slots = [None if noise is None else noise.at(i) for i in range(2)]
        conv = self.layers.conv(ConvSpec(4, 3), INITS["uniform"], name="conv")
        x = max_pool(conv(images, slots[0])).mean((1, 2))
        return self.layers.dense(self.classes, INITS["uniform"], name="head")(x, slots[1])


UNITS = tuple(
    [PermutedAxis(f"conv/{leaf}", -1) for leaf in ("kernel", "bias")]
    + [PermutedAxis(f"norm/{leaf}", -1) for leaf in ("scale", "bias", "mean", "var")]
    + [PermutedAxis("head/kernel", -2)]
)


def own(network: nn.Module, *groups: PermutationGroup, classes: int = 3) -> LinenArchitecture:
    return LinenArchitecture("own", 8, 1, classes, network, groups)


def test_hyperparameters_reach_the_module():
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 1), np.float32))
    arch = own(Net(3))
    variables = init_variables(arch, "orthogonal", 0)
    tanh, relu = (logits(arch.module(a, "uniform"), variables, images) for a in ("tanh", "relu"))
    assert not np.array_equal(tanh, relu)
    kernel = np.asarray(variables["params"]["conv"]["kernel"]).reshape(9, 4)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(4), atol=1e-5)
    assert arch.layers == ("conv", "head")
    assert arch.collections == ("batch_stats",)
    assert arch.kernel is None


def test_training_draws_from_the_stream_of_the_member():
    arch = own(Net(3))
    variables, mask = init_variables(arch, "uniform", 0), jnp.ones(2, bool)
    module = arch.module("tanh", "uniform")
    images = jnp.asarray(np.random.default_rng(0).standard_normal((2, 8, 8, 1), np.float32))

    def outputs(seed: int, step: int):
        noise = keys.step_noise(keys.stream_key(seed, "noise"), step)
        return training_logits(module, variables, images, noise, None, mask)[0]

    first = outputs(0, 0)
    np.testing.assert_array_equal(outputs(0, 0), first)
    assert any(not np.array_equal(outputs(1, step), outputs(0, step)) for step in range(3))
    assert any(not np.array_equal(outputs(0, step), first) for step in range(1, 4))


def test_layers_that_can_be_replaced():
    check_replaceable(own(Replaceable(3)))
    with pytest.raises(ZoojaxError, match="does not build conv, head with the `layers`"):
        check_replaceable(own(Net(3)))


def test_replaced_layers_sample_their_outputs():
    arch = own(Replaceable(3))
    params, batch = made_up_params(arch), made_up_batch(arch, 6)
    log_sigma2 = jax.tree.map(lambda x: x + 8, init_log_sigma2(params, "released"))
    loss = jax.jit(engine.loss(arch, "tanh", "xla"))

    def at(step: int, sampled: bool) -> float:
        noise = keys.step_noise(keys.stream_key(0, "noise"), step)
        variance = variances(params, log_sigma2) if sampled else None
        return float(loss(params, variance, {}, batch, noise, None)[0])

    assert at(0, sampled=False) == at(1, sampled=False)
    assert len({at(0, sampled=False), at(0, sampled=True), at(1, sampled=True)}) == 3


class Random(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(3)(images.mean((1, 2))) + np.random.default_rng().standard_normal()


class AlwaysDropout(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(images.mean((1, 2))))


class OfTheBatch(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.Dense(3)(images.mean((1, 2)))
        return x - jnp.broadcast_to(x.mean(0), x.shape)


class WithFeatures(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = images.mean((1, 2))
        return nn.Dense(3)(x), x


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        (
            own(WithFeatures()),
            "architecture own: its module returns a tuple; return only the logits",
        ),
        (own(Random()), "architecture own: its evaluation is not deterministic"),
        (own(AlwaysDropout()), "architecture own cannot be evaluated .*needs PRNG"),
        (own(OfTheBatch()), "depends on the other images of the batch"),
        (own(Net(4)), r"returns an array \[3, 4\] for 3 images and 3 classes; return .* \[3, 3\]"),
        (own(Net(3), UNITS[:-1]), "its permutation of conv/kernel, .* changes the function"),
        (own(Net(3), UNITS[:2] + UNITS[3:]), "changes the function of the network"),
        (own(Net(3), (PermutedAxis("head/scale", -1),)), "head/scale"),
    ],
    ids=[
        *("tuple", "random", "dropout", "batch", "classes", "permutation", "forgotten axis"),
        "no such axis",
    ],
)
def test_mistakes_that_are_found_on_first_use(arch, message):
    with pytest.raises(ZoojaxError, match=message):
        check_architecture(arch)


def test_correct_permutations_are_accepted():
    check_architecture(own(Net(3), UNITS))


def test_registered_architectures_are_checked(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    register_architecture("own", lambda c, n: LinenArchitecture("own", 8, c, n, Random()))
    with pytest.raises(ZoojaxError, match="not deterministic"):
        architecture("own", 1, 3)
    register_architecture("broken", lambda c, n: {}["x"])
    with pytest.raises(ZoojaxError, match=r"creating architecture broken .* failed: KeyError"):
        architecture("broken", 1)
    with pytest.raises(ZoojaxError, match="already registered"):
        register_architecture("mlp-8", lambda c, n: own(Net(n)))
    with pytest.raises(ZoojaxError, match="must be hashable, such as tuples instead of lists"):
        own(nn.Sequential([nn.Dense(3)]))
    with pytest.raises(ZoojaxError, match="is not a Linen module"):
        LinenArchitecture("own", 8, 1, 3, Net)  # pyright: ignore[reportArgumentType]


def test_architecture_of_an_object_that_is_not_loaded():
    with pytest.raises(ZoojaxError, match=r"own\.nets:net is not loaded; name it with --plugin"):
        architecture("own.nets:net", 1)


@pytest.mark.parametrize(
    "name", ["mlp-0", "mlp-064", "mlp-5000", "mlp-" + "-".join("9" * 9), "mlp-", "mlp-8-", "mlp-a"]
)
def test_names_that_are_no_mlps(name):
    with pytest.raises(ZoojaxError, match=f"no architecture named '{name}'"):
        architecture(name, 1)


def test_evaluation_of_a_stacked_population():
    arch = own(Net(3))
    seeds = jnp.arange(3)
    variables = jax.vmap(lambda seed: init_variables(arch, "uniform", seed))(seeds)
    images = jnp.ones((2, 8, 8, 1))
    module = arch.module("tanh", "uniform")
    assert jax.vmap(lambda v: logits(module, v, images))(variables).shape == (3, 2, 3)
