"""Schedules of the learning rate by name, with the semantics of torch.optim.lr_scheduler.

The learning rate is a pure function of the step, so nothing is stored with the training state. A
schedule changes the rate after every step:

    constant   the learning rate of the member
    cosine     CosineAnnealingLR from the learning rate to zero at the end
    one_cycle  OneCycleLR with its defaults and cosine annealing, without cycling momentum: from
               1/25 of the learning rate to all of it in 30 % of the steps, then to 4e-6 of it
    step       StepLR: times `step_factor` every `step_interval` epochs

A linear warm-up may precede any of them, as with SequentialLR and LinearLR: in its W steps the rate
is 1/(W+1), 2/(W+1), ... of the learning rate. The schedule takes the steps that remain.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

Scalar = Array | np.ndarray | float
# Of torch.optim.lr_scheduler.OneCycleLR.
_PEAK, _FIRST_FACTOR, _LAST_FACTOR = 0.3, 1 / 25, 1 / 25 / 1e4


class Time(NamedTuple):
    """Position of a step in a training.

    Attributes:
        step: Steps before this one, scalar int32.
        total: Steps of the whole training; None if it is unknown, which only schedules without
            a horizon allow.
        steps_per_epoch: Steps of one epoch.
    """

    step: Array
    total: Array | int | None
    steps_per_epoch: int


class Schedule(NamedTuple):
    """A schedule of the learning rate.

    Attributes:
        factor: Function (time, numbers) -> factor of the learning rate; None for a constant.
            `numbers` has the hyperparameters that schedules use.
        has_horizon: Whether the factor depends on the total number of steps.
    """

    factor: Callable[[Time, Mapping[str, Scalar]], Array] | None
    has_horizon: bool


def _cosine(time: Time, numbers: Mapping[str, Scalar]) -> Array:
    assert time.total is not None
    return _anneal(1.0, 0.0, time.total - time.step, time.total)


def _one_cycle(time: Time, numbers: Mapping[str, Scalar]) -> Array:
    assert time.total is not None
    peak, last = _PEAK * time.total - 1, time.total - 1
    rising = _anneal(_FIRST_FACTOR, 1.0, peak - time.step, peak)
    falling = _anneal(1.0, _LAST_FACTOR, last - time.step, last - peak)
    return jnp.where(time.step <= peak, rising, falling)


def _step(time: Time, numbers: Mapping[str, Scalar]) -> Array:
    interval = jnp.asarray(numbers["step_interval"], jnp.int32)
    changes = time.step // time.steps_per_epoch // interval
    return jnp.float32(numbers["step_factor"]) ** changes.astype(jnp.float32)


def _anneal(first: float, last: float, left: Array, duration: Scalar) -> Array:
    """Cosine from `first` to `last`, with `left` of `duration` steps left.

    Written as a squared sine, it is accurate also near the end. It multiplies by the inverse of
    `duration`, because XLA may rewrite a division by a scalar differently on one device and on
    several.
    """
    share = left * (1 / jnp.float32(duration))
    return last + (first - last) * jnp.sin(jnp.float32(math.pi / 2) * share) ** 2


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule(None, has_horizon=False),
    "cosine": Schedule(_cosine, has_horizon=True),
    "one_cycle": Schedule(_one_cycle, has_horizon=True),
    "step": Schedule(_step, has_horizon=False),
}


def learning_rate(
    name: str,
    base: Scalar,
    numbers: Mapping[str, Scalar],
    epoch: Array,
    step: Array,
    steps_per_epoch: int,
    epochs: Array | int | None,
) -> Scalar:
    """Computes the learning rate of a step.

    Args:
        name: A name of SCHEDULES.
        base: Learning rate of the member.
        numbers: "warmup" (fraction of all steps), "step_factor" and "step_interval".
        epoch: Epoch being trained, counted from 1.
        step: Step within the epoch, counted from 0.
        steps_per_epoch: Steps of one epoch.
        epochs: Epochs of the whole training; None if it is unknown, see `needs_epochs`.

    Returns:
        The learning rate, scalar float32.

    Example:
        >>> from zoojax.schedules import learning_rate
        >>> rate = learning_rate("cosine", 0.5, {"warmup": 0.0}, 3, 0, 10, epochs=4)
        >>> round(float(rate), 6)
        0.25
    """
    factor, warmup = SCHEDULES[name].factor, numbers["warmup"]
    has_warmup = _warms_up(warmup)
    if factor is None and not has_warmup:
        return base
    total = None if epochs is None else epochs * steps_per_epoch
    done = (epoch - 1) * steps_per_epoch + step
    if not has_warmup:
        assert factor is not None
        return base * factor(Time(done, total, steps_per_epoch), numbers)
    assert total is not None
    first = jnp.round(warmup * total).astype(jnp.int32)
    rising = (done + 1) * (1 / (first + 1).astype(jnp.float32))
    time = Time(jnp.maximum(done - first, 0), jnp.maximum(total - first, 1), steps_per_epoch)
    return base * jnp.where(done < first, rising, 1.0 if factor is None else factor(time, numbers))


def _warms_up(warmup: Scalar) -> bool:
    """Whether there is a warm-up; an array stands for those of several members."""
    return not isinstance(warmup, float) or warmup > 0


def needs_epochs(name: str, warmup: Scalar) -> bool:
    """Whether the learning rate depends on the number of epochs.

    Args:
        name: A name of SCHEDULES.
        warmup: Fraction of all steps that warm up; a float of 0 is none.

    Example:
        >>> from zoojax import schedules
        >>> schedules.needs_epochs("step", 0.0), schedules.needs_epochs("step", 0.1)
        (False, True)
    """
    return SCHEDULES[name].has_horizon or _warms_up(warmup)
