"""Tables from an untrusted source: members.parquet and metrics.parquet are validated."""

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from tests.support.damage import assert_read_fails, edit_config, refuses, replace_file
from zoojax import analysis, open_zoo


def cast(name: str, dtype):
    """Changes the type of a column."""
    return lambda table: table.with_columns(pl.col(name).cast(dtype))


def set_first(name: str, value):
    """Changes the value of a column in the first row."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        dtype = table.schema[name]
        column = pl.Series(name, [value, *table[name].to_list()[1:]], dtype=dtype)
        return table.with_columns(column)

    return change


INVALID_MEMBERS = {
    "no rows": lambda t: t.head(0),
    "no column": lambda t: t.drop("seed"),
    "another column": lambda t: t.with_columns(pl.lit(1).alias("more")),
    "id twice": lambda t: pl.concat([t, t]),
    "id null": set_first("id", None),
    "id negative": set_first("id", -1),
    "id text": cast("id", pl.String),
    "seed large": set_first("seed", 2**32),
    "seed negative": set_first("seed", -1),
    "seed float": cast("seed", pl.Float64),
    "rate nan": set_first("learning_rate", np.nan),
    "rate infinite": set_first("learning_rate", np.inf),
    "rate negative": set_first("learning_rate", -1.0),
    "rate null": set_first("learning_rate", None),
    "rate text": cast("learning_rate", pl.String),
    "dropout one": set_first("dropout", 1.0),
    "decay nan": set_first("weight_decay", np.nan),
    "activation unknown": set_first("activation", "\x1b[2Jtanh"),
    "activation null": set_first("activation", None),
    "init unknown": set_first("init", "x" * 10**6),
    "optimizer unknown": set_first("optimizer", "lion"),
    "schedule unknown": lambda t: t.with_columns(schedule=pl.lit("linear")),
    "schedule null": lambda t: t.with_columns(schedule=pl.lit(None, pl.String)),
    "momentum one": lambda t: t.with_columns(momentum=pl.lit(1.0)),
    "momentum null": lambda t: t.with_columns(momentum=pl.lit(None, pl.Float64)),
    "warm-up nan": lambda t: t.with_columns(warmup=pl.lit(np.nan)),
    "interval zero": lambda t: t.with_columns(step_interval=pl.lit(0, pl.Int64)),
    "interval float": lambda t: t.with_columns(step_interval=pl.lit(2.5)),
}
INVALID_TWIN_MEMBERS = {
    "parent null": set_first("parent_id", None),
    "parent negative": set_first("parent_id", -3),
    "parent text": cast("parent_id", pl.String),
    "no parent": lambda t: t.drop("parent_id"),
}
INVALID_PRUNED_MEMBERS = {
    "ratio null": set_first("ratio", None),
    "ratio nan": set_first("ratio", np.nan),
    "ratio negative": set_first("ratio", -0.5),
    "ratio one": set_first("ratio", 1.0),
    "ratio text": cast("ratio", pl.String),
    "no ratio": lambda t: t.drop("ratio"),
}
INVALID_METRICS = {
    "member unknown": set_first("member", 10**6),
    "member null": set_first("member", None),
    "row twice": lambda t: pl.concat([t, t.head(1)]),
    "epoch negative": set_first("epoch", -1),
    "epoch large": set_first("epoch", 2**40),
    "epoch null": set_first("epoch", None),
    "epoch text": cast("epoch", pl.String),
    "accuracy above 1": set_first("test_acc", 90.0),
    "accuracy negative": set_first("val_acc", -0.1),
    "sparsity infinite": set_first("sparsity", np.inf),
    "layer above 1": set_first("sparsity_fc1", 2.0),
    "gap below -1": set_first("ggap", -3.0),
    "finite null": set_first("finite", None),
    "finite number": cast("finite", pl.Int8),
    "no column": lambda t: t.drop("test_acc"),
    "another column": lambda t: t.with_columns(pl.lit(1).alias("sparsity_conv9")),
    "text": cast("test_acc", pl.String),
}


def test_invalid_members(zoo_of_any_kind):
    zoo = zoo_of_any_kind
    changes = INVALID_MEMBERS | (INVALID_TWIN_MEMBERS if not zoo.config.is_dense else {})
    changes |= INVALID_PRUNED_MEMBERS if zoo.config.sparsifier.sweep == "ratio" else {}
    file, original = zoo.path / "members.parquet", zoo.members_table
    for change in changes.values():
        change(original).write_parquet(file)
        assert_read_fails(lambda: open_zoo(zoo.path), file)
    original.write_parquet(file)
    assert open_zoo(zoo.path).members_table.equals(original)


def test_invalid_metrics(zoo_of_any_kind):
    zoo = zoo_of_any_kind
    file, original = zoo.path / "metrics.parquet", zoo.metrics_history
    for name, change in INVALID_METRICS.items():
        change(original).write_parquet(file)
        assert_read_fails(lambda: open_zoo(zoo.path).metrics, file)
        assert "damaged" in repr(open_zoo(zoo.path)), name
    original.write_parquet(file)
    assert open_zoo(zoo.path).metrics_history.equals(original)


def test_parent_ids_unknown_to_the_parent(tmp_path_factory, tmp_path):
    dense = zoo_fixtures.dense(tmp_path_factory)
    path = zoo_fixtures.copied(zoo_fixtures.pruned(tmp_path_factory), tmp_path / "twin")
    table = open_zoo(path).members_table
    table.with_columns(pl.col("parent_id") + 1).write_parquet(path / "members.parquet")
    assert_read_fails(lambda: analysis.analyze(dense, [open_zoo(path)]), path, "member 3")
    edit_config(open_zoo(path), lambda c: c.update(parent=None))
    table.drop("parent_id").write_parquet(path / "members.parquet")
    assert_read_fails(lambda: analysis.analyze(dense, [open_zoo(path)]), path, "--parent")


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "unreadable", "gone"])
@pytest.mark.parametrize("name", ["zoo.json", "members.parquet", "metrics.parquet"])
def test_file_that_is_not_a_regular_file(zoo, tmp_path, kind, name):
    """Refused at once, without waiting for a pipe or reading a device."""
    replace_file(zoo.path / name, kind)
    if kind == "gone" and name == "metrics.parquet":
        assert open_zoo(zoo.path).epochs == []  # As before the first epoch.
    elif kind != "unreadable":
        assert_read_fails(lambda: open_zoo(zoo.path).epochs, tmp_path / "zoo")


def test_missing_members(zoo):
    (zoo.path / "members.parquet").unlink()
    with refuses(zoo.path / "members.parquet"):
        open_zoo(zoo.path)


@pytest.mark.parametrize("table", ["members", "metrics"])
@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_truncated_parquet(zoo, table, keep):
    file = zoo.path / f"{table}.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with refuses(file):
        _ = open_zoo(zoo.path).epochs


def test_missing_metrics_mean_no_epochs(zoo):
    """As after an interruption before the first epoch was complete."""
    (zoo.path / "metrics.parquet").unlink()
    reopened = open_zoo(zoo.path)
    assert reopened.epochs == []
    assert reopened.metrics.is_empty()
    assert reopened.members["diverged_epoch"].null_count() == 3
    with refuses("has no completed epoch yet"):
        reopened.params()
