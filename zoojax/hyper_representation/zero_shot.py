"""Zero-shot sparsification: prunes dense members by predicted log alphas, without training.

A hyper-representation trained on a twin with log alphas, such as one of variational dropout,
predicts the log alpha of each weight of a dense member. The weights with the largest predicted log
alphas are pruned, at any ratio. `compare` compares the result with one-shot magnitude pruning,
random pruning, and the mask of the twin.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from zoojax.api import twins
from zoojax.architectures import parameters
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.dataset import has_log_alphas
from zoojax.hyper_representation.representation import Representation
from zoojax.runtime import population
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD
from zoojax.storage.parent import is_version, paired
from zoojax.storage.zoo import Zoo
from zoojax.training import inference, trainer

PREDICTED, MAGNITUDE, RANDOM = "predicted", "magnitude", "random"

# Stacked weight scores by layer; the lowest are pruned first.
Scores = dict[str, np.ndarray]


def scores(representation: Representation, params: dict[str, Any]) -> Scores:
    """Computes pruning scores, which are negated predicted log alphas.

    Args:
        representation: A hyper-representation with log alphas.
        params: Stacked parameters of dense members.

    Returns:
        Stacked scores by layer; the weights with the lowest scores are pruned first.

    Raises:
        ZoojaxError: If the hyper-representation was trained without log alphas.
    """
    log_alphas = representation.log_alphas(params)
    return {layer: -np.asarray(leaves["kernel"]) for layer, leaves in sorted(log_alphas.items())}


def zero_shot_twin(
    out: Path,
    representation: Representation,
    parent: Zoo,
    ratios: Sequence[float],
    *,
    held_out_only: bool = False,
    training_zoo: Zoo | str | Path | None = None,
    epochs: int = 0,
    epoch: int | None = None,
    learning_rate: float | None = None,
    chunk: int | None = None,
    data_dir: Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Prunes each member at each ratio by predicted log alphas, as magnitude pruning does.

    Example:
        >>> representation = open_representation("reps/usps-sparsify")
        >>> zero_shot_twin(Path("zoos/zero-shot"), representation, open_zoo("zoos/usps"), [0.8])

    Args:
        out: Folder of the twin.
        representation: A hyper-representation with log alphas and the parent's architecture.
        parent: A dense zoo.
        ratios: Fractions of all weights to prune, each in [0, 1).
        held_out_only: Prunes only members of the test split, which were used neither for
            training nor for validation.
        training_zoo: The training zoo or its folder, needed for `held_out_only`; None for the
            recorded one.
        epochs: Epochs of fine-tuning after pruning.
        epoch: Epoch of the parent to start from; None for the last.
        learning_rate: Learning rate of fine-tuning; None as in `zoojax.sparsify`.
        chunk: Members that a device processes at once; None chooses for the machine.
        data_dir: Folder of the image sets; None for the default.
        report: Progress callback, called after each block.

    Returns:
        The twin.

    Raises:
        ZoojaxError: If an argument is invalid or writing failed.
    """
    representation.check_architecture(parent)
    representation.check_alphas()
    members = None
    if held_out_only:
        twin = training_twin(representation, parent, training_zoo)
        members = _held_out(representation, paired(parent, twin))["parent_id"].to_list()
    return twins.sparsify(
        parent,
        MagnitudePruning(tuple(ratios)),
        out,
        learning_rate=learning_rate,
        epochs=epochs,
        epoch=epoch,
        members=members,
        scores=lambda params: scores(representation, params),
        origin=f"zero-shot, log alphas predicted by {representation.fingerprint[:16]}",
        chunk=chunk,
        data_dir=data_dir,
        quiet=report is None,
        report=report,
    )


def training_twin(
    representation: Representation, parent: Zoo, given: Zoo | str | Path | None = None
) -> Zoo:
    """Opens the training zoo with log alphas, which must be a twin of a dense zoo.

    Args:
        representation: The hyper-representation.
        parent: The dense zoo.
        given: The training zoo, or its folder; None for the recorded one.

    Raises:
        ZoojaxError: If no training zoo is a twin of the dense zoo, or it cannot be opened.
    """
    zoos = representation.training_zoos() if given is None else [representation.training_zoo(given)]
    twin = next((zoo for zoo in zoos if has_log_alphas(zoo.config)), zoos[0])
    check_parent(twin, parent)
    return twin


def check_parent(twin: Zoo, parent: Zoo) -> None:
    """Raises ZoojaxError if the twin of a representation is not derived from a dense zoo."""
    known = twin.config.parent
    if known is None or not is_version(parent, known.fingerprint):
        raise ZoojaxError(
            f"{twin.path}, on which the autoencoder was trained, is not a twin of {parent.path}, "
            "so the held-out members of that zoo are unknown"
        )


