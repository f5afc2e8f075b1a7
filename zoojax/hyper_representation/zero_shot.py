"""Zero-shot sparsification: pruning dense members by predicted log alphas, untrained.

A hyper-representation that was learned from a variational-dropout twin predicts, from
weights alone, how noisy each of them would become. The weights of largest predicted log
alpha are pruned, at any ratio; `compare` sets that beside one-shot magnitude pruning,
random pruning, and the mask that variational dropout found by training.
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
from zoojax.hyper_representation.representation import Representation
from zoojax.runtime import population
from zoojax.sparsifiers import magnitude
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD
from zoojax.storage.zoo import Zoo
from zoojax.training import inference, trainer

PREDICTED, MAGNITUDE, RANDOM = "predicted", "magnitude", "random"

# Stacked by layer, shaped like the kernels.
Scores = dict[str, np.ndarray]


def scores(representation: Representation, params: dict[str, Any]) -> Scores:
    """What orders weights for pruning, lowest first: their predicted log alphas, negated.

    Args:
        representation: one with log alphas.
        params: stacked parameters of dense members.

    Raises:
        ZoojaxError: it was learned without log alphas.
    """
    return _negated(representation.log_alphas(params))


def zero_shot_twin(
    out: Path,
    representation: Representation,
    parent: Zoo,
    ratios: Sequence[float],
    *,
    held_out_only: bool = False,
    source: Path | None = None,
    epochs: int = 0,
    epoch: int | None = None,
    learning_rate: float | None = None,
    chunk: int | None = None,
    data_dir: Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Prunes every member at every ratio by predicted log alphas: a zoo of kind "mp".

    Args:
        out: the twin's folder.
        representation: one with log alphas, of the members' architecture.
        parent: a dense zoo.
        ratios: shares of the network's weights to prune, each in [0, 1).
        held_out_only: of the members that the representation was neither learned nor
            chosen from, alone.
        source: folder of the zoo that the representation was learned from, for
            `held_out_only`; the recorded one if None.
        epochs: of fine-tuning after pruning; none by default.
        epoch: of the parent to start from; the newest if None.
        learning_rate: of fine-tuning; None as in `make_pruned`.
        chunk: as in `make.make_dense`.
        data_dir: as in `make.make_dense`.
        report: as in `make.make_dense`.

    Raises:
        ZoojaxError: bad input, or the disk refused.
    """
    representation.check_architecture(parent)
    representation.check_alphas()
    members = None
    if held_out_only:
        twin = representation.training_zoo(source)
        check_parent(twin, parent)
        members = _held_out(representation, twin)["parent_id"].to_list()
    return twins.prune_zoo(
        out,
        parent,
        ratios,
        learning_rate=learning_rate,
        epochs=epochs,
        epoch=epoch,
        members=members,
        scores=lambda params: scores(representation, params),
        origin=f"zero-shot, log alphas predicted by {representation.fingerprint[:16]}",
        chunk=chunk,
        data_dir=data_dir,
        report=report,
    )


def check_parent(twin: Zoo, parent: Zoo) -> None:
    """Raises ZoojaxError unless a variational-dropout twin is of this dense zoo."""
    known = twin.config.parent
    if known is None or known.fingerprint != parent.fingerprint:
        raise ZoojaxError(
            f"{twin.path}, which the autoencoder was learned from, is not a twin of "
            f"{parent.path}, so which of its members are held out is not known"
        )


def compare(
    representation: Representation,
    parent: Zoo,
    twin: Zoo,
    images: ImageSet,
    ratios: Sequence[float],
    epoch: int | None = None,
) -> pl.DataFrame:
    """Test accuracy of held-out members pruned without training, by four methods.

    Args:
        representation: one with log alphas, learned from the twin.
        parent: the dense zoo.
        twin: its variational-dropout twin.
        images: the zoo's image set.
        ratios: shares of the network's weights to prune.
        epoch: of the dense zoo; that which the twin began with if None.

    Returns:
        A row a method and sparsity: `method` ("predicted", "magnitude", "random", "true VD
        mask (epoch E)"), `sparsity`, `at_threshold` (pruned where log alpha is at least 3;
        sparsity is then a mean), mean and standard deviation over members of `test_acc`,
        and `members`.

    Raises:
        ZoojaxError: the twin is not of this zoo; an epoch is not there.
    """
    check_parent(twin, parent)
    assert twin.config.parent is not None
    held = _held_out(representation, twin)
    rows = parent.row_indices(held["parent_id"])
    began = twin.config.parent.epoch if epoch is None else epoch
    params = population.take(parent.params(began), rows)
    ids = held["parent_id"].to_list()
    of = representation.config.alphas_of
    source = twin.newest_epoch if of is None else of
    kernels = parameters.kernels(params)
    by_method = {
        PREDICTED: scores(representation, params),
        MAGNITUDE: {layer: np.abs(w) for layer, w in kernels.items()},
        RANDOM: _random(kernels, ids),
        f"true VD mask (epoch {source})": _true(twin, source, twin.row_indices(held["id"])),
    }
    total = sum(w[0].size for w in kernels.values())
    prune, roster = jax.jit(magnitude.prune_population), parent.members_table[rows]
    test, table = images.test, []
    for method, ranked in by_method.items():
        counts = [(np.full(len(ids), round(r * total), np.int32), False) for r in ratios]
        if method not in (MAGNITUDE, RANDOM):
            counts.append((_beyond_threshold(ranked), True))
        for pruned, at_threshold in counts:
            sparse = jax.device_get(prune(params, {"all": jnp.asarray(pruned)}, ranked)[0])
            guessed = inference.predict_params(parent.config, roster, sparse["params"], test.images)
            found = (guessed == test.labels).mean(axis=1)
            sparsity = float(np.mean(pruned / total))
            table.append((method, sparsity, at_threshold, found.mean(), found.std(), len(ids)))
    names = ["method", "sparsity", "at_threshold", "test_acc_mean", "test_acc_std", "members"]
    return pl.DataFrame(table, schema=names, orient="row")


def _held_out(representation: Representation, twin: Zoo) -> pl.DataFrame:
    """Rows of the twin's roster that nothing was learned or chosen from."""
    return twin.members_table.filter(pl.col("id").is_in(representation.config.members.test))


def _negated(log_alphas: dict[str, Any]) -> Scores:
    return {layer: -np.asarray(leaves["kernel"]) for layer, leaves in sorted(log_alphas.items())}


def _true(twin: Zoo, epoch: int, rows: np.ndarray) -> Scores:
    """As `scores`, of what the twin learned; not clipped either."""
    state = population.take(twin.state(epoch), rows)
    return {
        layer: 2 * np.log(np.abs(w) + 1e-15) - state["log_sigma2"][layer]["kernel"]
        for layer, w in parameters.kernels(state["params"]).items()
    }


def _random(kernels: dict[str, Any], members: list[int]) -> Scores:
    """Each member's from its id alone."""
    generators = [np.random.default_rng(member) for member in members]
    return {
        layer: np.stack([g.random(w.shape[1:], np.float32) for g in generators])
        for layer, w in kernels.items()
    }


def _beyond_threshold(ranked: Scores) -> np.ndarray:
    """How many log alphas of each member are at least the threshold, [members]."""
    counts = [
        np.sum(s.reshape(len(s), -1) <= -LOG_ALPHA_THRESHOLD, axis=1) for s in ranked.values()
    ]
    return np.sum(counts, axis=0).astype(np.int32)
