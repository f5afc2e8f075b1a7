"""Scores compared with independent computations in torch, on members of the reference zoo."""

import functools

import jax
import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils import prune

from tests.support.torch_models import (
    TorchCNN,
    checkpoint,
    load,
    made_up_params,
    params_to_flax,
    trial,
    usps,
)
from zoojax import (
    OBS,
    SNIP,
    FisherPruning,
    GraSP,
    RandomPruning,
    SynFlow,
    TaylorPruning,
    Wanda,
    keys,
)
from zoojax.architectures.base import init_params
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import kernels
from zoojax.architectures.registry import architecture
from zoojax.converters.layouts import networks as layout
from zoojax.runtime import population
from zoojax.sparsifiers.allocation import num_pruned
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.context import Context, init_member

SMALL = small_cnn(1, 10)
SMALL_NETWORK = layout.known_network(SMALL)
# Two batches of 32 and a smaller one.
SAMPLES = 80
RATIOS = (0.5, 0.9)


@functools.cache
def program(sparsifier: Sparsifier):
    return jax.jit(functools.partial(init_member, sparsifier, SMALL, "tanh"))


def initial(sparsifier, params, ratio, train=None, seed=1):
    """(trainable, fixed) of one member, whose sparsifier sees all images."""
    table = pl.DataFrame({"id": [0], "seed": [seed], "ratio": [ratio]})
    values = population.take(sparsifier.member_values(table, params), 0)
    return jax.device_get(program(sparsifier)(params, values, {}, np.uint32(seed), None, train))


def torch_member(params) -> TorchCNN:
    """A member in double precision."""
    module = TorchCNN("small", 1, "tanh")
    load(module, params, SMALL)
    return module.double()


def by_layer(tensors) -> dict[str, np.ndarray]:
    """One array per layer, in the axis order of Flax."""
    return {
        path: layout.kernel_to_flax(path, tensor.detach().numpy(), SMALL_NETWORK)
        for path, tensor in zip(SMALL.layers, tensors, strict=True)
    }


def weights(module):
    return [layer.weight for layer in module.layers()]


def gated_loss(module, gates, x, labels, temperature=1.0):
    """Cross entropy of a network whose weights are multiplied by gates."""
    names = [name for name, _ in module.named_parameters() if name.endswith("weight")]
    gated = {n: w * c for n, w, c in zip(names, weights(module), gates, strict=True)}
    return F.cross_entropy(torch.func.functional_call(module, gated, (x,)) / temperature, labels)


def snip(module, x, labels):
    """The sensitivities of gates that are 1."""
    gates = [torch.ones_like(w, requires_grad=True) for w in weights(module)]
    gradients = torch.autograd.grad(gated_loss(module, gates, x, labels), gates)
    total = sum(g.abs().sum() for g in gradients)
    return [g.abs() / total for g in gradients]


def taylor(module, x, labels):
    gradients = torch.autograd.grad(F.cross_entropy(module(x), labels), weights(module))
    return [(w * g).abs() for w, g in zip(weights(module), gradients, strict=True)]


def fisher(module, x, labels):
    squares = [torch.zeros_like(w) for w in weights(module)]
    for i in range(len(x)):
        loss = F.cross_entropy(module(x[i : i + 1]), labels[i : i + 1])
        for total, g in zip(squares, torch.autograd.grad(loss, weights(module)), strict=True):
            total += g**2 / len(x)
    return [w**2 * s / 2 for w, s in zip(weights(module), squares, strict=True)]


def grasp(module, x, labels):
    """w H g from the gradient of the squared gradient norm; the largest -w H g are pruned."""
    loss = F.cross_entropy(module(x) / 200.0, labels)
    gradients = torch.autograd.grad(loss, weights(module), create_graph=True)
    flow = torch.stack([(g * g.detach()).sum() for g in gradients]).sum()
    hessian_gradient = torch.autograd.grad(flow, weights(module))
    return [w * h for w, h in zip(weights(module), hessian_gradient, strict=True)]


