"""Structured pruning compared with torch.nn.utils.prune and with an independent computation."""

import dataclasses
import functools
import json
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.utils import prune

from tests.support import zoo_fixtures
from tests.support.plugins.residual_cnn import ResidualCNN
from tests.support.torch_models import (
    TorchCNN,
    checkpoint,
    layer_prefixes,
    load,
    made_up_params,
    numpy_state,
    params_to_flax,
    trial,
)
from zoojax import StructuredPruning, Zoo, ZoojaxError, functional, sparsify
from zoojax.architectures.base import init_params, variable_shapes
from zoojax.architectures.chain import Chain
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import flat_layers
from zoojax.architectures.registry import architecture
from zoojax.converters import to_torch
from zoojax.converters.layouts import networks as layout
from zoojax.converters.layouts.networks import known_network
from zoojax.converters.layouts.torch_models import TorchChain
from zoojax.converters.zoo_to_torch import shrunk_module, trial_names
from zoojax.sparsifiers import structured
from zoojax.sparsifiers.context import Context

RATIOS = (0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 0.99)
NORMS = {"l1": 1, "l2": 2}
SMALL = small_cnn(1, 10)


@functools.cache
def pruned_at_all_ratios(arch, options: StructuredPruning):
    """The compiled function (params, key) -> (trainable, fixed), stacked by RATIOS."""
    table = pl.DataFrame({"seed": [1] * len(RATIOS), "ratio": RATIOS})

    def prune_one(params, key, values):
        context = Context(arch, "tanh", {}, key)
        return options.init(params, {**values, "context": context})

    values = options.member_values(table, variable_shapes(arch)["params"])
    many = jax.jit(jax.vmap(prune_one, in_axes=(None, None, 0)))
    return lambda params, key: many(params, key, values)


def masks(arch, params, key=None, **options) -> list[dict[str, np.ndarray]]:
    """{path: mask} of all parameters, by ratio."""
    key = jax.random.key(0) if key is None else key
    _, fixed = pruned_at_all_ratios(arch, StructuredPruning(**options))(params, key)
    leaves = {f"{layer}/kernel": mask for layer, mask in fixed["mask"].items()}
    leaves |= fixed["unit_mask"]
    return [
        {path: np.asarray(mask[i]) for path, mask in leaves.items()} for i in range(len(RATIOS))
    ]


def removed_units(mask: dict[str, np.ndarray], path: str) -> np.ndarray:
    return ~mask[f"{path}/bias"]


# Scores


def torch_structured(params, arch, ratio: float, norm: int | None, draws) -> dict[str, np.ndarray]:
    """Masks of the outputs of each layer by torch.nn.utils.prune, in the axis order of Flax."""
    module = TorchCNN(arch.name, arch.channels, "tanh")
    load(module, params, arch)
    for i, (layer, name) in enumerate(module.prunable()):
        units = len(next(layer.parameters()))
        # Torch would remove all of few units.
        amount = min(round(ratio * units), units - 1)
        if norm is None:
            with mock.patch.object(torch, "rand", lambda n, i=i: torch.from_numpy(draws[i])):
                prune.random_structured(layer, name, amount, dim=0)
        else:
            prune.ln_structured(layer, name, amount, n=norm, dim=0)
    state = numpy_state(module.state_dict())
    return {
        layer: layout.kernel_to_flax(layer, state[f"{prefix}.weight_mask"], arch) == 1
        for layer, prefix in layer_prefixes(state, arch).items()
    }


