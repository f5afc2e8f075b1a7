"""Conversion of parameters to tokens and back."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.architectures.base import Architecture
from zoojax.architectures.chain import Chain
from zoojax.architectures.chain_layers import Conv, Dense, Flatten, Normalization
from zoojax.architectures.cnn import large_cnn, small_cnn
from zoojax.architectures.mlp import mlp
from zoojax.hyper_representation.tokens import Tokenizer, fill_missing
from zoojax.sparsifiers import variational_dropout

ARCHITECTURES = {
    "small-1": small_cnn(1, 10),
    "small-3": small_cnn(3, 10),
    "large-3": large_cnn(3, 10),
    "mlp": mlp((8, 6), 1, 10),
    "norm": Chain("norm", 4, 1, 10, (Conv(3, 2), Normalization("batch"), Flatten(), Dense(10))),
}
# 8 + 6 + 4 + 20 + 10 units, and 16 + 32 + 15 + 20 + 10 units.
UNITS = {"small-1": 48, "small-3": 48, "large-3": 93, "mlp": 24, "norm": 16}
PARAMETERS = {"small-1": 2464, "small-3": 2864, "large-3": 10853, "mlp": 6404, "norm": 301}
by_name = pytest.mark.parametrize("name", ARCHITECTURES)


def random_bits(arch, seed: int) -> dict:
    """Parameters with random bits, including infinities, NaNs and negative zeros."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        return rng.integers(0, 2**32, shape, np.uint32).view(np.float32)

    return {
        layer: {name: draw(shape) for name, shape in leaves.items()}
        for layer, leaves in arch.parameter_shapes().items()
    }


def assert_roundtrip(tokenizer: Tokenizer, params: dict) -> None:
    tokens = tokenizer.tokenize(params)
    assert {n: x.shape for n, x in tokens.items()} == {
        g.name: (g.count, g.width) for g in tokenizer.groups
    }
    assert zoo_fixtures.same_bits(tokenizer.detokenize(tokens), params)


@by_name
def test_neuron_tokens_roundtrip(name):
    tokenizer = Tokenizer(ARCHITECTURES[name])
    assert tokenizer.count == UNITS[name]
    assert_roundtrip(tokenizer, random_bits(tokenizer.arch, 0))


@by_name
@given(st.data())
@settings(max_examples=8)
def test_chunk_tokens_roundtrip(name, data):
    arch = ARCHITECTURES[name]
    length = data.draw(st.integers(1, PARAMETERS[name] + 10))
    tokenizer = Tokenizer(arch, "chunk", length)
    assert tokenizer.count == -(-PARAMETERS[name] // length)
    assert_roundtrip(tokenizer, random_bits(arch, length))


@pytest.mark.parametrize("length", [1, 64, 2464, 5000])
def test_chunk_tokens_of_boundary_lengths_roundtrip(length):
    """One value, a partial last chunk, exactly one chunk, and longer than all parameters."""
    arch = ARCHITECTURES["small-1"]
    assert_roundtrip(Tokenizer(arch, "chunk", length), random_bits(arch, length))


def test_batches_roundtrip_under_jit():
    tokenizer = Tokenizer(ARCHITECTURES["small-1"], "chunk", 100)
    members = [random_bits(tokenizer.arch, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *members)
    tokens = jax.jit(jax.vmap(tokenizer.tokenize))(stacked)
    assert zoo_fixtures.same_bits(jax.jit(jax.vmap(tokenizer.detokenize))(tokens), stacked)


@by_name
def test_neuron_token_contains_weights_and_bias_of_a_unit(name):
    arch = ARCHITECTURES[name]
    params = random_bits(arch, 1)
    tokens = Tokenizer(arch).tokenize(params)
    for layer in arch.layers:
        for unit in (0, -1):
            expected = np.append(
                params[layer]["kernel"][..., unit].ravel(), params[layer]["bias"][unit]
            )
            assert zoo_fixtures.same_bits(tokens[layer][unit], expected)


def test_chunk_tokens_are_concatenated_neuron_tokens():
    arch = ARCHITECTURES["small-1"]
    params = random_bits(arch, 1)
    neurons = Tokenizer(arch).tokenize(params)
    chunks = np.asarray(Tokenizer(arch, "chunk", 100).tokenize(params)["chunk"]).ravel()
    flat = np.concatenate([np.ravel(neurons[layer]) for layer in arch.layers])
    assert chunks[: flat.size].tobytes() == flat.tobytes()
    assert not chunks[flat.size :].any()


@by_name
@pytest.mark.parametrize("kind", ["neuron", "chunk"])
@pytest.mark.parametrize("variant", [None, *variational_dropout.VARIANTS])
def test_mask_marks_present_leaves(name, kind, variant):
    """All parameters, or those with a log alpha in a variant of variational dropout."""
    arch = ARCHITECTURES[name]
    tokenizer = Tokenizer(arch, kind, 100)
    assert tokenizer.num_parameters == PARAMETERS[name]
    ones = {
        k: {n: np.ones(s, np.float32) for n, s in v.items()}
        for k, v in arch.parameter_shapes().items()
    }
    present = ones
    if variant is not None:
        present = jax.tree.map(np.ones_like, variational_dropout.init_log_sigma2(ones, variant))
    mask = tokenizer.mask(present)
    counted = sum(float(jnp.sum(x)) for x in mask.values())
    assert counted == sum(x.size for x in jax.tree.leaves(present))
    if variant is None:
        assert counted == PARAMETERS[name]
    assert zoo_fixtures.same_bits(mask, tokenizer.tokenize(fill_missing(present, arch)))


@dataclass(frozen=True)
class Normalized(Architecture):
    """Convolutions without bias, each followed by a scale and a shift, and a dense layer."""

    def parameter_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return {
            "stem": {"kernel": (3, 3, 1, 4)},
            "norm": {"scale": (4,), "shift": (4,)},
            "head": {"kernel": (16, 2), "bias": (2,)},
        }


@pytest.mark.parametrize("kind", ["neuron", "chunk"])
def test_layers_and_parameters_are_those_of_the_architecture(kind):
    arch = Normalized("normalized", 4, 1, 2)
    tokenizer = Tokenizer(arch, kind, 10)
    assert [(g.name, g.count, g.width) for g in tokenizer.layers] == [
        *(("stem", 4, 9), ("norm", 4, 2), ("head", 2, 17)),
    ]
    assert tokenizer.num_parameters == 36 + 8 + 34
    assert_roundtrip(tokenizer, random_bits(arch, 0))
    mask = tokenizer.mask({"norm": {"shift": None}})
    assert sum(float(jnp.sum(x)) for x in mask.values()) == 4


def test_mask_is_constant_under_jit():
    tokenizer = Tokenizer(ARCHITECTURES["small-1"])
    present = {"fc1": {"kernel": None}}
    inside = jax.jit(lambda x: jax.tree.map(lambda m: m * x, tokenizer.mask(present)))(1.0)
    assert zoo_fixtures.same_bits(inside, tokenizer.mask(present))
    assert float(sum(jnp.sum(m) for m in inside.values())) == 36 * 20


def test_invalid_tokenizer_arguments():
    with pytest.raises(ZoojaxError, match="choose from: neuron, chunk"):
        Tokenizer(ARCHITECTURES["small-1"], "word")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ZoojaxError, match="at least 1"):
        Tokenizer(ARCHITECTURES["small-1"], "chunk", 0)
