"""Hessian trace and eigenvalues against dense Hessians, and against torch on reference members."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl
import pytest
import torch
from jax.flatten_util import ravel_pytree

from tests.support.torch_models import (
    TorchCNN,
    checkpoint,
    params_to_flax,
    trial,
)
from zoojax import MagnitudePruning, ZoojaxError, geometry, sparsify, train_zoo
from zoojax.architectures.base import logits
from zoojax.architectures.cnn import small_cnn
from zoojax.geometry.members import Members, map_members, members_at
from zoojax.runtime.population import stack, take
from zoojax.storage.zoo_images import load_images

# 37 images: more than one batch, and the last one is padded.
COUNT = 37


@functools.cache
def dense_zoo():
    """Two members with batch statistics."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (80, 8, 8), np.uint8)
    return train_zoo(
        architecture="chain-8-c2x3-b-a-m2-f-d4-a-d",
        activation="tanh",
        init="kaiming_uniform",
        data=(pixels, np.arange(80) % 3),
        members=2,
        epochs=1,
        name="curved",
        quiet=True,
    )


def arrays():
    train = load_images(dense_zoo(), None).train
    return jnp.asarray(train.images[:COUNT]), jnp.asarray(train.labels[:COUNT])


@functools.cache
def dense_hessians(zoo):
    """The Hessian of each member over the parameters that are not zero, by `jax.hessian`."""
    images, labels = arrays()
    members, found = members_at(zoo), []
    for row in range(len(members)):
        flat, unflatten = ravel_pytree(take(members.params, row))
        collections = take(members.collections, row)
        module = zoo.config.shape.module("tanh", "uniform")

        def loss(x, module=module, unflatten=unflatten, collections=collections):
            outputs = logits(module, {"params": unflatten(x), **collections}, images)
            return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

        hessian = np.asarray(jax.jit(jax.hessian(loss))(flat), np.float64)
        kept = np.flatnonzero(np.asarray(flat) != 0)
        found.append(hessian[np.ix_(kept, kept)])
    return found


@functools.cache
def pruned_zoo():
    return sparsify(dense_zoo(), MagnitudePruning((0.5,)), epochs=0, quiet=True)


@pytest.mark.parametrize("make", [dense_zoo, pruned_zoo])
def test_exact_trace_and_eigenvalues_equal_those_of_a_dense_hessian(make):
    zoo = make()
    hessians = dense_hessians(zoo)
    members = members_at(zoo)
    trace = geometry.hessian_trace(members, *arrays(), samples=None)
    expected = [np.trace(h) for h in hessians]
    np.testing.assert_allclose(trace["trace"], expected, rtol=1e-4)
    assert trace["trace_se"].to_list() == [0] * len(zoo)
    assert trace["parameters"].to_list() == [len(h) for h in hessians]
    top = geometry.top_eigenvalues(members, *arrays(), count=3, steps=30)
    found = top["eigenvalue"].to_numpy().reshape(len(zoo), 3)
    exact = np.array([np.linalg.eigvalsh(h)[::-1][:3] for h in hessians])
    np.testing.assert_allclose(found[:, 0], exact[:, 0], rtol=1e-3)
    np.testing.assert_allclose(found, exact, atol=1e-2 * exact.max())
    # The residual bounds the distance from an eigenvalue.
    errors = [
        np.abs(np.linalg.eigvalsh(h)[:, None] - f).min(axis=0)
        for h, f in zip(hessians, found, strict=True)
    ]
    residuals = top["residual"].to_numpy().reshape(len(zoo), 3)
    assert (np.array(errors) <= residuals + 1e-5 * exact.max()).all()


def test_hutchinson_is_within_three_standard_errors():
    members = members_at(dense_zoo())
    exact = [np.trace(h) for h in dense_hessians(dense_zoo())]
    estimate = geometry.hessian_trace(members, *arrays(), samples=200)
    errors = np.abs(estimate["trace"].to_numpy() - exact)
    assert (errors < 3 * estimate["trace_se"].to_numpy()).all()
    # The standard error itself: of v^T H v with random signs, from the off-diagonal entries.
    off = [h - np.diag(np.diag(h)) for h in dense_hessians(dense_zoo())]
    variance = np.array([2 * np.square(h).sum() for h in off])
    np.testing.assert_allclose(estimate["trace_se"], np.sqrt(variance / 200), rtol=0.3)


def test_result_of_a_member_does_not_depend_on_the_others():
    both = geometry.hessian_trace(members_at(dense_zoo()), *arrays(), samples=4)
    alone = geometry.hessian_trace(members_at(dense_zoo(), members=[1]), *arrays(), samples=4)
    assert alone.equals(both.filter(pl.col("member") == 1))


