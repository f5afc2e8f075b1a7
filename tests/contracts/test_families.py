"""The contract of the families of networks: kernel, XLA and torch agree; see also
`test_architectures`."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.support.torch_models import made_up_batch, made_up_params, made_up_variables, nchw
from zoojax import keys
from zoojax.architectures import permutations
from zoojax.architectures.base import Architecture, variable_shapes
from zoojax.architectures.base import logits as member_logits
from zoojax.architectures.chain import Chain
from zoojax.architectures.parameters import kernels
from zoojax.architectures.registry import _OWN, architecture
from zoojax.converters.layouts.network_registry import network_layout
from zoojax.converters.layouts.torch_models import TorchChain
from zoojax.converters.state_dicts import StateDictInfo, infer_network, to_member, to_torch
from zoojax.ops import kernel
from zoojax.runtime import population
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import (
    VariationalDropout,
    init_log_sigma2,
    variances,
)
from zoojax.training import engine, loop, own_images, programs, task_programs
from zoojax.training.programs import ProgramSpec, Splits

MLP, SIREN = "mlp-16-12", "siren-24-16"
RESNET, BOTTLENECKS, VIT = "resnet18-2-8", "resnet50-2-8", "vit-12-2-6-4-8"
# (parameters with one and with three channels, 10 classes): as published, or counted in torch.
PARAMETERS = {
    "small": (2464, 2864),
    "medium": (3047, 3347),
    "large": (10565, 10853),
    "lenet5": (61706, 62006),
    "gap_cnn": (4970, 5258),
    "gap_cnn_32": (4970, 5258),
    "siren": (1185, 1251),
    SIREN: (489, 523),
    MLP: (12894, 37982),
    "resnet18": (11172810, 11173962),
    RESNET: (11384, 11420),
    "resnet18-32": (2797034, 2797610),
    BOTTLENECKS: (25224, 25260),
    VIT: (4198, 4582),
    "vit-384-12-6-16-224": (21472906, 21669514),
}
FAST = ("small", MLP, SIREN, RESNET, VIT)
# Networks for images of another side that have the same shapes.
OTHER_SIDE = {"gap_cnn_32": "gap_cnn", RESNET: "resnet18-2", BOTTLENECKS: "resnet50-2"}
# Too large to be trained, or computed more than once, in tests.
LARGE = ("resnet18", "resnet18-32", "vit-384-12-6-16-224")
# Tests register more.
REGISTERED = tuple(sorted(_OWN))
by_family = pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in FAST else pytest.mark.slow)
        for n in PARAMETERS
        if n not in LARGE
    ],
)
logits = jax.jit(member_logits, static_argnums=0)


@functools.cache
def family(name: str, channels: int = 1) -> Architecture:
    return architecture(name, channels)


def default_prefixes(arch: Architecture, dropout: bool = False) -> tuple[str, ...]:
    return network_layout(arch).default_prefixes(arch, dropout)


def torch_member(variables: dict[str, Any]) -> dict[str, Any]:
    """Variables as a saved state of one member."""
    collections = {name: tree for name, tree in variables.items() if name != "params"}
    return {"params": variables["params"], "collections": collections}


def test_families_are_the_registered_architectures():
    assert {name for name in PARAMETERS if "-" not in name} == set(REGISTERED)


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name):
    counts = []
    for channels in (1, 3):
        leaves = family(name, channels).parameter_shapes().values()
        counts.append(sum(int(np.prod(shape)) for each in leaves for shape in each.values()))
    assert tuple(counts) == PARAMETERS[name]


@by_family
def test_shapes_are_those_of_the_module(name):
    arch = family(name)
    shapes = {
        layer: {leaf: x.shape for leaf, x in leaves.items()}
        for layer, leaves in variable_shapes(arch)["params"].items()
    }
    assert shapes == arch.parameter_shapes()
    weights = [layer for layer, leaves in shapes.items() if "kernel" in leaves]
    assert sorted(weights) == sorted(arch.layers)


@by_family
@pytest.mark.parametrize("channels", [1, 3])
def test_logits_match_torch(name, channels):
    arch = family(name, channels)
    variables, images = made_up_variables(arch), made_up_batch(arch, 5).images
    info = StateDictInfo(arch, Dense(), default_prefixes(arch))
    state = to_torch(torch_member(variables), info)
    module = network_layout(arch).torch_module(arch, "tanh")
    module.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    expected = module.eval()(nchw(images)).detach().numpy()
    actual = logits(arch.module("tanh", "uniform"), variables, images)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@by_family
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_torch_state_dict_round_trips_with_the_same_bits(name, dropout):
    """Its names are those of torch's module, and its shapes alone identify the network."""
    arch = family(name)
    torch.manual_seed(0)
    is_chain = isinstance(arch, Chain)
    module = (
        TorchChain(arch, "tanh", dropout)
        if is_chain
        else network_layout(arch).torch_module(arch, "tanh")
    )
    state = {key: value.detach().numpy() for key, value in module.state_dict().items()}
    info = infer_network(state)
    assert info.prefixes == default_prefixes(arch, dropout > 0)
    assert info.architecture == family(OTHER_SIDE.get(name, name))
    back = to_torch(to_member(state, info), info)
    assert list(back) == list(state)
    assert all(np.array_equal(back[key], state[key]) for key in state)


