"""Tables of the geometry of a zoo and its twins: means over members or pairs, with intervals."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from zoojax import geometry
from zoojax.analysis.pairing import last_epoch
from zoojax.analysis.results import Analysis, Method
from zoojax.errors import ZoojaxError
from zoojax.geometry.arguments import check_count
from zoojax.geometry.members import Members, Show
from zoojax.intervals import mean_interval
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable

PREFIX = "geometry_"
# Members and training images of an analysis, and those of its curvature.
MEMBERS, IMAGES = 64, 256
CURVED_MEMBERS, CURVED_IMAGES = 32, 128
# Random vectors, Lanczos steps and eigenvalues.
SAMPLES, STEPS, EIGENVALUES = 20, 20, 5
# Columns of the table of masks that are averaged.
OVERLAPS = ("sparsity", "iou", "aligned", "chance", "shuffled")
# Intervals of fewer values are not reported.
_MIN_VALUES = 3


def summarize(table: pl.DataFrame, keys: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    """Averages columns over the rows of groups, with 95 % intervals of the means.

    Args:
        table: One row per member or pair.
        keys: Columns that identify a group.
        names: Columns to average; null and NaN are left out.

    Returns:
        One row per group, in the order of their first rows: the keys, `members` (rows) and for each
        column its mean, `NAME_low` and `NAME_high`. The interval is null below three values; see
        `zoojax.intervals.mean_interval`.
    """
    rows = []
    for values, group in table.group_by(keys, maintain_order=True):
        row = dict(zip(keys, values, strict=True)) | {"members": len(group)}
        for name in names:
            column = group[name].cast(pl.Float64).drop_nulls().to_numpy()
            finite = column[np.isfinite(column)]
            low, high = mean_interval(finite) if len(finite) >= _MIN_VALUES else (None, None)
            mean = float(finite.mean()) if len(finite) else None
            row |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    numbers = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    known = {name: table.schema[name] for name in keys} | {"members": pl.Int64}
    return pl.DataFrame(rows, schema=known | dict.fromkeys(numbers, pl.Float64))


def curvature_tables(
    zoo: Zoo,
    *,
    epoch: int | None = None,
    members: Sequence[int] | None = None,
    images: int,
    samples: int | None,
    steps: int,
    count: int,
    data_dir: Path | None = None,
    show: Show = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Computes the curvature of the loss on training images at the members of a zoo.

    Args:
        zoo: The zoo.
        epoch: Epoch; None for the newest.
        members: Ids of the members; None for all.
        images: Number of training images, the first ones.
        samples: Random vectors of Hutchinson's estimate of the trace; None for the exact trace.
        steps: Lanczos steps.
        count: Number of eigenvalues.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.
        show: Called with the numbers of completed and of all members.

    Returns:
        The tables of `geometry.hessian_trace` and `geometry.top_eigenvalues`, with column `ratio`
        (null without ratios).

    Raises:
        ZoojaxError: If an argument is invalid, or images or states are missing.
    """
    pixels, labels = training_images(zoo, images, data_dir)
    chosen = geometry.members_at(zoo, epoch, members)
    total = 2 * len(chosen)
    first = None if show is None else lambda done, _: show(done, total)
    second = None if show is None else lambda done, _: show(len(chosen) + done, total)
    trace = geometry.hessian_trace(chosen, pixels, labels, samples=samples, show=first)
    values = geometry.top_eigenvalues(chosen, pixels, labels, count=count, steps=steps, show=second)
    return _with_ratio(chosen, trace), _with_ratio(chosen, values)