def layer_inputs(module, x) -> list[torch.Tensor]:
    """Inputs of each layer, [rows, fan_in], in the axis order of torch."""
    inputs = []
    for m in module.module_list:
        if isinstance(m, torch.nn.Conv2d):
            inputs.append(F.unfold(x, m.kernel_size).transpose(1, 2).flatten(0, 1))
        elif isinstance(m, torch.nn.Linear):
            inputs.append(x)
        x = m(x)
    return inputs


def wanda(module, x, labels):
    norms = [rows.norm(dim=0) for rows in layer_inputs(module, x)]
    return [
        w.abs() * norm.reshape(1, *w.shape[1:])
        for w, norm in zip(weights(module), norms, strict=True)
    ]


def damped_hessians(module, x) -> list[torch.Tensor]:
    hessians = [rows.T @ rows / len(x) for rows in layer_inputs(module, x)]
    return [h + 0.01 * h.diag().mean() * torch.eye(len(h)) for h in hessians]


def obs(module, x, labels):
    inverses = [torch.linalg.inv(h).diag() for h in damped_hessians(module, x)]
    return [
        w**2 / (2 * inverse.reshape(1, *w.shape[1:]))
        for w, inverse in zip(weights(module), inverses, strict=True)
    ]


def lowest(scores: np.ndarray, count: int) -> np.ndarray:
    """Mask without the `count` lowest scores."""
    mask = np.ones(scores.shape, bool)
    mask[np.argsort(scores, kind="stable")[:count]] = False
    return mask


def assert_same_mask(mask, scores, count, tolerance=1e-5) -> int:
    """Compares one group of weights; returns how many differ, all of them near the threshold."""
    expected = lowest(scores, count)
    assert (~mask).sum() == count
    threshold = np.sort(scores)[max(count - 1, 0)]
    differs = mask != expected
    assert (abs(scores[differs] - threshold) <= tolerance * abs(threshold)).all()
    return int(differs.sum())


@pytest.fixture(scope="module")
def train(data_dir):
    part = usps(data_dir).train
    return part.images[:SAMPLES], part.labels[:SAMPLES]


@pytest.fixture(scope="module")
def torch_train(train):
    return torch.tensor(train[0].transpose(0, 3, 1, 2)).double(), torch.tensor(train[1]).long()


@pytest.fixture(scope="module")
def members(reference):
    """Trained members of the reference zoo, and untrained ones of Kaiming scale.

    Untrained members of the reference zoo are uniform on [0, 1): tanh is saturated, and their
    gradients consist of rounding errors.
    """
    states = [checkpoint(trial(reference, "dense", seed), 50) for seed in (1, 2, 3, 4)]
    trained = [params_to_flax(state, SMALL) for state in states]
    return [*trained, *(made_up_params(SMALL, seed) for seed in (1, 2))]


def flat(layers) -> np.ndarray:
    return np.concatenate([np.asarray(layers[path]).ravel() for path in sorted(layers)])


def count_differences(sparsifier, params, scores, train) -> int:
    """Compares the masks of a member at all ratios with torch's scores, by the scope."""
    shapes, count = {path: w.shape for path, w in kernels(params).items()}, 0
    for ratio in RATIOS:
        mask = initial(sparsifier, params, ratio, train)[1]["mask"]
        pruned = num_pruned(ratio, shapes, sparsifier.scope)
        if sparsifier.scope == "global":
            count += assert_same_mask(flat(mask), flat(scores), round(ratio * flat(mask).size))
        for path, number in pruned.items() if sparsifier.scope != "global" else ():
            columns = mask[path].reshape(-1, shapes[path][-1] if number.ndim else 1)
            ranked = scores[path].reshape(columns.shape)
            for unit, each in enumerate(np.atleast_1d(number)):
                count += assert_same_mask(columns[:, unit], ranked[:, unit], int(each))
    return count


