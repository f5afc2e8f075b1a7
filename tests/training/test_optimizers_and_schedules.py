"""Every optimizer with every schedule compared with torch, step by step."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from zoojax import schedules
from zoojax.optimizers import OPTIMIZERS
from zoojax.schedules import SCHEDULES
from zoojax.sparsifiers.dense import Dense
from zoojax.training import loop

EPOCHS, STEPS, BATCH = 4, 5, 3
TOTAL, RATE, DECAY = EPOCHS * STEPS, 3e-3, 1e-2
MOMENTUM, WARMUP, FACTOR, INTERVAL = 0.5, 0.25, 0.3, 2
WARMUPS = (0.0, WARMUP)
TORCH = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "nesterov": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}
rng = np.random.default_rng(0)
INPUTS = rng.normal(size=(STEPS * BATCH, 4)).astype(np.float32)
TARGETS = rng.integers(0, 3, STEPS * BATCH).astype(np.int32)
FIRST = {
    "hidden": rng.normal(size=(4, 6)).astype(np.float32),
    "output": rng.normal(size=(6, 3)).astype(np.float32),
}


def member_loss(params, variances, collections, batch, noise, dropout_rate):
    """Squared error of a perceptron, in the form that the training loop takes."""
    batch = batch.gather()
    outputs = jnp.tanh(batch.images @ params["hidden"]) @ params["output"]
    errors = (outputs - jax.nn.one_hot(batch.labels, 3)) ** 2
    return errors.mean(), (jnp.float32(0), collections)


def torch_rates(schedule: str, warmup: float) -> list[float]:
    """Learning rates of all steps by torch.optim.lr_scheduler: a warm-up, then the schedule."""
    scheduler = torch.optim.lr_scheduler
    first = round(warmup * TOTAL)
    kinds = {
        "constant": lambda o, n: scheduler.ConstantLR(o, 1.0),
        "cosine": lambda o, n: scheduler.CosineAnnealingLR(o, n),
        "one_cycle": lambda o, n: scheduler.OneCycleLR(o, RATE, n, cycle_momentum=False),
        "step": lambda o, n: scheduler.StepLR(o, INTERVAL * STEPS, FACTOR),
    }
    rates = []
    for count, make in (
        (first, lambda o, n: scheduler.LinearLR(o, 1 / (n + 1), total_iters=n)),
        (TOTAL - first, kinds[schedule]),
    ):
        if count:
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], RATE)
            steps = make(optimizer, count)
            for _ in range(count):
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                steps.step()
    return rates


def torch_params(name: str, rates: list[float]) -> dict[str, np.ndarray]:
    """Parameters after all steps in torch."""
    params = {key: torch.tensor(value, requires_grad=True) for key, value in FIRST.items()}
    options = {"weight_decay": DECAY}
    if name in ("sgd", "nesterov"):
        options |= {"momentum": MOMENTUM, "nesterov": name == "nesterov"}
    optimizer = TORCH[name](params.values(), lr=RATE, **options)
    for step, rate in enumerate(rates):
        part = slice(step % STEPS * BATCH, (step % STEPS + 1) * BATCH)
        outputs = torch.tanh(torch.tensor(INPUTS[part]) @ params["hidden"]) @ params["output"]
        targets = torch.nn.functional.one_hot(torch.tensor(TARGETS[part]).long(), 3)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        ((outputs - targets) ** 2).mean().backward()
        optimizer.step()
    return {key: value.detach().numpy() for key, value in params.items()}


def hyperparams(warmup: float) -> loop.Hyperparams:
    varied = {
        "momentum": jnp.float32(MOMENTUM),
        "step_factor": jnp.float32(FACTOR),
        "step_interval": jnp.int32(INTERVAL),
    }
    if warmup:
        varied["warmup"] = jnp.float32(warmup)
    rate, decay, dropout = (jnp.float32(x) for x in (RATE, DECAY, 0))
    return loop.Hyperparams(jnp.uint32(1), rate, decay, dropout, varied)


@pytest.fixture(scope="module")
def trained() -> dict[tuple, dict]:
    """Parameters after all steps by (optimizer, schedule, warm-up), compiled together."""

    def train(name, schedule, warmup):
        def one_epoch(state, epoch):
            return loop.train_epoch(
                *(Dense(), member_loss, name, BATCH, False, state, hyperparams(warmup)),
                *(jnp.asarray(INPUTS), jnp.asarray(TARGETS), jnp.arange(len(INPUTS)), epoch),
                schedule=schedule,
                epochs=EPOCHS,
            )

        state = loop.init_state({"params": jax.tree.map(jnp.asarray, FIRST)}, {}, name)
        state, _ = jax.lax.scan(one_epoch, state, jnp.arange(1, EPOCHS + 1))
        return state.trainable["params"]

    cases = list(itertools.product(OPTIMIZERS, SCHEDULES, WARMUPS))
    return dict(zip(cases, jax.jit(lambda: [train(*case) for case in cases])(), strict=True))


@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_those_of_torch(trained, name, schedule, warmup):
    """Up to 1e-6 of the largest parameter: the rounding of float32, accumulated in 20 steps."""
    expected = torch_params(name, torch_rates(schedule, warmup))
    for key, value in trained[name, schedule, warmup].items():
        assert np.abs(value - expected[key]).max() <= 1e-6 * np.abs(expected[key]).max()
        assert np.abs(value - FIRST[key]).max() > 1e-3


def test_optimizers_and_schedules_differ(trained):
    """By more than the tolerance, so that none can be taken for another."""
    results = [np.asarray(params["output"]).ravel() for params in trained.values()]
    for one, other in itertools.combinations(results, 2):
        assert np.abs(one - other).max() > 1e-5


@pytest.mark.parametrize("warmup", WARMUPS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_equal_those_of_torch(schedule, warmup):
    """To the accuracy of float32, also where they are nearly zero."""

    def rate(step):
        numbers = hyperparams(warmup).numbers
        epoch, within = 1 + step // STEPS, step % STEPS
        return schedules.learning_rate(
            *(schedule, jnp.float32(RATE), numbers, epoch, within, STEPS, EPOCHS)
        )

    rates = jax.vmap(rate)(jnp.arange(TOTAL))
    np.testing.assert_allclose(rates, torch_rates(schedule, warmup), rtol=1e-6)


@pytest.mark.parametrize("total", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_of_short_trainings_are_positive(schedule, warmup, total):
    numbers = hyperparams(warmup).numbers
    for step in range(total):
        epoch, within = jnp.int32(1), jnp.int32(step)
        rate = schedules.learning_rate(
            schedule, jnp.float32(RATE), numbers, epoch, within, total, 1
        )
        assert 0 < float(rate) <= RATE * (1 + 1e-6)
