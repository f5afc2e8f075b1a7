"""The training data of a hyper-representation: checks its zoos, splits them, reads the states."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from zoojax.api import dense
from zoojax.architectures.base import Architecture
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.behavior import activations, behavior_gap
from zoojax.hyper_representation.components import Components, divide, token_components
from zoojax.hyper_representation.config import RepresentationConfig, TrainingZoo, check_config
from zoojax.hyper_representation.dataset import (
    LeafNames,
    Samples,
    fit_normalization,
    has_log_alphas,
    join_samples,
    read_samples,
    variational_names,
)
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer
from zoojax.hyper_representation.training_zoos import Split, split_zoos
from zoojax.storage.zoo import Zoo
from zoojax.text import is_printable

# Mean sparsity at which one-shot magnitude pruning fails but variational dropout does not.
_REFERENCE_SPARSITY = 0.8


class Prepared(NamedTuple):
    """The configuration of a hyper-representation and its training data.

    Attributes:
        config: The configuration.
        train: Training samples.
        val: Validation samples.
        components: Principal components of the tokens of the training samples; empty if no token
            has its own part of z.
    """

    config: RepresentationConfig
    train: Samples
    val: Samples
    components: dict[str, Components]


def prepare(
    out: Path,
    zoos: Sequence[Zoo],
    settings: Settings,
    *,
    epochs: Sequence[int] | None,
    alphas_of: int | None,
    weights_only: bool,
) -> Prepared:
    """Checks and reads the training zoos; see `train_autoencoder` for the arguments.

    Raises:
        ZoojaxError: If an argument is invalid, or a state is missing or damaged.
    """
    if settings.task == "sparsify" and (weights_only or alphas_of is None):
        raise ZoojaxError(
            "the task 'sparsify' predicts the log alphas of one epoch; give it with --alphas-of, "
            "without --weights-only"
        )
    check_zoos(zoos, settings)
    check_architecture(zoos[0].config.shape)
    variational = _variational(zoos, alphas_of, weights_only)
    used = [_epochs(zoo, epochs, alphas_of) for zoo in zoos]
    splits = split_zoos(zoos, settings.seed)
    train, val = (
        join_samples(
            [
                read_samples(zoo, part, each, alphas_of=alphas_of, variational=variational)
                for zoo, each, part in zip(zoos, used, parts, strict=True)
            ]
        )
        for parts in ([s.train for s in splits], [s.val for s in splits])
    )
    normalization = fit_normalization(train.weights)
    entries = [
        _entry(zoo, out, split, each) for zoo, split, each in zip(zoos, splits, used, strict=True)
    ]
    shape = zoos[0].config
    tokenizer = Tokenizer(shape.shape, settings.tokens, settings.chunk_length)
    components: dict[str, Components] = {}
    if settings.local_latent and normalization.is_finite:
        components = token_components(tokenizer, normalization, train.weights, settings.seed)
    config = RepresentationConfig(
        settings=settings,
        zoos=entries,
        architecture=shape.architecture,
        channels=shape.channels,
        classes=shape.classes,
        activation=_activation(zoos, settings),
        alphas_of=alphas_of,
        mean=normalization.mean,
        deviation=normalization.std,
        variational={layer: list(names) for layer, names in variational.items()},
        slices=dict(divide(tokenizer, components, settings.local_latent)),
        versions=dense.versions(),
    )
    check_config(config)
    return Prepared(config, train, val, components)


def check_zoos(zoos: Sequence[Zoo], settings: Settings) -> None:
    """Raises ZoojaxError if zoos cannot be represented together."""
    if not zoos:
        raise ZoojaxError("no training zoo; give at least one")
    first, seen = zoos[0], dict[str, Zoo]()
    for zoo in zoos:
        shape = zoo.config.shape
        if shape.task.has_own_images:
            raise ZoojaxError(
                f"members of {zoo.path} learn one image each; hyper-representations need members "
                "that classify"
            )
        if shape != first.config.shape:
            raise ZoojaxError(
                f"{zoo.path} has another architecture than {first.path}; train one "
                "hyper-representation for each architecture"
            )
        if zoo.fingerprint in seen:
            raise ZoojaxError(
                f"{zoo.path} and {seen[zoo.fingerprint].path} are the same zoo; give it once"
            )
        seen[zoo.fingerprint] = zoo
    if settings.task == "sparsify" and len(zoos) > 1:
        raise ZoojaxError("the task 'sparsify' takes one twin with log alphas, not several zoos")


def _variational(zoos: Sequence[Zoo], alphas_of: int | None, weights_only: bool) -> LeafNames:
    """Returns the parameters with a log alpha; empty for `weights_only`.

    Raises:
        ZoojaxError: If no zoo has log alphas, or two have them for different parameters.
    """
    if weights_only:
        return {}
    having = [zoo for zoo in zoos if has_log_alphas(zoo.config)]
    if not having:
        names = " and ".join(str(zoo.path) for zoo in zoos)
        raise ZoojaxError(
            f"{names} has no log alphas, unlike variational-dropout twins; create one with "
            "'zoojax sparsify variational-dropout', or use --weights-only"
        )
    names = variational_names(having[0])
    for zoo in having[1:]:
        if variational_names(zoo) != names:
            raise ZoojaxError(
                f"{zoo.path} and {having[0].path} have log alphas of different parameters; train "
                "one hyper-representation for each"
            )
    return names


def _epochs(zoo: Zoo, epochs: Sequence[int] | None, alphas_of: int | None) -> list[int]:
    """Returns the epochs of a zoo whose states are samples."""
    newest = zoo.newest_epoch
    for epoch in [*(epochs or []), *([] if alphas_of is None else [alphas_of])]:
        if epoch not in zoo.epochs:
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}; its last is {newest}")
    if epochs is not None:
        return list(epochs)
    last = zoo.epochs[-1] if alphas_of is None else alphas_of // 3
    return [epoch for epoch in zoo.epochs if epoch <= last]


def _activation(zoos: Sequence[Zoo], settings: Settings) -> str | None:
    """Returns the activation of all members if the settings use their behavior.

    Raises:
        ZoojaxError: If the behavior of the members cannot be used.
    """
    if not settings.uses_behavior:
        return None
    gap = behavior_gap(zoos)
    if gap is not None:
        raise ZoojaxError(f"{gap}; give settings with probes=0 and behavior=0")
    (activation,) = activations(zoos)
    return activation


def _entry(zoo: Zoo, out: Path, split: Split, epochs: list[int]) -> TrainingZoo:
    return TrainingZoo(
        zoo.config.name,
        _relative_path(zoo, out),
        zoo.fingerprint,
        split,
        len(zoo) - sum(map(len, split)),
        epochs,
    )


class PermutationWarning(UserWarning):
    """Hidden units are not permuted."""


def check_architecture(arch: Architecture) -> None:
    """Checks that members of an architecture can be represented.

    Warns if hidden units cannot be permuted.

    Raises:
        ZoojaxError: If layers are nested in other modules.
    """
    nested = [path for path in arch.parameter_shapes() if "/" in path]
    if nested:
        raise ZoojaxError(
            f"the {arch.label} has layers within modules, such as {nested[0]}; a "
            "hyper-representation takes layers at the top level of the network"
        )
    if not arch.permutations:
        message = (
            f"the {arch.label} describes no permutations of its hidden units: trains without "
            "permutation augmentation"
        )
        warnings.warn(message, PermutationWarning, stacklevel=3)


def default_alpha_epoch(zoo: Zoo) -> int:
    """Returns the first epoch with a mean sparsity of at least 80 %, or the last epoch."""
    means = (
        zoo.metrics.group_by("epoch", maintain_order=True)
        .agg(pl.col("sparsity").mean())
        .sort("epoch")
    )
    sparse = means.filter(pl.col("sparsity") >= _REFERENCE_SPARSITY)["epoch"]
    return int(sparse[0]) if len(sparse) else zoo.newest_epoch


def _relative_path(zoo: Zoo, out: Path) -> str:
    """Returns the path of a zoo relative to a folder; "unknown" for a zoo in memory."""
    if zoo.store.in_memory:
        return "unknown"
    try:
        path = os.path.relpath(zoo.path.resolve(), out.resolve())
    except ValueError:  # On another drive; the zoo can still be given with --zoo.
        path = zoo.path.resolve().name
    # The fingerprint identifies the zoo, so an unprintable path can be dropped.
    return path if is_printable(path) else "unknown"