SCORES = {
    SNIP(samples=SAMPLES): snip,
    TaylorPruning(samples=SAMPLES): taylor,
    FisherPruning(samples=SAMPLES): fisher,
    GraSP(samples=SAMPLES): grasp,
    Wanda(samples=SAMPLES): wanda,
    OBS(samples=SAMPLES): obs,
}


@pytest.mark.parametrize("sparsifier", SCORES, ids=lambda each: f"{each.name}-{each.scope}")
def test_masks_match_torch(sparsifier, members, train, torch_train):
    differences = 0
    for params in members:
        scores = by_layer(SCORES[sparsifier](torch_member(params), *torch_train))
        differences += count_differences(sparsifier, params, scores, train)
    # Scores within 1e-5 of the threshold, of 29,000 weights.
    assert differences <= 2


def test_kept_weights_and_biases_are_those_of_the_parent(members, train):
    trainable, fixed = initial(SNIP(samples=SAMPLES), members[0], 0.5, train)
    for path, kept in fixed["mask"].items():
        expected = np.where(kept, members[0][path]["kernel"], 0)
        np.testing.assert_array_equal(trainable["params"][path]["kernel"], expected)
        np.testing.assert_array_equal(trainable["params"][path]["bias"], members[0][path]["bias"])


def test_obs_compensates_as_least_squares(members, train, torch_train):
    """The outputs of each layer are as close to the dense ones as damped least squares allow."""
    sparsifier = OBS(samples=SAMPLES)
    for params in (members[0], members[-1]):
        module = torch_member(params)
        trainable, fixed = initial(sparsifier, params, 0.5, train)
        unpruned = initial(sparsifier, params, 0.0, train)[0]
        jax.tree.map(np.testing.assert_array_equal, unpruned["params"], params)
        hessians = dict(zip(SMALL.layers, damped_hessians(module, torch_train[0]), strict=True))
        for path, layer in zip(SMALL.layers, module.layers(), strict=True):
            compensated = trainable["params"][path]["kernel"]
            hessian = hessians[path].detach().numpy()
            for dense, kept, sparse in zip(
                layer.weight.detach().numpy(),
                layout.kernel_to_torch(path, fixed["mask"][path], SMALL_NETWORK),
                layout.kernel_to_torch(path, compensated, SMALL_NETWORK),
                strict=True,
            ):
                w, keep, x = dense.ravel(), kept.ravel(), sparse.ravel()
                best = np.linalg.solve(hessian[keep][:, keep], hessian[keep] @ w)
                scale = abs(best).max(initial=1e-9)
                np.testing.assert_allclose(x[keep], best, rtol=0, atol=1e-3 * scale)
                assert (x[~keep] == 0).all()


def flow_scores(module, masks):
    """|w| dR/d|w| of the network of absolute weights, without biases and activations."""
    flows = [w.detach().abs() * m for w, m in zip(weights(module), masks, strict=True)]
    for flow in flows:
        flow.requires_grad_()
    x, remaining = torch.ones(1, 1, 28, 28, dtype=torch.float64), iter(flows)
    for m in module.module_list:
        if isinstance(m, torch.nn.Conv2d):
            x = F.conv2d(x, next(remaining))
        elif isinstance(m, torch.nn.Linear):
            x = F.linear(x, next(remaining))
        elif not isinstance(m, torch.nn.Tanh):
            x = m(x)
    gradients = torch.autograd.grad(x.sum(), flows)
    return [f.detach() * g for f, g in zip(flows, gradients, strict=True)]


def torch_synflow(module, ratio, steps):
    """Masks of SynFlow, and the distances from the threshold of all decisions."""
    masks = [torch.ones_like(w) for w in weights(module)]
    for step in range(1, steps + 1):
        scores = torch.cat([s.ravel() for s in flow_scores(module, masks)])
        kept = torch.cat([m.ravel() for m in masks]) > 0
        total = len(scores)
        count = round((1 - (1 - ratio) ** (step / steps)) * total)
        order = torch.argsort(torch.where(kept, scores, -1.0), stable=True)
        flat_mask = torch.ones(total, dtype=torch.float64)
        flat_mask[order[:count]] = 0
        pieces = flat_mask.split([m.numel() for m in masks])
        masks = [piece.reshape(m.shape) for piece, m in zip(pieces, masks, strict=True)]
    return by_layer(masks)


