"""The cubic schedule compared with the paper's formula, and the masks with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.updates import at_step
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.gradual_magnitude import GradualMagnitude, cubic_schedule

STEPS, EPOCHS = 6, 4


def test_schedule_follows_the_formula():
    final, initial, n, dt, t0 = 0.8, 0.0, 7, 10, 20
    schedule = cubic_schedule(0.2, 0.9, dt, steps=100)
    assert (schedule.first, schedule.interval, len(schedule.shares) - 1) == (t0, dt, n)
    for i, share in enumerate(schedule.shares):
        t = t0 + i * dt
        expected = final + (initial - final) * (1 - (t - t0) / (n * dt)) ** 3
        assert final * share == pytest.approx(expected, abs=1e-6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.floats(0, 1), st.floats(0, 1), st.integers(1, 300), st.integers(min_value=1, max_value=2000)
)
def test_every_schedule_reaches_the_final_sparsity_in_time(one, other, frequency, steps):
    begin, end = sorted((one, other))
    first, interval, shares = cubic_schedule(begin, end, frequency, steps)
    assert shares[0] == 0
    assert shares[-1] == 1
    assert (np.diff(shares) >= 0).all()
    assert 0 < first + interval * (len(shares) - 1) <= max(round(end * steps), 1)


@pytest.mark.parametrize("scope", ["global", "erk", "unit"])
def test_masks_are_those_of_the_smallest_weights(scope):
    sparsifier = GradualMagnitude(scope=scope, begin=0.1, end=0.8, frequency=3)
    rng = np.random.default_rng(0)
    params = {
        "a": {"kernel": jnp.asarray(rng.normal(size=(5, 6)), jnp.float32), "bias": jnp.ones(6)},
        "b": {"kernel": jnp.asarray(rng.normal(size=(6, 4)), jnp.float32), "bias": jnp.ones(4)},
    }
    counts = {n: c[0] for n, c in sparsifier._counts([0.7], params).items()}
    trainable, fixed = sparsifier.init(params, {"num_pruned": counts})
    update = jax.jit(lambda t, f, s: sparsifier.update(t, f, at_step(s, STEPS, EPOCHS)))
    schedule, pruned = cubic_schedule(0.1, 0.8, 3, STEPS * EPOCHS), np.zeros(54, bool)
    for step in range(STEPS * EPOCHS):
        # As after a step of an optimizer, which moves pruned weights as well.
        moved = jax.tree.map(
            lambda x: x + jnp.asarray(rng.normal(size=x.shape), jnp.float32), trainable
        )
        before = fixed["mask"]
        _, fixed = update(moved, fixed, step)
        trainable = sparsifier.project(moved, fixed)
        position, rest = divmod(step + 1 - schedule.first, schedule.interval)
        if rest == 0 and 0 <= position < len(schedule.shares):
            for name, mask in fixed["mask"].items():
                weights = np.abs(np.where(before[name], moved["params"][name]["kernel"], 0))
                kept, left = weights[np.asarray(mask)], weights[~np.asarray(mask)]
                if scope == "erk" and len(left):
                    assert kept.min() >= left.max()
            share = schedule.shares[position]
            expected = sum(np.round(c * share).sum() for c in counts.values())
            assert sum((~m).sum() for m in fixed["mask"].values()) == expected
        else:
            jax.tree.map(np.testing.assert_array_equal, fixed["mask"], before)
        now = np.concatenate([~np.asarray(m).ravel() for m in fixed["mask"].values()])
        assert (now | ~pruned).all()  # Pruned weights stay pruned.
        pruned = now
    assert pruned.sum() == sum(np.sum(c) for c in counts.values())


@pytest.mark.parametrize(
    "options", [{"begin": 0.5, "end": 0.5}, {"end": 1.5}, {"frequency": 0}, {"scope": "all"}]
)
def test_invalid_options_are_refused(options):
    with pytest.raises(ZoojaxError):
        GradualMagnitude(**options)