def assert_masks_match_torch(params, arch, ours, norm, draws=None) -> None:
    """Outputs are torch's; inputs are the removed outputs of the layer before."""
    for mask, ratio in zip(ours, RATIOS, strict=True):
        expected = torch_structured(params, arch, ratio, norm, draws)
        previous = None
        for layer in arch.layers:
            outputs = expected[layer] if layer != arch.layers[-1] else np.ones_like(expected[layer])
            inputs = np.ones(outputs.shape[:-1], bool)
            if previous is not None:
                flat = inputs.reshape(-1, len(previous)) & previous
                inputs = flat.reshape(inputs.shape)
            np.testing.assert_array_equal(mask[f"{layer}/kernel"], outputs & inputs[..., None])
            previous = np.asarray(outputs.reshape(-1, outputs.shape[-1]).any(axis=0))
            np.testing.assert_array_equal(mask[f"{layer}/bias"], previous)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name, channels", [("small", 1), ("large", 3)])
def test_masks_of_random_members_match_ln_structured(name, channels, norm):
    arch = architecture(name, channels)
    params = made_up_params(arch)
    assert_masks_match_torch(params, arch, masks(arch, params, norm=norm), NORMS[norm])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_masks_of_reference_members_match_ln_structured(reference, seed, norm):
    params = params_to_flax(checkpoint(trial(reference, "dense", seed), 50), SMALL)
    assert_masks_match_torch(params, SMALL, masks(SMALL, params, norm=norm), NORMS[norm])


def test_random_masks_match_random_structured():
    """With our draws instead of torch's."""
    key = jax.random.key(5)
    params = made_up_params(SMALL)
    draws = [np.array(each) for each in structured.random_scores(key, SMALL.permuted_units())]
    # Torch prunes the last layer, too.
    draws.append(np.random.default_rng(0).random(10, np.float32))
    ours = masks(SMALL, params, key, norm="random")
    assert_masks_match_torch(params, SMALL, ours, None, draws)
    other = masks(SMALL, params, jax.random.key(6), norm="random")
    assert not np.array_equal(other[3]["fc1/bias"], ours[3]["fc1/bias"])


@pytest.mark.parametrize("norm", NORMS)
def test_global_scope_compares_mean_norms(norm):
    """The units of all layers together, except the best one of each layer."""
    params = made_up_params(SMALL)
    hidden = SMALL.layers[:-1]
    scores, protected = [], []
    for layer in hidden:
        weights = torch.from_numpy(np.array(params[layer]["kernel"])).flatten(0, -2)
        norms = torch.linalg.vector_norm(weights, NORMS[norm], dim=0)
        scores.append(norms / len(weights) ** (1 / NORMS[norm]))
        protected.append(torch.arange(len(norms)) == norms.argmax())
    flat, safe = torch.cat(scores), torch.cat(protected)
    order = [i for i in torch.argsort(flat).tolist() if not safe[i]]
    for mask, ratio in zip(masks(SMALL, params, norm=norm, scope="global"), RATIOS, strict=True):
        removed = np.concatenate([removed_units(mask, layer) for layer in hidden])
        count = min(round(ratio * len(flat)), len(order))
        assert set(removed.nonzero()[0]) == set(order[:count])


# Counts


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_exact_counts_and_at_least_one_unit_of_each_layer(scope):
    params = jax.tree.map(jnp.zeros_like, made_up_params(SMALL))  # all scores are equal
    units = SMALL.permuted_units()
    for mask, ratio in zip(masks(SMALL, params, scope=scope), RATIOS, strict=True):
        counts = [int(removed_units(mask, layer).sum()) for layer in SMALL.layers[:-1]]
        if scope == "layer":
            assert counts == [min(round(ratio * n), n - 1) for n in units]
        else:
            assert sum(counts) == min(round(ratio * sum(units)), sum(units) - len(units))
        assert all(count < n for count, n in zip(counts, units, strict=True))
        assert not removed_units(mask, "fc2").any()


@pytest.mark.parametrize("ratio", [0.05, 0.35, 0.7, 0.9])
def test_counts_are_those_of_python(ratio):
    """Not rounded in float32."""
    table = pl.DataFrame({"seed": [1], "ratio": [ratio]})
    removed = StructuredPruning().member_values(table, made_up_params(SMALL))["removed"][0]
    assert removed.tolist() == [round(ratio * n) for n in range(len(removed))]
    assert len(removed) > sum(SMALL.permuted_units())