def training_images(
    zoo: Zoo, count: int, data_dir: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first training images of a zoo and their labels.

    Raises:
        ZoojaxError: If the count is not a whole number of 1 or more, or the images are missing.
    """
    check_count("images", count)
    train = load_images(zoo, data_dir).train
    return train.images[:count], train.labels[:count]


def _with_ratio(members: Members, table: pl.DataFrame) -> pl.DataFrame:
    if "ratio" not in members.table.columns:
        return table.with_columns(pl.lit(None, pl.Float64).alias("ratio"))
    ratios = members.table.select(pl.col("id").alias("member"), "ratio")
    return table.join(ratios, on="member", how="left", maintain_order="left")


def transfer_summary(table: pl.DataFrame) -> pl.DataFrame:
    """Averages the table of `geometry.transfer_table` over targets.

    Args:
        table: The table.

    Returns:
        One row per ratio, epoch and mask: `members`, mean `test_acc`, and the mean differences
        `to_own` and `to_random` of the accuracy to that of the same member pruned with its own mask
        and with the random one (null if there is none), each with its 95 % interval.
    """
    keys = ["target", "ratio", "epoch"]
    joined = table
    for name in ("own", "random"):
        other = table.filter(mask=name).select(*keys, pl.col("test_acc").alias("other"))
        joined = joined.join(other, on=keys, how="left", maintain_order="left")
        joined = joined.with_columns((pl.col("test_acc") - pl.col("other")).alias(f"to_{name}"))
        joined = joined.drop("other")
    names = ["test_acc", "to_own", "to_random"]
    return summarize(joined.sort("ratio", "epoch", maintain_order=True), [*keys[1:], "mask"], names)


def add_geometry(
    analysis: Analysis, data_dir: Path | None, report_step: Callable[[str], None]
) -> None:
    """Adds the geometry tables to an analysis, or a note for each that cannot be computed.

    Similarities are those of pairs of the first `MEMBERS` members. Curvature is that of the first
    `CURVED_MEMBERS` members.

    Args:
        analysis: The analysis, which is changed.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.
        report_step: Called with the name of each step before it starts.
    """
    parts: tuple[tuple[str, Callable[[Analysis, Path | None], dict[str, pl.DataFrame]]], ...] = (
        ("weight space", _similarity),
        ("similarity of layers", _layers),
        ("curvature", _curvature),
        ("barriers", _barriers),
        ("overlap of masks", _masks),
    )
    for name, compute in parts:
        report_step(f"geometry, {name}")
        try:
            tables = compute(analysis, data_dir)
        except ZoojaxError as error:
            analysis.notes.append(f"Geometry, {name}: {printable(error, 1000)}.")
            continue
        analysis.tables |= {PREFIX + key: table for key, table in tables.items() if len(table)}


def _first_members(zoo: Zoo, count: int | None = None) -> list[int]:
    return zoo.members_table["id"].head(MEMBERS if count is None else count).to_list()


def _similarity(analysis: Analysis, data_dir: Path | None) -> dict[str, pl.DataFrame]:
    zoo = analysis.zoo
    members = geometry.members_at(zoo, members=_first_members(zoo))
    distance, cosine = geometry.weight_similarity(members.params)
    ids = np.array(members.ids)
    rows, columns = (index.ravel() for index in np.indices(distance.shape))
    pairs = pl.DataFrame(
        {
            "member": ids[rows],
            "other": ids[columns],
            "distance": distance.ravel(),
            "cosine": cosine.ravel(),
        }
    )
    return {"similarity": geometry.similarity_by_epoch(zoo), "pairs": pairs}


def _layers(analysis: Analysis, data_dir: Path | None) -> dict[str, pl.DataFrame]:
    images, _ = training_images(analysis.zoo, IMAGES, data_dir)
    members = geometry.members_at(analysis.zoo, members=_first_members(analysis.zoo))
    return {"layers": geometry.layer_similarity(members, geometry.cka(members, images))}


def _curvature(analysis: Analysis, data_dir: Path | None) -> dict[str, pl.DataFrame]:
    parents, traces, values = _first_members(analysis.zoo, CURVED_MEMBERS), [], []
    for method in analysis.methods:
        chosen = _compared_members(method, parents)
        trace, eigenvalues = curvature_tables(
            method.zoo,
            epoch=last_epoch(method.zoo.metrics),
            members=chosen,
            images=CURVED_IMAGES,
            samples=SAMPLES,
            steps=STEPS,
            count=EIGENVALUES,
            data_dir=data_dir,
        )
        key = pl.lit(method.key).alias("method")
        traces.append(trace.select(key, pl.all()))
        values.append(eigenvalues.select(key, pl.all()))
    keys = ["method", "ratio", "epoch"]
    by_rank = pl.concat(values)
    top = by_rank.filter(rank=1).select("method", "member", "eigenvalue")
    joined = pl.concat(traces).join(top, on=["method", "member"], maintain_order="left")
    order = joined.sort("method", "ratio", maintain_order=True)
    return {
        "curvature": summarize(order, keys, ["loss", "trace", "eigenvalue"]),
        "eigenvalues": summarize(
            by_rank.sort("method", "ratio", "rank"), [*keys, "rank"], ["eigenvalue"]
        ),
    }


def _compared_members(method: Method, parents: list[int]) -> list[int]:
    """Ids of the members that are among some parents, or whose parents are."""
    table = method.zoo.members_table
    column = "id" if method.zoo.config.is_dense else "parent_id"
    return table.filter(pl.col(column).is_in(parents))["id"].to_list()


def barrier_summary(table: pl.DataFrame) -> pl.DataFrame:
    """Averages the table of `geometry.basins` over lines.

    Args:
        table: The table; columns in front of `line`, such as `method`, are kept.

    Returns:
        One row per kind of line, ratio and whether the ends were aligned: `members` (lines), and
        means of `loss_barrier`, `acc_barrier`, `target_acc` and `source_acc` with their 95 %
        intervals.
    """
    keys = [*table.columns[: table.columns.index("line")], "line", "ratio", "aligned"]
    return summarize(table, keys, ["loss_barrier", "acc_barrier", "target_acc", "source_acc"])


def _barriers(analysis: Analysis, data_dir: Path | None) -> dict[str, pl.DataFrame]:
    parts = []
    for method in analysis.twin_methods():
        table = geometry.basins(analysis.zoo, method.zoo, data_dir=data_dir)
        parts.append(table.select(pl.lit(method.key).alias("method"), pl.all()))
    return {"barriers": barrier_summary(pl.concat(parts))} if parts else {}


def _masks(analysis: Analysis, data_dir: Path | None) -> dict[str, pl.DataFrame]:
    parts = []
    for method in analysis.twin_methods():
        table = geometry.mask_overlap(analysis.zoo, method.zoo)
        parts.append(table.select(pl.lit(method.key).alias("method"), pl.all()))
    if not parts:
        return {}
    return {"masks": summarize(pl.concat(parts), ["method", "ratio"], list(OVERLAPS))}
