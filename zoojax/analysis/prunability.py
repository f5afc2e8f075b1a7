"""Which members keep their accuracy when sparsified, and what predicts it."""

import itertools
from collections.abc import Sequence

import numpy as np
import polars as pl

from zoojax.analysis.layer_statistics import layer_statistics
from zoojax.analysis.pairing import (
    finite_rows,
    group_by_population,
    hyperparameters,
    last_epoch,
    paired_metrics,
    value_groups,
)
from zoojax.analysis.rank_correlation import coefficients, missing_value
from zoojax.analysis.results import methods_of
from zoojax.storage.zoo import Zoo

# Fraction of the members of each ratio in group "friendly", and in group "hard".
TAIL_FRACTION = 0.1
# Fewer members are not grouped.
MIN_MEMBERS = 20
# Fewer members are not cross-validated: there are 70 layer statistics of the paper's CNNs.
MIN_PREDICTED = 100
_FOLDS = 5
_KENDALL = ("kendall", "kendall_low", "kendall_high")
_PENALTIES = np.logspace(-3, 5, 17)


def _at_epoch(zoo: Zoo, twin: Zoo, epoch: int | None) -> pl.DataFrame:
    """`paired_metrics` of one epoch, the last one if None."""
    table = paired_metrics(zoo, twin)
    epoch = last_epoch(table) if epoch is None else epoch
    return table.filter(pl.col("epoch") == epoch)


def member_prunability(zoo: Zoo, twin: Zoo, epoch: int | None = None) -> pl.DataFrame:
    """Accuracy change of each member under sparsification.

    Args:
        zoo: the dense zoo.
        twin: its twin.
        epoch: epoch of the twin; the last one if None.

    Returns:
        One row per finite member of the twin: `member`, `parent_id`, `seed`, the
        hyperparameters that vary, `ratio`, `epoch`, `sparsity`, `dense_acc`, `test_acc`,
        `change` = test_acc - dense_acc, `rank` of the change within the ratio (1 lost the
        least), and `group`: "friendly" for the tenth that lost the least, "hard" for the
        tenth that lost the most, else "".

    Raises:
        ZoojaxError: it is not a twin of this zoo.
    """
    table = finite_rows(_at_epoch(zoo, twin, epoch)).with_columns(
        (pl.col("test_acc") - pl.col("dense_acc")).alias("change")
    )
    rank = pl.col("change").rank("ordinal", descending=True).over("ratio").cast(pl.Int64)
    tail = (pl.len() * TAIL_FRACTION).ceil().over("ratio")
    too_few = pl.len().over("ratio") < MIN_MEMBERS
    group = (
        pl.when(too_few)
        .then(pl.lit(""))
        .when(rank <= tail)
        .then(pl.lit("friendly"))
        .when(rank > pl.len().over("ratio") - tail)
        .then(pl.lit("hard"))
        .otherwise(pl.lit(""))
    )
    first = ["member", "parent_id", "seed", *hyperparameters(twin), "ratio", "epoch"]
    table = table.with_columns(rank.alias("rank"), group.alias("group"))
    return table.select(
        *dict.fromkeys(first), "sparsity", "dense_acc", "test_acc", "change", "rank", "group"
    )


def change_by_hyperparameters(zoo: Zoo, twin: Zoo, epoch: int | None = None) -> pl.DataFrame:
    """Accuracy change under sparsification by the values of each hyperparameter that varies.

    Args:
        zoo: the dense zoo.
        twin: its twin; the table of a seed zoo is empty.
        epoch: epoch of the twin; the last one if None.

    Returns:
        `hyperparameter`, `value` (as text; see `value_groups`), `ratio`, `epoch`, `members`
        (finite ones); means and standard deviations of `dense_acc`, `test_acc`, `change` and
        `sparsity`; Pearson's r `pearson` and Kendall's tau-b `kendall` of accuracy before and
        after within the group, with their intervals and `remark` as in `correlation`.

    Raises:
        ZoojaxError: it is not a twin of this zoo.
    """
    table, rows = member_prunability(zoo, twin, epoch), []
    columns = ("dense_acc", "test_acc", "change", "sparsity")
    for name in hyperparameters(twin):
        named = table.with_columns(value_groups(table[name]))
        groups = named.partition_by(name, "ratio", "epoch", as_dict=True, maintain_order=True)
        for (value, ratio, at), group in groups.items():
            before, after = group["dense_acc"].to_numpy(), group["test_acc"].to_numpy()
            row = {"hyperparameter": name, "value": str(value), "ratio": ratio, "epoch": at}
            row |= {"members": len(group)}
            for column in columns:
                values = group[column].cast(pl.Float64)
                row |= {f"{column}_mean": values.mean(), f"{column}_std": values.std(ddof=0)}
            rows.append(row | coefficients(before, after))
    statistics = [f"{column}_{statistic}" for column in columns for statistic in ("mean", "std")]
    schema = {"hyperparameter": pl.String, "value": pl.String, "ratio": pl.Float64}
    schema |= {"epoch": pl.Int64, "members": pl.Int64}
    correlations = [name.replace("kendall", "pearson") for name in _KENDALL] + [*_KENDALL]
    schema |= dict.fromkeys([*statistics, *correlations], pl.Float64) | {"remark": pl.String}
    return pl.DataFrame(rows, schema=schema).sort("hyperparameter", "value", "ratio")