def test_members_of_all_activations_are_mapped_in_their_order():
    members = members_at(dense_zoo())
    table = pl.DataFrame({"id": range(9), "activation": ["tanh", "relu", "relu"] * 3})
    params = {"layer": {"kernel": np.arange(9, dtype=np.float32)[:, None]}}
    mixed = Members(members.architecture, 0, table, params, {}, is_dense=True)
    done = []

    def make(activation):
        factor = {"tanh": 1.0, "relu": 10.0}[activation]
        return lambda params, collections, own, shared: (
            factor * params["layer"]["kernel"][0] + own + shared
        )

    found = map_members(
        make,
        mixed,
        np.full(9, 100, np.float32),
        np.float32(1000),
        memory=1,
        show=lambda count, total: done.append((count, total)),
    )
    expected = [1100 + (i if i % 3 == 0 else 10 * i) for i in range(9)]
    assert found.tolist() == expected
    assert done[-1] == (9, 9)


def test_all_eigenvalues_of_a_small_network():
    """As many steps as parameters, and more: the iteration ends in invariant subspaces."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (20, 2, 2), np.uint8)
    zoo = train_zoo(
        architecture="chain-2-f-d",
        data=(pixels, np.arange(20) % 2),
        members=1,
        epochs=0,
        name="linear",
        quiet=True,
    )
    train = load_images(zoo, None).train
    table = geometry.top_eigenvalues(
        members_at(zoo), train.images, train.labels, count=10, steps=50
    )
    x = np.concatenate([train.images.reshape(-1, 4), np.ones((len(train.labels), 1))], axis=1)
    probability = 1 / (1 + np.exp(-np.diff(zoo.apply(train.images)[0], axis=1)[:, 0]))
    half = (x * (probability * (1 - probability))[:, None]).T @ x / len(x)
    # Both classes have the same block, with opposite signs between them.
    expected = np.sort(np.concatenate([2 * np.linalg.eigvalsh(half), np.zeros(5)]))[::-1]
    np.testing.assert_allclose(table["eigenvalue"], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_reference_members_as_in_torch(reference, seed):
    """Trace and top eigenvalue by torch's double backward, in double precision."""
    with np.load(reference / "logits_first64_test.npz") as file:
        pixels, labels = file["images"][:8], file["labels"][:8]
    state = checkpoint(trial(reference, "dense", seed, None), 50)
    arch = small_cnn(1, 10)
    table = pl.DataFrame({"id": [seed], "seed": [seed], "activation": ["tanh"]})
    params = stack([jax.tree.map(np.asarray, params_to_flax(state, arch))])
    members = Members(arch, 50, table, params, {}, is_dense=True)
    images = pixels.transpose(0, 2, 3, 1)
    trace = geometry.hessian_trace(members, images, labels, samples=None)["trace"][0]
    top = geometry.top_eigenvalues(members, images, labels, count=1, steps=30)["eigenvalue"][0]

    network = TorchCNN("small", 1, "tanh").double()
    network.load_state_dict(
        {name: torch.from_numpy(value).double() for name, value in state.items()}
    )
    weights = list(network.parameters())
    outputs = network(torch.from_numpy(pixels).double())
    loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels).long())
    slopes = torch.autograd.grad(loss, weights, create_graph=True)
    flat = torch.cat([x.reshape(-1) for x in slopes])
    hessian = []
    for directions in torch.eye(len(flat), dtype=torch.float64).split(154):
        rows = torch.autograd.grad(
            flat, weights, directions, is_grads_batched=True, retain_graph=True
        )
        hessian.append(torch.cat([x.reshape(len(directions), -1) for x in rows], dim=1))
    hessian = torch.cat(hessian).numpy()
    assert trace == pytest.approx(np.trace(hessian), rel=1e-4)
    assert top == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-2)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"samples": 1}, "samples is 1; give at least 2"),
        ({"samples": 2.5}, "samples"),
        ({"samples": "many"}, "samples"),
    ],
)
def test_wrong_samples(options, named):
    with pytest.raises(ZoojaxError, match=named):
        geometry.hessian_trace(members_at(dense_zoo()), *arrays(), **options)


def test_wrong_arguments():
    members, (images, labels) = members_at(dense_zoo()), arrays()
    with pytest.raises(ZoojaxError, match="steps is 2; give at least 3"):
        geometry.top_eigenvalues(members, images, labels, count=3, steps=2)
    with pytest.raises(ZoojaxError, match="has 115 parameters"):
        geometry.top_eigenvalues(members, images, labels, count=1000, steps=2000)
    with pytest.raises(ZoojaxError, match="images have shape"):
        geometry.hessian_trace(members, images[:, :4], labels)
    with pytest.raises(ZoojaxError, match="no member 7"):
        members_at(dense_zoo(), members=[7])