@pytest.mark.parametrize("ratio", [0.9, 0.99])
def test_synflow_matches_torch(members, reference, ratio):
    """Step by step, without any difference; an early one would change all later steps."""
    untrained = params_to_flax(checkpoint(trial(reference, "dense", 1), 0), SMALL)
    sparsifier, differences = SynFlow(), 0
    for params in (untrained, members[0], members[-1]):
        mask = initial(sparsifier, params, ratio)[1]["mask"]
        expected = torch_synflow(torch_member(params), ratio, sparsifier.iterations)
        differences += (flat(mask) != (flat(expected) > 0)).sum()
        assert (~flat(mask)).sum() == round(ratio * flat(mask).size)
        assert all(kept.any() for kept in mask.values())
    assert differences == 0


def test_synflow_schedule_is_exponential_and_ends_at_the_ratio():
    members = pl.DataFrame({"seed": [1, 2], "ratio": [0.5, 0.99]})
    shapes = {path: shape["kernel"] for path, shape in SMALL.parameter_shapes().items()}
    params = {p: {"kernel": np.zeros(shape, np.float32)} for p, shape in shapes.items()}
    schedule = SynFlow().member_values(members, params)["schedule"]["all"]
    assert schedule.shape == (2, 100)
    for ratio, counts in zip((0.5, 0.99), schedule, strict=True):
        density = 1 - counts / 2416
        expected = (1 - ratio) ** (np.arange(1, 101) / 100)
        np.testing.assert_allclose(density, expected, atol=0.5 / 2416 + 1e-9)
        assert counts[-1] == round(ratio * 2416)


@pytest.mark.slow
def test_synflow_does_not_collapse_lenet5():
    """99.9% of the weights leave one in every layer at least."""
    arch = architecture("lenet5", 1)
    params = init_params(arch, "kaiming_uniform", 1)
    run = jax.jit(functools.partial(init_member, SynFlow(), arch, "relu"))
    values = SynFlow().member_values(pl.DataFrame({"seed": [1], "ratio": [0.999]}), params)
    fixed = run(params, population.take(values, 0), {}, np.uint32(1))[1]
    kept = {path: int(mask.sum()) for path, mask in fixed["mask"].items()}
    total = sum(mask.size for mask in fixed["mask"].values())
    assert sum(kept.values()) == total - round(0.999 * total)
    assert min(kept.values()) >= 1


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_random_masks_are_those_of_torch(members, scope, monkeypatch):
    """torch.nn.utils.prune prunes the largest of its random numbers; here they are given."""
    params = members[0]
    context = Context(SMALL, "tanh", {}, jax.random.fold_in(keys.stream_key(7, "sparsifier"), 1))
    scores = RandomPruning().scores(params, context)
    assert sorted(flat(scores)) == list(range(flat(scores).size))
    drawn = {
        path: torch.tensor(layout.kernel_to_torch(path, -np.asarray(x), SMALL_NETWORK).copy())
        for path, x in scores.items()
    }
    order = [drawn[path] for path in SMALL.layers]
    for ratio in RATIOS:
        module = torch_member(params)
        given = iter([torch.cat([x.ravel() for x in order])] if scope == "global" else order)
        monkeypatch.setattr(torch, "rand_like", lambda *_, given=given: next(given).double())
        if scope == "global":
            prune.global_unstructured(module.prunable(), prune.RandomUnstructured, amount=ratio)
        else:
            for layer, name in module.prunable():
                prune.random_unstructured(layer, name, ratio)
        expected = by_layer([layer.weight_mask for layer in module.layers()])
        mask = initial(RandomPruning(scope=scope), params, ratio, seed=7)[1]["mask"]
        for path, kept in mask.items():
            np.testing.assert_array_equal(kept, expected[path] == 1)