def rank_consistency(
    zoo: Zoo, twins: Sequence[Zoo], epochs: Sequence[int | None] | None = None
) -> pl.DataFrame:
    """Whether the same members keep their accuracy at other ratios and with other methods.

    Args:
        zoo: the dense zoo.
        twins: any of its twins.
        epochs: one per twin, or per method of each if there are several (see `methods_of`); the
            last one for each None.

    Returns:
        One row per pair of populations: `method`, `ratio`, `other_method`, `other_ratio`,
        `members` (parents finite in both); `kendall` (tau-b of their accuracy changes) with
        `kendall_low`, `kendall_high` and `remark` as in `correlation`; and `friendly_in_both`:
        the fraction of the first population's group "friendly" that is also in the other's
        (0.1 is chance; null without groups).

    Raises:
        ZoojaxError: one is not a twin of this zoo.
    """
    populations = []
    named = methods_of(zoo, twins)[1:]
    methods = [method for twin in twins for method in named if method.twin is twin]
    for method, epoch in zip(methods, epochs or [None] * len(methods), strict=True):
        for ratio, _, table in group_by_population(member_prunability(zoo, method.zoo, epoch)):
            changes = table.select("parent_id", "change", "group")
            populations.append((method.key, ratio, changes))
    rows = []
    for one, other in itertools.combinations(populations, 2):
        (method, ratio, changes), (other_method, other_ratio, other_changes) = one, other
        both = changes.join(other_changes, on="parent_id", suffix="_other", maintain_order="left")
        friendly = both.filter(pl.col("group") == "friendly")
        found = coefficients(both["change"].to_numpy(), both["change_other"].to_numpy())
        share = (friendly["group_other"] == "friendly").mean() if len(friendly) else None
        tau = [found[name] for name in _KENDALL]
        row = (method, ratio, other_method, other_ratio, len(both), *tau, share, found["remark"])
        rows.append(row)
    schema = {"method": pl.String, "ratio": pl.Float64}
    schema |= {"other_method": pl.String, "other_ratio": pl.Float64, "members": pl.Int64}
    schema |= dict.fromkeys(_KENDALL, pl.Float64)
    schema |= {"friendly_in_both": pl.Float64, "remark": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def outcome_predictability(
    zoo: Zoo, twin: Zoo, epoch: int | None = None, seed: int = 0
) -> pl.DataFrame:
    """How well post-sparsification accuracy can be predicted from the dense weights.

    Ridge regression on the mean, variance and percentiles of each layer's weights and
    biases, with the penalty chosen by leave-one-out within the training folds. Predictions
    are those of five-fold cross-validation. The baseline is linear regression on the dense
    accuracy.

    Args:
        zoo: the dense zoo.
        twin: its twin.
        epoch: epoch of the twin; the last one if None.
        seed: seed of the folds.

    Returns:
        One row per ratio, target ("change", "test_acc", and "sparsity" if it varies with the
        epoch) and features ("layer statistics", "dense accuracy"): `members`, `r2` and
        Kendall's tau-b `kendall` between predicted and true values, with `kendall_low` and
        `kendall_high` as in `correlation`. They are null if fewer than 100 members are finite
        or the target is constant; `remark` says which, as in `correlation`.

    Raises:
        ZoojaxError: it is not a twin of this zoo, or the parent's state is not on disk.
    """
    # Imported here because scikit-learn takes seconds to import.
    from sklearn.linear_model import LinearRegression, RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    assert twin.config.parent is not None
    statistics = layer_statistics(zoo.params(twin.config.parent.epoch))
    position = {member: row for row, member in enumerate(zoo.members_table["id"].to_list())}
    targets = ["change", "test_acc"] + (
        ["sparsity"] if twin.config.sparsifier.sweep == "epoch" else []
    )
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    models = {
        "layer statistics": make_pipeline(StandardScaler(), RidgeCV(alphas=_PENALTIES)),
        "dense accuracy": LinearRegression(),
    }
    schema = {"ratio": pl.Float64, "epoch": pl.Int64, "target": pl.String}
    schema |= {"features": pl.String, "members": pl.Int64, "r2": pl.Float64}
    schema |= dict.fromkeys(_KENDALL, pl.Float64) | {"remark": pl.String}
    rows = []
    for ratio, at, table in group_by_population(member_prunability(zoo, twin, epoch)):
        inputs = statistics[[position[parent] for parent in table["parent_id"].to_list()]]
        # Weights may be non-finite although the metrics are finite.
        usable = np.isfinite(inputs).all(axis=1)
        inputs, table = inputs[usable], table.filter(usable.tolist())
        features = {
            "layer statistics": inputs,
            "dense accuracy": table["dense_acc"].to_numpy()[:, None],
        }
        for target in targets:
            truth = table[target].to_numpy()
            for name, model in models.items():
                row = {"ratio": ratio, "epoch": at, "target": target, "features": name}
                row |= {"members": len(truth)}
                remark = missing_value(len(truth), MIN_PREDICTED, truth)
                if remark is None:
                    guess = np.asarray(cross_val_predict(model, features[name], truth, cv=folds))
                    row |= {"r2": float(r2_score(truth, guess)), **coefficients(truth, guess)}
                else:
                    row |= {"remark": remark}
                rows.append({key: row.get(key) for key in schema})
    return pl.DataFrame(rows, schema=schema)
