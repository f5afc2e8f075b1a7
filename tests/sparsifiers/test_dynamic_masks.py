"""Static masks, SET and RigL: draws, moves compared with torch, and exact counts at every step."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from tests.support.torch_models import made_up_batch, made_up_params
from zoojax import SET, RigL, StaticSparse, keys
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import kernels
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.allocation import SCOPES, num_pruned
from zoojax.sparsifiers.dynamic import drop, grow
from zoojax.sparsifiers.rigl import replaced_share
from zoojax.sparsifiers.set import evolve
from zoojax.sparsifiers.static_sparse import random_scores
from zoojax.training import engine, loop

SMALL, BATCH, EPOCHS, SEED = small_cnn(1, 10), 5, 12, 7
SHAPE = (9, 8)


def made_up_layer(seed):
    """Weights, a mask of half of them, and gradients."""
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < 0.5
    weights = np.where(mask, rng.normal(size=SHAPE), 0).astype(np.float32)
    return weights, mask, rng.normal(size=SHAPE).astype(np.float32)


def initial(sparsifier, ratio=0.8):
    params = made_up_params(SMALL)
    shapes = {layer: w.shape for layer, w in kernels(params).items()}
    counts = jax.tree.map(jnp.asarray, num_pruned(ratio, shapes, sparsifier.scope))
    values = {"seed": np.uint32(SEED), "num_pruned": counts}
    trainable, fixed = jax.jit(sparsifier.init)(params, values)
    return trainable, fixed, counts


@pytest.mark.parametrize("scope", SCOPES)
def test_static_masks_are_those_of_the_drawn_scores(scope):
    trainable, fixed, counts = initial(StaticSparse(scope=scope))
    scores = random_scores(kernels(trainable["params"]), keys.stream_key(SEED, "sparsifier"))
    masks = {layer: np.asarray(mask) for layer, mask in fixed["mask"].items()}
    flat = np.concatenate([np.asarray(s).ravel() for s in scores.values()])
    limit = np.sort(flat)[counts["all"]] if scope == "global" else None
    for layer, mask in masks.items():
        score = np.asarray(scores[layer])
        if scope == "global":
            np.testing.assert_array_equal(mask, score >= limit)
        elif scope == "unit":
            columns, kept = score.reshape(-1, mask.shape[-1]), mask.reshape(-1, mask.shape[-1])
            for unit, count in enumerate(np.asarray(counts[layer])):
                np.testing.assert_array_equal(
                    kept[:, unit], columns[:, unit].argsort().argsort() >= count
                )
        else:
            expected = score.ravel().argsort().argsort() >= int(counts[layer])
            np.testing.assert_array_equal(mask.ravel(), expected)
        weights = np.asarray(trainable["params"][layer]["kernel"])
        assert (weights[~mask] == 0).all()


def test_masks_of_one_seed_are_nested_and_those_of_others_differ():
    less, more = (initial(StaticSparse(scope="layer"), r)[1]["mask"] for r in (0.5, 0.9))
    for layer, mask in more.items():
        assert (np.asarray(less[layer]) | ~np.asarray(mask)).all()
    one, other = (
        random_scores({"fc": jnp.ones(SHAPE)}, keys.stream_key(seed, "sparsifier"))["fc"]
        for seed in (7, 8)
    )
    assert not np.array_equal(one, other)


def test_a_start_by_magnitude_keeps_the_largest_weights():
    _, fixed, counts = initial(StaticSparse(scope="layer", start="magnitude"))
    for layer, weights in kernels(made_up_params(SMALL)).items():
        order = np.abs(weights).ravel().argsort(kind="stable").argsort()
        expected = order >= int(counts[layer])
        np.testing.assert_array_equal(np.asarray(fixed["mask"][layer]).ravel(), expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_moves_match_torch(seed, share):
    weights, mask, gradients = made_up_layer(seed)
    moved = jax.jit(lambda w, m, g: grow(jnp.abs(g), drop(w, m, share), m.sum()))
    actual = moved(weights, mask, gradients)
    count, used = round(share * int(mask.sum())), torch.tensor(mask.ravel())
    magnitude = torch.tensor(np.abs(weights).ravel()).masked_fill(~used, math.inf)
    kept = used.clone()
    kept[magnitude.topk(count, largest=False).indices] = False
    score = torch.tensor(np.abs(gradients).ravel()).masked_fill(kept, -1.0)
    expected = kept.clone()
    expected[score.topk(count).indices] = True
    np.testing.assert_array_equal(np.asarray(actual).ravel(), expected.numpy())
    assert expected.sum() == mask.sum()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_set_matches_numpy_with_the_same_draws(share):
    weights, mask, _ = made_up_layer(5)
    scores = np.asarray(random_scores({"fc": jnp.asarray(weights)}, jax.random.key(3))["fc"])
    kept = mask.copy().ravel()
    flat = weights.ravel()
    for sign in (1, -1):
        candidates = np.flatnonzero(kept & ((flat < 0) == (sign < 0)))
        count = round(share * len(candidates))
        kept[candidates[np.abs(flat[candidates]).argsort()][:count]] = False
    free = np.flatnonzero(~kept)
    missing = int(mask.sum() - kept.sum())
    expected = kept.copy()
    expected[free[scores.ravel()[free].argsort()[::-1]][:missing]] = True
    actual = jax.jit(evolve, static_argnums=2)(weights, mask, share, scores)
    np.testing.assert_array_equal(np.asarray(actual).ravel(), expected)


def test_share_of_rigl_follows_the_formula():
    for step in range(0, 100, 7):
        expected = 0.3 / 2 * (1 + math.cos(step * math.pi / 100))
        assert float(replaced_share(step, 100, 0.3)) == pytest.approx(expected, rel=1e-5)
    assert float(replaced_share(100, 100, 0.3)) == 0


@functools.cache
def run(kind):
    """States after each of a few epochs of one step."""
    sparsifier = {
        "rigl": RigL(frequency=2, end=0.7, replaced=0.4),
        "set": SET(replaced=0.4),
    }[kind]
    trainable, fixed, _ = initial(sparsifier)
    hyper = loop.Hyperparams(*(jnp.float32(x) for x in (0, 1e-2, 1e-3, 0)))
    hyper = hyper._replace(seed=jnp.uint32(SEED))
    static = sparsifier, engine.loss(SMALL, "tanh", "xla"), "adam", BATCH, False
    images, labels, *_ = made_up_batch(SMALL, BATCH)

    @jax.jit
    def train(state, epoch):
        order = jnp.arange(BATCH)
        return loop.train_epoch(
            *(*static, state, hyper, images, labels, order, epoch), epochs=EPOCHS
        )[0]

    states = [loop.init_state(trainable, fixed, "adam")]
    for epoch in range(1, EPOCHS + 1):
        states.append(train(states[-1], jnp.int32(epoch)))
    return jax.device_get(states)


@pytest.mark.parametrize("kind", ["rigl", "set"])
def test_counts_are_kept_at_every_step(kind):
    states = run(kind)
    moves = 0
    for before, after in itertools.pairwise(states):
        changed = False
        for layer, mask in after.fixed["mask"].items():
            old = before.fixed["mask"][layer]
            assert mask.sum() == old.sum()
            weights = after.trainable["params"][layer]["kernel"]
            assert (weights[~mask] == 0).all()
            new = mask & ~old
            changed |= new.any()
            if kind == "rigl":
                assert (weights[new] == 0).all()
                for moment in (after.optimizer.mu, after.optimizer.nu):
                    assert (moment["params"][layer]["kernel"][new] == 0).all()
                    assert (moment["params"][layer]["kernel"][old & mask] != 0).any()
        moves += changed
    assert moves > 1


def test_new_weights_of_rigl_are_trained():
    states = run("rigl")
    before, after = states[0].fixed["mask"], states[-1].fixed["mask"]
    entered = {layer: after[layer] & ~before[layer] for layer in after}
    weights = kernels(states[-1].trainable["params"])
    assert sum((weights[layer][new] != 0).sum() for layer, new in entered.items()) > 10


@pytest.mark.parametrize(
    "create",
    [
        lambda: StaticSparse(start="best"),  # pyright: ignore[reportArgumentType]
        lambda: SET(replaced=1.5),
        lambda: RigL(frequency=0),
        lambda: RigL(end=-0.1),
        lambda: RigL(replaced=math.nan),
    ],
)
def test_invalid_options_are_refused(create):
    with pytest.raises(ZoojaxError):
        create()