def test_a_residual_stream_is_one_group():
    """Both convolutions lose the same channels, also as inputs, and their normalizations too."""
    arch = ResidualCNN("residual_cnn", 28, 1, 10)
    params = init_params(arch, "normal", 1)
    both = [np.array(params[name]["kernel"]).reshape(-1, 6) for name in ("stem", "block")]
    weights = np.concatenate(both)
    order = np.argsort(np.abs(weights).mean(axis=0), kind="stable")
    for mask, ratio in zip(masks(arch, params), RATIOS, strict=True):
        removed = np.isin(np.arange(6), order[: min(round(ratio * 6), 5)])
        for path in ("stem/bias", "block/bias", "stem_norm/scale", "block_norm/bias"):
            np.testing.assert_array_equal(mask[path], ~removed)
        assert not mask["block/kernel"][:, :, removed].any()
        assert not mask["block/kernel"][..., removed].any()
        assert mask["block/kernel"][:, :, ~removed][..., ~removed].all()
        np.testing.assert_array_equal(mask["head/kernel"], np.repeat(~removed[:, None], 10, 1))
        assert mask["head/bias"].all()


# Twins


@zoo_fixtures.once
def twin(factory) -> Zoo:
    options = StructuredPruning(ratios=(0.5, 0.9))
    return sparsify(zoo_fixtures.dense(factory), options, epochs=2, members=2, quiet=True)


def test_removed_units_stay_zero_in_training(tmp_path_factory):
    zoo = twin(tmp_path_factory)
    for epoch in zoo.epochs:
        state = zoo.state(epoch)
        for layer, leaves in flat_layers(state["params"]).items():
            assert (leaves["kernel"][~state["mask"][layer]] == 0).all()
            assert (leaves["bias"][~state["unit_mask"][f"{layer}/bias"]] == 0).all()
            assert (leaves["kernel"][state["mask"][layer]] != 0).mean() > 0.95
    moved = zoo.params(2)["fc1"]["kernel"] != zoo.params(0)["fc1"]["kernel"]
    assert (moved == zoo.state(2)["mask"]["fc1"]).mean() > 0.95
    # The ratio is that of units; more weights are zero.
    measured = zoo.metrics.filter(epoch=2)["sparsity"].to_numpy()
    assert (measured > zoo.members_table["ratio"].to_numpy() + 0.04).all()


def test_smaller_networks_have_the_logits_of_the_twin(tmp_path_factory):
    zoo = twin(tmp_path_factory)
    images = np.random.default_rng(0).standard_normal((20, 28, 28, 1), np.float32)
    expected = zoo.apply(images)
    whole = sum(math.prod(x.shape[1:]) for x in jax.tree.leaves(zoo.params()))
    for row, member in enumerate(zoo.members_table.iter_rows(named=True)):
        small = zoo.shrunk(member["id"])
        widths = [min(round(member["ratio"] * n), n - 1) for n in SMALL.permuted_units()]
        assert small.architecture.permuted_units() == tuple(
            n - width for n, width in zip(SMALL.permuted_units(), widths, strict=True)
        )
        assert small.size < whole / 3
        module = small.architecture.module(member["activation"], "uniform")
        logits = jax.jit(module.apply)({"params": small.params}, images)
        np.testing.assert_allclose(logits, expected[row], atol=1e-5)


def test_functional_member_is_pruned_and_shrunk():
    @jax.jit
    def pruned_member(seed):
        member = functional.init("small", seed=seed, init="kaiming_uniform")
        return functional.sparsify(member, StructuredPruning(ratios=(0.5,), norm="random"))

    pruned = pruned_member(3)
    small = functional.shrink(pruned)
    images = np.random.default_rng(2).normal(size=(4, 28, 28, 1)).astype(np.float32)
    assert small.architecture.permuted_units() == (4, 3, 2, 10)
    np.testing.assert_allclose(
        functional.logits(small, images), functional.logits(pruned, images), atol=1e-5
    )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scope": "er"}, "no scope of structured pruning named 'er'; there are: global, layer"),
        ({"norm": "l3"}, "no norm of structured pruning named 'l3'; there are: l1, l2, random"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ZoojaxError, match=message):
        StructuredPruning(**options)