def compare(
    representation: Representation,
    parent: Zoo,
    twin: Zoo,
    images: ImageSet,
    ratios: Sequence[float],
    epoch: int | None = None,
) -> pl.DataFrame:
    """Measures the test accuracy of held-out members pruned by four methods without training.

    Args:
        representation: A hyper-representation with log alphas, trained on the twin.
        parent: The dense zoo.
        twin: Its twin, with log alphas.
        images: The zoo's image set.
        ratios: Fractions of all weights to prune.
        epoch: Epoch of the dense zoo; None for the one from which the twin was derived.

    Returns:
        One row per method and sparsity: `method` ("predicted", "magnitude", "random", "true VD
        mask (epoch E)" for variational dropout), `sparsity`, `at_threshold` (whether weights
        with log alpha >= 3 are pruned; sparsity is then a mean over members), `test_acc_mean`,
        `test_acc_std` over members, and `members`.

    Raises:
        ZoojaxError: If the twin is not derived from the zoo, or an epoch is missing.
    """
    check_parent(twin, parent)
    assert twin.config.parent is not None
    held_out = _held_out(representation, paired(parent, twin))
    ids = held_out["parent_id"].to_list()
    rows = parent.row_indices(ids)
    params = population.take(
        parent.params(twin.config.parent.epoch if epoch is None else epoch), rows
    )
    alphas_of = representation.config.alphas_of
    true_epoch = twin.newest_epoch if alphas_of is None else alphas_of
    kernels = parameters.kernels(params)
    by_method = {
        PREDICTED: scores(representation, params),
        MAGNITUDE: {layer: np.abs(w) for layer, w in kernels.items()},
        RANDOM: _random_scores(kernels, ids),
        f"true {twin.config.sparsifier.short} mask (epoch {true_epoch})": _true_scores(
            twin, true_epoch, twin.row_indices(held_out["id"])
        ),
    }
    total = sum(w[0].size for w in kernels.values())
    prune, members = jax.jit(jax.vmap(MagnitudePruning().init)), parent.members_table[rows]
    test, table = images.test, []
    for method, ranked in by_method.items():
        counts = [(np.full(len(ids), round(r * total), np.int32), False) for r in ratios]
        if method not in (MAGNITUDE, RANDOM):
            counts.append((_count_beyond_threshold(ranked), True))
        for pruned, at_threshold in counts:
            values = {"num_pruned": {"all": jnp.asarray(pruned)}, "scores": ranked}
            sparse = jax.device_get(prune(params, values)[0])
            classes = inference.predict_params(
                parent.config, members, sparse["params"], test.images
            )
            accuracy = (classes == test.labels).mean(axis=1)
            sparsity = float(np.mean(pruned / total))
            table.append(
                (method, sparsity, at_threshold, accuracy.mean(), accuracy.std(), len(ids))
            )
    names = ["method", "sparsity", "at_threshold", "test_acc_mean", "test_acc_std", "members"]
    return pl.DataFrame(table, schema=names, orient="row")


def _held_out(representation: Representation, twin: Zoo) -> pl.DataFrame:
    """Returns the rows of the twin's members table that are in the test split."""
    held_out = representation.entry(twin).members.test
    return twin.members_table.filter(pl.col("id").is_in(held_out))


def _true_scores(twin: Zoo, epoch: int, rows: np.ndarray) -> Scores:
    """Computes `scores` from the twin's own log alphas, also without clipping."""
    state = population.take(twin.state(epoch), rows)
    return {
        layer: 2 * np.log(np.abs(w) + 1e-15) - state["log_sigma2"][layer]["kernel"]
        for layer, w in parameters.kernels(state["params"]).items()
    }


def _random_scores(kernels: dict[str, Any], members: list[int]) -> Scores:
    """Draws random scores, seeded by the member's id."""
    generators = [np.random.default_rng(member) for member in members]
    return {
        layer: np.stack([g.random(w.shape[1:], np.float32) for g in generators])
        for layer, w in kernels.items()
    }


def _count_beyond_threshold(ranked: Scores) -> np.ndarray:
    """Counts the log alphas of each member that are at least the threshold, [members]."""
    counts = [
        np.sum(s.reshape(len(s), -1) <= -LOG_ALPHA_THRESHOLD, axis=1) for s in ranked.values()
    ]
    return np.sum(counts, axis=0).astype(np.int32)