@by_family
def test_permutation_of_hidden_units_preserves_the_logits(name):
    arch = family(name)
    variables, images = made_up_variables(arch), made_up_batch(arch, 4).images
    rng = np.random.default_rng(1)
    # Random cycles: each unit moves.
    draws = [rng.permutation(units) for units in arch.permuted_units()]
    orders = [jnp.asarray(np.roll(order, 1)[order.argsort()]) for order in draws]
    permuted = {
        name: permutations.permute(tree, orders, arch.permutations)
        for name, tree in variables.items()
    }
    module = arch.module("tanh", "uniform")
    before = np.asarray(logits(module, variables, images))
    after = logits(module, permuted, images)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())
    for layer in arch.layers:
        pair = (each["params"][layer]["kernel"] for each in (permuted, variables))
        assert not np.array_equal(*pair)


@pytest.mark.parametrize(
    "name, groups",
    # Hidden layers; stages and the insides of blocks, also the first convolution's channels before
    # bottlenecks; tokens, and heads and MLPs of blocks.
    [
        *(("small", 4), ("lenet5", 4), (MLP, 2), (VIT, 1 + 2 * 2)),
        *((RESNET, 4 + 8), (BOTTLENECKS, 1 + 4 + 2 * 16)),
    ],
)
def test_number_of_permutation_groups(name, groups):
    assert len(family(name).permuted_units()) == groups


@by_family
@pytest.mark.parametrize("sampled", [False, True])
def test_kernel_matches_xla(name, sampled):
    """Loss and gradients, also with sampled pre-activations and dropout from the same noise."""
    arch = family(name)
    if arch.kernel is None or kernel.unavailable_reason(arch.kernel):
        pytest.skip("the kernel does not support this network here")
    params, batch = made_up_params(arch), made_up_batch(arch, 7)
    log_sigma2 = jax.tree.map(lambda x: x + 6, init_log_sigma2(params, "released"))
    noise = keys.step_noise(keys.stream_key(3, "noise"), 5, arch.noise_slots)

    def losses(engine_name: str):
        member_loss = engine.loss(arch, "tanh", engine_name)

        def loss(params):
            if not sampled:
                return member_loss(params, None, {}, batch, None, None)[0]
            variance = variances(params, log_sigma2)
            return member_loss(params, variance, {}, batch, noise, jnp.float32(0.2))[0]

        return jax.jit(jax.value_and_grad(loss))(params)

    for actual, expected in zip(
        *(jax.tree.leaves(losses(each)) for each in ("kernel", "xla")), strict=True
    ):
        tolerance = (1e-4 if sampled else 1e-5) * max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "name",
    [
        # Tracing a ResNet takes long.
        pytest.param(n, marks=() if n in FAST and n != RESNET else pytest.mark.slow)
        for n in PARAMETERS
        if n not in LARGE
    ],
)
@pytest.mark.parametrize(
    "sparsifier", [Dense(), MagnitudePruning().shared(), VariationalDropout()], ids=lambda s: s.name
)
def test_programs_lower_for_gpus(name, sparsifier):
    arch, members = family(name), 2
    images: Any = jax.ShapeDtypeStruct((20, *arch.image_shape), jnp.float32)
    split: Any = images, jax.ShapeDtypeStruct((20,), jnp.int32)
    shared: Any = Splits(split, split, split)
    spec, own = ProgramSpec(sparsifier, arch, "gelu", "adam", True, 10), None
    if arch.task.has_own_images:
        spec = dataclasses.replace(spec, steps=3)
        own = jax.ShapeDtypeStruct((members, 20, arch.classes), jnp.float32)
        scale: Any = jax.ShapeDtypeStruct((), jnp.float32)
        shared = own_images.Grid(images, scale)

    def state() -> loop.TrainState:
        variables = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), variable_shapes(arch))
        params, fixed = variables.pop("params"), {}
        trainable = {"params": params}
        if isinstance(sparsifier, MagnitudePruning):
            fixed = {"mask": {layer: w == 0 for layer, w in kernels(params).items()}}
        if isinstance(sparsifier, VariationalDropout):
            trainable = sparsifier.init(params, {})[0]
        return loop.init_state(trainable, fixed, "adam", variables)

    stacked = jax.eval_shape(lambda: jax.tree.map(lambda x: jnp.stack([x] * members), state()))
    number: Any = jax.ShapeDtypeStruct((members,), jnp.float32)
    seeds: Any = jax.ShapeDtypeStruct((members,), jnp.uint32)
    hyperparams = loop.Hyperparams(seeds, number, number, number, own=own)
    mesh = population.make_mesh()
    epoch = jax.ShapeDtypeStruct((), jnp.int32)
    for program, arguments in (
        (task_programs.epoch(spec, mesh), (stacked, hyperparams, shared, epoch)),
        (task_programs.evaluation(spec, mesh), (stacked, hyperparams, shared)),
        (programs.predictions(spec, mesh), (stacked, images)),
    ):
        lowered = jax.jit(program).trace(*arguments).lower(lowering_platforms=("cuda",))
        assert "custom_call @zoojax" not in lowered.as_text()
