"""Scores of predicted properties on held-out members, and their paired differences.

Properties are predicted for all states, and within an epoch: the variation between members that
the epoch does not explain.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from zoojax.hyper_representation.bootstrap import (
    UNKNOWN,
    Estimate,
    MemberBootstrap,
    interval_columns,
)
from zoojax.hyper_representation.dataset import PROPERTIES
from zoojax.hyper_representation.predictors import Floats, Predictor, SplitArrays

# Values of column `scope`.
ALL_STATES, WITHIN_EPOCHS, LAST_EPOCH = "all states", "within epochs", "last epoch"
SCOPES = (ALL_STATES, WITHIN_EPOCHS, LAST_EPOCH)
# Columns that name the block of states with the same training progress.
_BLOCK = ("zoo", "epoch")
_PENALTY = "lambda"


class Rows(NamedTuple):
    """Row numbers of the states in each split."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


class Scope(NamedTuple):
    """States and targets of a prediction.

    Attributes:
        name: One of SCOPES.
        parts: The states in each split.
        targets: [states, properties] float64; NaN for missing values.
    """

    name: str
    parts: Rows
    targets: Floats

    def split(self, x: Floats) -> SplitArrays:
        """The rows of each split of an array of all states."""
        return SplitArrays(*(x[rows] for rows in self.parts))

    @property
    def predictable(self) -> np.ndarray:
        """Properties that are finite and vary in the training and the test split, [properties]."""
        train, val, test = self.split(self.targets)
        finite = np.isfinite(np.concatenate([train, val, test])).all(axis=0)
        return finite & (np.ptp(train, axis=0) > 0) & (np.ptp(test, axis=0) > 0)


def block_numbers(metrics: pl.DataFrame) -> np.ndarray:
    """Numbers the blocks of states with the same training progress.

    Args:
        metrics: One row per state.

    Returns:
        [states, 1].
    """
    columns = metrics.select(_BLOCK)
    numbered = columns.unique(maintain_order=True).with_row_index("block")
    joined = columns.join(numbered, on=_BLOCK, how="left", maintain_order="left")
    return joined.select(pl.col("block").cast(pl.Int64)).to_numpy()


def scopes(metrics: pl.DataFrame) -> list[Scope]:
    """Selects the states and targets of each scope.

    Args:
        metrics: One row per state: `zoo`, `epoch`, `part` of the split, and the properties.

    Returns:
        The scopes in the order of SCOPES. Within epochs, targets are the differences to the mean
        of the training members of the same zoo at the same epoch. The last epoch is that of each
        zoo.
    """
    columns = [metrics[name].cast(pl.Float64).to_numpy() for name in PROPERTIES]
    targets = np.stack(columns, axis=1)
    part = metrics["part"].to_numpy()
    within = _within_blocks(targets, block_numbers(metrics)[:, 0], part == "train")
    newest = pl.col("epoch").max().over("zoo")
    last = metrics.select(pl.col("epoch") == newest)["epoch"].to_numpy()

    def parts(selected: np.ndarray) -> Rows:
        return Rows(*(np.flatnonzero(selected & (part == name)) for name in Rows._fields))

    everything = parts(np.ones(len(part), bool))
    return [
        Scope(ALL_STATES, everything, targets),
        Scope(WITHIN_EPOCHS, everything, within),
        Scope(LAST_EPOCH, parts(last), within),
    ]


def _within_blocks(targets: Floats, blocks: np.ndarray, train: np.ndarray) -> Floats:
    """Subtracts the mean of the training states of each block."""
    result = np.empty_like(targets)
    for block in np.unique(blocks):
        rows = blocks == block
        # Relative to one state, so that equal values have a difference of exactly zero.
        first = targets[rows & train][0]
        result[rows] = (targets[rows] - first) - (targets[rows & train] - first).mean(axis=0)
    return result


class _Score(NamedTuple):
    r2: Estimate
    tau: Estimate
    penalty: float | None

    def columns(self) -> dict[str, float | None]:
        return self.r2.columns("r2") | self.tau.columns("tau") | {_PENALTY: self.penalty}