def test_architectures_without_groups_are_refused(monkeypatch):
    groups = ResidualCNN("residual_cnn", 28, 1, 10).permutations[0]
    readers = (tuple(axis for axis in groups if axis.axis == -2),)
    for given, message in (((), "no permutation groups"), (readers, "have no norm")):
        monkeypatch.setattr(ResidualCNN, "permutations", given)
        member = functional.init(ResidualCNN("residual_cnn", 28, 1, 10), seed=1)
        with pytest.raises(ZoojaxError, match=message):
            functional.sparsify(member, StructuredPruning(ratios=(0.5,)))


def test_refused_before_anything_is_written(tmp_path_factory, tmp_path, monkeypatch):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    monkeypatch.setattr(Chain, "permutations", ())
    done = zoo_fixtures.cli(
        *(tmp_path_factory, "sparsify", "structured", zoo.path, "--out", tmp_path / "twin")
    )
    zoo_fixtures.assert_refused(done, "architecture small has no permutation groups")
    assert not (tmp_path / "twin").exists()


def test_command_line(tmp_path_factory, tmp_path):
    """A twin without fine-tuning, and its smaller networks for PyTorch."""
    words = "sparsify", "structured", zoo_fixtures.dense(tmp_path_factory).path, "--norm", "l2"
    words += ("--ratios", 0.5, "--epochs", 0, "--quiet", "--out", tmp_path / "twin")
    done = zoo_fixtures.cli(tmp_path_factory, *words)
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((tmp_path / "twin/zoo.json").read_text())
    assert content["sparsifier"] == {"name": "structured", "scope": "layer", "norm": "l2"}
    words = "convert", "to-torch", tmp_path / "twin", "--format", "shrunk", "--quiet"
    done = zoo_fixtures.cli(tmp_path_factory, *words, "--out", tmp_path / "small")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 states in" in done.stdout
    for file in (tmp_path / "small").glob("*/checkpoint_000000/checkpoints"):
        state = torch.load(file, weights_only=True)
        assert state["module_list.3.weight"].shape == (3, 4, 5, 5)


def test_options_are_described():
    assert StructuredPruning().describe() == "smallest L1 norms, layer"
    random = StructuredPruning(scope="global", norm="random")
    assert random.describe() == "random units, global"
    assert dataclasses.replace(random, ratios=()) == random.shared()


def test_smaller_networks_in_torch(tmp_path_factory, tmp_path):
    """As modules, and as files of trial folders."""
    zoo = twin(tmp_path_factory)
    images = np.random.default_rng(0).standard_normal((20, 28, 28, 1), np.float32)
    expected = zoo.apply(images)
    assert to_torch(zoo, tmp_path / "out", format="shrunk", epochs=[2], quiet=True).written == 4
    for row, (member, name) in enumerate(zip(zoo.members["id"], trial_names(zoo), strict=True)):
        module = shrunk_module(zoo, member)
        with torch.no_grad():
            logits = module.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        np.testing.assert_allclose(logits.numpy(), expected[row], atol=1e-5)
        file = tmp_path / "out" / name / "checkpoint_000002" / "checkpoints"
        state = torch.load(file, weights_only=True)
        count = sum(tensor.numel() for tensor in state.values())
        assert count == zoo.shrunk(member).size < 2464 / 3
        fresh = TorchChain(known_network(zoo.shrunk(member).architecture), "tanh")
        fresh.load_state_dict(state, strict=True)
        ours = module.state_dict()
        assert all(torch.equal(ours[key], tensor) for key, tensor in state.items())
