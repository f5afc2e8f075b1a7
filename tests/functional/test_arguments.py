"""Invalid arguments of the functional core: one line that names the argument."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zoojax.functional
from zoojax import MagnitudePruning, ZoojaxError

# Called with wrong types.
functional: Any = zoojax.functional
IMAGES, LABELS = np.zeros((3, 28, 28, 1), np.float32), np.arange(3)
MEMBER = functional.init("small", 1)
POPULATION = jax.tree.map(lambda x: jnp.stack([x, x]), MEMBER)
PARAMS = MEMBER.params
MASK = functional.magnitude_mask(PARAMS, 0.5)
loss = partial(functional.loss, PARAMS, MEMBER)


def epoch(images: Any = IMAGES, labels: Any = LABELS, learning_rate: Any = 1e-3, **options):
    return functional.train_epoch(MEMBER, images, labels, learning_rate, **options)


INVALID = {
    "architecture": (lambda: functional.init("tiny", 1), "no architecture named 'tiny'"),
    "no architecture": (lambda: functional.init(None, 1), "architecture is None; give a name"),
    "activation": (lambda: functional.init("small", 1, activation="elu"), "no activation named"),
    "initialization": (lambda: functional.init("small", 1, init="he"), "no initialization named"),
    "optimizer": (lambda: functional.init("small", 1, optimizer="lion"), "no optimizer named"),
    "name of a wrong type": (
        lambda: functional.init("small", 1, optimizer=["adam"]),
        "no optimizer named",
    ),
    "seed below 0": (lambda: functional.init("small", -1), "seed is -1; give an integer"),
    "seed too high": (lambda: functional.init("small", 2**32), "seed is 4294967296"),
    "float seed": (lambda: functional.init("small", 1.5), "seed is 1.5 (float64)"),
    "bool seed": (lambda: functional.init("small", True), "seed is True (bool)"),
    "several seeds": (lambda: functional.init("small", np.arange(3)), "seed has shape (3,)"),
    "parameters": (lambda: functional.init("small", 1, params={}), "'conv1' is missing"),
    "stacked parameters": (
        lambda: functional.init("small", 1, params=POPULATION.params),
        "conv1/kernel has shape (2, 5, 5, 1, 8); give (5, 5, 1, 8)",
    ),
    "integer images": (lambda: epoch(np.zeros((3, 28, 28, 1), int)), "images are int64"),
    "image shape": (lambda: epoch(np.zeros((3, 28, 28))), "images have shape (3, 28, 28); give"),
    "no images": (lambda: epoch(IMAGES[:0], LABELS[:0]), "there are no images"),
    "number of labels": (lambda: epoch(labels=LABELS[:2]), "labels int64 (2,); give int32 (3,)"),
    "float labels": (lambda: epoch(labels=LABELS * 1.0), "labels float64 (3,)"),
    "labels too high": (lambda: epoch(labels=LABELS + 8), "labels from 8 to 10; the classes"),
    "labels too low": (lambda: epoch(labels=LABELS - 1), "labels from -1 to 1"),
    "learning rate": (lambda: epoch(learning_rate=0), "learning rate 0 is not a positive number"),
    "text": (lambda: epoch(learning_rate="fast"), "learning_rate is fast"),
    "no learning rate": (lambda: epoch(learning_rate=None), "learning_rate is None"),
    "several rates": (lambda: epoch(learning_rate=np.ones(3)), "learning_rate has shape (3,)"),
    "weight decay": (lambda: epoch(weight_decay=-1.0), "weight decay -1 must be finite"),
    "dropout": (lambda: epoch(dropout=1.0), "dropout rate 1 is not in [0, 1)"),
    "batch size": (lambda: epoch(batch_size=0), "batch_size is 0; give an integer"),
    "float batch size": (lambda: epoch(batch_size=2.5), "batch_size is 2.5"),
    "traced batch size": (
        lambda: jax.jit(lambda size: epoch(batch_size=size))(10),
        "batch_size is",
    ),
    "population": (
        lambda: functional.evaluate(POPULATION, IMAGES, LABELS),
        "member is a population of shape (2,); map the function",
    ),
    "params as member": (
        lambda: functional.logits(PARAMS, IMAGES),
        "member is dict; give a Member",
    ),
    "traced image shape": (
        lambda: jax.jit(functional.logits)(MEMBER, np.zeros((3, 1, 28, 28), np.float32)),
        "images have shape (3, 1, 28, 28)",
    ),
    "traced float labels": (
        lambda: jax.jit(functional.evaluate)(MEMBER, IMAGES, LABELS * 1.0),
        "labels float32 (3,)",
    ),
    "traced rates": (
        lambda: jax.jit(functional.train_epoch)(MEMBER, IMAGES, LABELS, np.ones(2)),
        "learning_rate has shape (2,)",
    ),
    "indices": (lambda: loss(IMAGES, LABELS, np.array([0, 3])), "indices are from 0 to 3"),
    "no indices": (lambda: loss(IMAGES, LABELS, np.arange(0)), "indices are int64 (0,)"),
    "float indices": (lambda: loss(IMAGES, LABELS, np.ones(3)), "indices are float64 (3,)"),
    "list of indices": (lambda: loss(IMAGES, LABELS, [0, 1]), "indices are [0, 1]; give int32"),
    "lost layer": (
        lambda: functional.loss({"fc1": PARAMS["fc1"]}, MEMBER, IMAGES, LABELS),
        "params: 'conv1' is missing",
    ),
    "no sparsifier": (lambda: functional.sparsify(MEMBER, "mp"), "sparsifier is mp; give"),
    "two ratios": (
        lambda: functional.sparsify(MEMBER, MagnitudePruning(ratios=(0.5, 0.9))),
        "describes 2 members; give one each of ratios",
    ),
    "mask of nothing": (lambda: functional.prune(MEMBER, {}), "mask of conv1/kernel is missing"),
    "flat mask": (lambda: functional.prune(MEMBER, MASK["fc1"]), "mask is not a dict of layers"),
    "float mask": (lambda: functional.prune(MEMBER, PARAMS), "conv1/kernel is float32"),
    "mask shape": (
        lambda: functional.prune(MEMBER, jax.tree.map(lambda x: x[:1], MASK)),
        "mask of conv1/kernel is bool (1, 5, 1, 8); give bool (5, 5, 1, 8)",
    ),
    "ratio of 1": (lambda: functional.magnitude_mask(PARAMS, 1.0), "ratio 1 is not in [0, 1)"),
    "NaN": (lambda: functional.magnitude_mask(PARAMS, float("nan")), "ratio nan is not in"),
    "text as ratio": (lambda: functional.magnitude_mask(PARAMS, "half"), "ratio is half"),
    "scope": (
        lambda: functional.magnitude_mask(PARAMS, 0.5, "all"),
        "no pruning scope named 'all'",
    ),
    "no params": (lambda: functional.magnitude_mask({}, 0.5), "params has nothing to prune"),
    "vectors": (lambda: functional.magnitude_mask({"a": np.ones(3)}, 0.5), "nothing to prune"),
    "no array": (lambda: functional.magnitude_mask({"a": "b"}, 0.5), "params: a is b; give"),
    "integers": (
        lambda: functional.magnitude_mask({"a": np.ones((2, 2), int)}, 0.5),
        "params: a is int64; give floating point",
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_argument(name):
    call, reason = INVALID[name]
    with pytest.raises(ZoojaxError) as caught:
        call()
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_other_floating_types_are_converted():
    exact = np.round(np.random.default_rng(0).normal(size=IMAGES.shape) * 4) / 4
    expected = functional.logits(MEMBER, exact.astype(np.float32))
    for kind in (np.float64, np.float16, jnp.bfloat16):
        np.testing.assert_array_equal(functional.logits(MEMBER, exact.astype(kind)), expected)
    assert dataclasses.replace(MEMBER).with_params(PARAMS).params["fc1"]["bias"].dtype == np.float32