_UNKNOWN = _Score(UNKNOWN, UNKNOWN, None)


class PropertyScores:
    """Collects the scores of predictors on the test split."""

    def __init__(self, metrics: pl.DataFrame):
        """Selects states and targets.

        Args:
            metrics: See `scopes`; also `origin`: states of the same dense member and its twins
                have the same number, and are resampled together.
        """
        self._scopes = scopes(metrics)
        members = metrics["origin"].to_numpy()
        self._bootstraps = {s.name: MemberBootstrap(members[s.parts.test]) for s in self._scopes}
        # By name of the predictor, then by scope and property.
        self._scores: dict[str, dict[tuple[str, str], _Score]] = {}

    def add(self, predictor: Predictor, features: Floats) -> None:
        """Scores a predictor.

        Args:
            predictor: The predictor.
            features: Its features, [states, features].
        """
        scores = self._scores[predictor.name] = {}
        for scope in self._scopes:
            known = np.isin(PROPERTIES, predictor.known)
            chosen = np.flatnonzero(scope.predictable & ~known)
            for name, score in zip(
                PROPERTIES, self._score(predictor, scope, features, chosen), strict=True
            ):
                scores[scope.name, name] = score

    def _score(
        self, predictor: Predictor, scope: Scope, features: Floats, chosen: np.ndarray
    ) -> list[_Score]:
        """Scores of all properties; unknown except for the chosen ones."""
        result = [_UNKNOWN] * len(PROPERTIES)
        if not len(chosen):
            return result
        targets = scope.split(scope.targets[:, chosen])
        predicted, penalties = predictor.predict(scope.split(features), targets)
        bootstrap = self._bootstraps[scope.name]
        for column, place in enumerate(chosen):
            pair = targets.test[:, column], predicted[:, column]
            penalty = penalties[column] if penalties else None
            result[place] = _Score(bootstrap.r2(*pair), bootstrap.kendall(*pair), penalty)
        return result

    def table(self) -> pl.DataFrame:
        """Scores of all predictors.

        Returns:
            One row per predictor, scope and property: `features` (the predictor), `scope`,
            `property`, `r2` and `tau` with the ends of their 95 % intervals, and `lambda` (the
            penalty of ridge regression). Null if the property is constant or missing, or if the
            features contain it.
        """
        rows = [
            {"features": features, "scope": scope, "property": name, **score.columns()}
            for features, scores in self._scores.items()
            for (scope, name), score in scores.items()
        ]
        columns = (*interval_columns("r2"), *interval_columns("tau"), _PENALTY)
        return _frame(rows, ("features", "scope", "property"), columns)

    def differences(self, references: Sequence[str]) -> pl.DataFrame:
        """Differences of scores between predictors, paired over the same resamples.

        Args:
            references: Names of predictors that are compared with all others.

        Returns:
            One row per pair of predictors, scope and property: `features`, `other`, `scope`,
            `property`, and `r2_difference` and `tau_difference` (`features` minus `other`) with
            the ends of their 95 % intervals.
        """
        columns = (*interval_columns("r2_difference"), *interval_columns("tau_difference"))
        others = [name for name in self._scores if name not in references]
        rows = [
            {"features": reference, "other": other, "scope": scope, "property": name}
            | own.r2.minus(self._scores[other][scope, name].r2).columns("r2_difference")
            | own.tau.minus(self._scores[other][scope, name].tau).columns("tau_difference")
            for reference in references
            for other in others
            for (scope, name), own in self._scores[reference].items()
        ]
        return _frame(rows, ("features", "other", "scope", "property"), columns)


def _frame(rows: list[dict], names: Sequence[str], values: Sequence[str]) -> pl.DataFrame:
    schema = dict.fromkeys(names, pl.String) | dict.fromkeys(values, pl.Float64)
    return pl.DataFrame(rows, schema=schema)
