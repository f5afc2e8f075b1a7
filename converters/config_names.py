"""Names of hyperparameters and of their values in configs of other training scripts."""

import functools
import re
from collections.abc import Mapping
from typing import Any

# Keys of the zoos' original code, and other spellings of them, in lower case without separators. Of
# a nested key, the last name is compared, or the one before it.
KEYS: dict[str, tuple[str, ...]] = {
    "model::nlin": ("nlin", "nonlinearity", "activation", "activationfn", "act", "actlayer"),
    "model::init_type": ("inittype", "init", "initialization", "initializer", "winit", "initname"),
    "model::init_std": ("initstd",),
    "model::dropout": ("dropout", "dropoutrate", "droprate", "pdrop"),
    "optim::optimizer": ("optimizer", "optim", "opt", "optimizername", "optimizertype"),
    "optim::lr": ("lr", "learningrate", "baselr", "initiallr", "maxlr"),
    "optim::wd": ("wd", "weightdecay", "l2reg", "l2"),
    "optim::momentum": ("momentum",),
    "optim::scheduler": ("scheduler", "lrscheduler", "schedule", "sched"),
    "training::batchsize": ("batchsize", "trainbatchsize", "perdevicetrainbatchsize"),
    "training::epochs_train": ("epochstrain", "epochs", "numepochs", "maxepochs", "numtrainepochs"),
    "training::fraction": ("trainfraction",),
    "seed": ("seed", "randomseed", "manualseed", "rngseed"),
}
# Other spellings of values, in lower case without separators.
VALUES: dict[str, str] = {
    "leakyrelu": "leaky_relu",
    "swish": "silu",
    "rmsprop": "rmsprop",
    "none": "identity",
    "linear": "identity",
    "kaiminguniform": "kaiming_uniform",
    "kaimingnormal": "kaiming_normal",
    "xavieruniform": "xavier_uniform",
    "xaviernormal": "xavier_normal",
    "glorotuniform": "glorot_uniform",
    "glorotnormal": "glorot_normal",
    "heuniform": "he_uniform",
    "henormal": "he_normal",
    "truncatednormal": "truncated_normal",
    "tn": "truncated_normal",
    "randomnormal": "normal",
    "n": "normal",
    "u": "uniform",
    "randomuniform": "uniform",
    "onecyclelr": "one_cycle",
    "onecycle": "one_cycle",
    "cosineannealinglr": "cosine",
    "cosineannealing": "cosine",
    "steplr": "step",
    "multisteplr": "step",
}
# Schedules as the zoos' original code names them.
SCHEDULERS = {"one_cycle": "OneCycleLR", "cosine": "CosineAnnealingLR", "step": "StepLR"}
_MAX_DEPTH, _MAX_KEYS = 8, 10_000
_BY_SPELLING = {spelling: key for key, spellings in KEYS.items() for spelling in spellings}


def normalized_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the keys of the zoos' original code to a config that spells or nests them differently.

    Args:
        config: The config, as read.

    Returns:
        The config, with nested keys joined by "::", and the keys of `KEYS` that it has under
        another name.
    """
    flat = _flatten(config)
    found: dict[str, Any] = {}
    # Less nested keys take precedence: "lr" over "model::lr".
    for key in sorted(flat, key=lambda key: key.count("::")):
        ours = our_key(key)
        if ours is not None and not isinstance(flat[key], dict):
            found.setdefault(ours, flat[key])
    return flat | {key: value for key, value in found.items() if key not in flat}


# Cached, because hundreds of thousands of members have the same keys and values.
@functools.lru_cache(4096)
def our_key(key: str) -> str | None:
    """Returns the key of the zoos' original code for a key of a config.

    Args:
        key: The key; nested ones joined by "::".

    Returns:
        A key of `KEYS`; None if it is another key.
    """
    names = [_squash(part) for part in re.split(r"::|[./]", key)]
    # "scheduler::name" is the scheduler, "model::act::type" the activation.
    if len(names) > 1 and names[-1] in ("name", "type", "target"):
        names.pop()
    ours = _BY_SPELLING.get(names[-1])
    return ours if ours is not None and _fits(ours, names[:-1]) else None


@functools.lru_cache(4096)
def spelled(value: str, choices: tuple[str, ...]) -> str | None:
    """Finds a name among the known ones, in any spelling.

    Args:
        value: The name, such as "AdamW" or "rms_prop".
        choices: The known names.

    Returns:
        The known name; None if there is none.
    """
    if value in choices:
        return value
    squashed = _squash(value)
    by_spelling = {_squash(choice): choice for choice in choices}
    choice = by_spelling.get(squashed) or VALUES.get(squashed)
    return choice if choice in choices else None


def _squash(name: str) -> str:
    """Returns a name in lower case, without separators."""
    return re.sub(r"[^a-z0-9]", "", name[:200].lower())


def _fits(ours: str, context: list[str]) -> bool:
    """Whether the mappings around a name do not belong to something else, such as a teacher."""
    foreign = {"pretraining", "teacher", "scheduler", "head", "data", "dataset", "augmentation"}
    if ours in ("optim::scheduler",):
        foreign.discard("scheduler")
    return not foreign & set(context)


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the keys of nested mappings by "::"."""
    flat: dict[str, Any] = {}
    pending: list[tuple[str, Any, int]] = [(str(k), v, 1) for k, v in config.items()]
    while pending and len(flat) < _MAX_KEYS:
        key, value, depth = pending.pop(0)
        if isinstance(value, dict) and depth < _MAX_DEPTH:
            pending += [(f"{key}::{name}", each, depth + 1) for name, each in value.items()]
        flat[key] = value
    return flat
