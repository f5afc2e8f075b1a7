"""Figures show the numbers of the tables, whatever a zoo lacks, and are the same each time."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from tests.support import synthetic_zoos
from zoojax import figures
from zoojax.analysis import Analysis, analyze
from zoojax.analysis.summaries import kernel_shapes
from zoojax.architectures import cnn
from zoojax.figures import agreement, before_after, weights

RATIOS = (0.0, 0.5, 0.9)
MEMBERS = 6
# Those of a hyper-representation have tests of their own.
OWN = [name for name in figures.FIGURES if not name.startswith("representation_")]


def any_weights(config, seeds: list[int]) -> dict:
    """Instead of the initialisers', which take half a minute to compile."""
    shapes = jax.eval_shape(lambda: cnn.init_params(config.shape, "uniform", 0))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, (len(seeds), *leaf.shape)).astype(np.float32), shapes
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Analysis:
    """A zoo of six with both twins, as `analyse` finds it."""
    folder = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_zoos, "_params", any_weights)
        zoo = synthetic_zoos.dense(folder / "dense", MEMBERS)
    mp = synthetic_zoos.pruned(folder / "mp", zoo, RATIOS)
    vd = synthetic_zoos.dropped_out(folder / "vd", zoo, 10)
    return analyze(zoo, [mp, vd])


@pytest.fixture(scope="session")
def full(made) -> Analysis:
    """As `made`, with predictions, which take more members."""
    rows = [
        (method, ratio, epoch, target, features, 40, 0.1 * i - 0.6)
        for i, (method, ratio, epoch, target, features) in enumerate(
            (method, ratio, epoch, target, features)
            for method, ratio, epoch in (("mp", 0.5, 15), ("mp", 0.9, 15), ("vd", None, 10))
            for target in ("test_acc", "change")
            for features in ("layer statistics", "dense accuracy")
        )
    ]
    columns = ["method", "ratio", "epoch", "target", "features", "members", "r2"]
    table = pl.DataFrame(rows, schema=columns, orient="row")
    return replace(made, tables={**made.tables, "predictability": table})


def only(found: Analysis, *kinds: str) -> Analysis:
    """An analysis of fewer twins."""
    tables = {
        name: table.filter(pl.col("method").is_in(["dense", *kinds]))
        for name, table in found.tables.items()
        if "method" in table.columns
    }
    matrices = {
        name: matrix
        for name, matrix in found.matrices.items()
        if name == "dense" or any(f"{kind} " in name for kind in kinds)
    }
    twins = [twin for twin in found.twins if twin.config.kind in kinds]
    tables = {name: table for name, table in tables.items() if len(table)}
    return replace(found, twins=twins, tables=tables, matrices=matrices)


def drawn(name: str, found: Analysis) -> Figure:
    figure = figures.FIGURES[name](found)
    assert figure is not None
    return figure


def labelled(axes, label: str):
    """The one line with a label."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def points(line) -> np.ndarray:
    """Of a line, [points, 2]."""
    return np.column_stack([np.asarray(line.get_xdata()), np.asarray(line.get_ydata())])


def bars_of(axes, label: str):
    """The one errorbar or bar container with a label."""
    (container,) = [c for c in axes.containers if c.get_label() == label]
    return container


def texts(figure: Figure) -> str:
    """All that is written in a figure."""
    figure.draw_without_rendering()
    artists = figure.findobj(lambda artist: isinstance(artist, Text))
    return "\n".join(artist.get_text() for artist in artists if isinstance(artist, Text))


def rows(found: Analysis, table: str, **values) -> pl.DataFrame:
    return found.tables[table].filter(
        *(pl.col(name).eq_missing(pl.lit(value)) for name, value in values.items())
    )


@pytest.fixture(scope="session")
def written(full, tmp_path_factory) -> list[Path]:
    """The PNG files of all figures."""
    return figures.draw(full, tmp_path_factory.mktemp("written") / "new" / "figures")


def test_all_are_written_in_both_forms(written):
    assert [path.stem for path in written] == OWN
    for path in written:
        with Image.open(path) as image:
            image.verify()
        assert ET.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")
        assert path.with_suffix(".svg").stat().st_size < 200_000
    names = {path.name for path in written[0].parent.iterdir()}
    assert names == {f"{name}.{kind}" for name in OWN for kind in ("svg", "png")}


def test_drawing_twice_gives_the_same_bytes(full, written, tmp_path, monkeypatch):
    names = ("pruning_frequency", "methods")
    monkeypatch.setattr(figures, "FIGURES", {name: figures.FIGURES[name] for name in names})
    again = figures.draw(full, tmp_path)
    assert len(again) == len(names)
    for path in again:
        for file in (path, path.with_suffix(".svg")):
            assert file.read_bytes() == (written[0].parent / file.name).read_bytes()


def test_settings_of_a_user_change_nothing_and_stay(full):
    import matplotlib as mpl

    with mpl.rc_context({"axes.labelsize": 30, "axes.grid": False}):
        figure = drawn("methods", full)
        assert mpl.rcParams["axes.labelsize"] == 30
    assert figure.axes[0].xaxis.label.get_fontsize() == 9


def test_missing_twins(full):
    dense, mp, vd = only(full), only(full, "mp"), only(full, "vd")

    def names(found: Analysis) -> set[str]:
        return {name for name, make in figures.FIGURES.items() if make(found) is not None}

    alone = {"trajectories", "agreement_matrix"}
    assert names(dense) == alone
    assert names(mp) == names(vd) == set(OWN) - {"methods", "pruning_frequency_mp"}
    assert "50 %" in texts(drawn("pruning_frequency", mp))
    assert "epoch 5" in texts(drawn("pruning_frequency", vd))
    assert "epoch 5" in texts(drawn("pruning_frequency", full))
    assert "90 % pruned" in texts(drawn("layer_size", mp))
    assert "epoch 10" in texts(drawn("layer_size", full))
    assert [len(drawn("trajectories", found).axes) for found in (dense, mp, vd, full)] == [
        *(1, 2, 3, 4)
    ]
    assert figures.FIGURES["agreement_matrix"](replace(full, matrices={})) is None


def test_trajectories_show_members_and_means(full):
    dense, mp, vd, sparsity = drawn("trajectories", full).axes
    for axes, method, quantity in (
        (dense, "dense", "test_acc"),
        (vd, "vd", "test_acc"),
        (sparsity, "vd", "sparsity"),
    ):
        table = rows(full, "trajectories", method=method).sort("epoch")
        mean = points(axes.get_lines()[-1])
        assert mean[:, 0].tolist() == table["epoch"].to_list()
        np.testing.assert_allclose(mean[:, 1], 100 * table[f"{quantity}_mean"].to_numpy())
        (members,) = [c for c in axes.collections if isinstance(c, LineCollection)]
        assert len(members.get_segments()) == MEMBERS
        third = rows(full, "members", method=method, member=3).sort("epoch")
        np.testing.assert_allclose(
            members.get_segments()[3],
            np.column_stack([third["epoch"], 100 * third[quantity].to_numpy()]),
            rtol=1e-6,
        )
    for ratio in RATIOS:
        table = rows(full, "trajectories", method="mp", ratio=ratio).sort("epoch")
        mean = points(labelled(mp, f"{100 * ratio:.0f} %"))[:, 1]
        np.testing.assert_allclose(mean, 100 * table["test_acc_mean"].to_numpy())
    colours = [labelled(mp, f"{100 * ratio:.0f} %").get_color() for ratio in RATIOS]
    assert len({tuple(colour) for colour in colours}) == len(RATIOS)


def test_many_members_are_rasterized(full):
    members = full.tables["members"]
    many = pl.concat(members.with_columns(pl.col("member") + 1000 * i) for i in range(40))
    crowded = replace(full, tables={**full.tables, "members": many})
    for found, rasterized in ((full, False), (crowded, True)):
        axes = drawn("trajectories", found).axes[0]
        (lines,) = [c for c in axes.collections if isinstance(c, LineCollection)]
        assert lines.get_rasterized() == rasterized


def test_members_that_diverge_end_and_are_counted(full):
    late = (pl.col("member") == 2) & (pl.col("epoch") >= 4) & (pl.col("method") == "vd")
    members = full.tables["members"].with_columns(
        finite=pl.col("finite") & ~late,
        # Numbers may stay after others of a member are gone.
        test_acc=pl.when(late & (pl.col("epoch") > 5)).then(float("nan")).otherwise("test_acc"),
    )
    found = replace(full, tables={**full.tables, "members": members})
    figure = drawn("trajectories", found)
    (lines,) = figure.axes[2].collections
    assert isinstance(lines, LineCollection)
    assert [len(segment) for segment in lines.get_segments()] == [11, 11, 4, 11, 11, 11]
    assert "1 of 6 (variational dropout)" in texts(figure)
    assert "divergence" not in texts(drawn("trajectories", full))


def test_a_kernel_is_drawn_in_tiles():
    kernel = np.arange(2 * 3 * 2 * 4, dtype=float).reshape(2, 3, 2, 4)
    image = weights.kernel_image(kernel.ravel(), kernel.shape)
    assert image.shape == (2 * 2 + 1, 4 * 3 + 3)
    np.testing.assert_array_equal(image[3:5, 8:11], kernel[:, :, 1, 2])
    assert np.isnan(image[2]).all() and np.isnan(image[:, [3, 7, 11]]).all()
    assert np.isnan(image).sum() == image.size - kernel.size
    np.testing.assert_array_equal(
        weights.kernel_image(np.arange(6.0), (2, 3)), np.arange(6.0).reshape(2, 3)
    )


@pytest.mark.parametrize(
    ("name", "method", "key", "values"),
    [
        ("pruning_frequency", "vd", "epoch", [5, 10]),
        ("pruning_frequency_mp", "mp", "ratio", [0.5, 0.9]),
    ],
)
def test_pruning_frequency_shows_the_table(full, name, method, key, values):
    images = [axes.images[0] for axes in drawn(name, full).axes if axes.images]
    shapes = kernel_shapes(full.zoo)
    places = [(value, layer) for value in values for layer in shapes]
    assert len(images) == len(places)
    for (value, layer), image in zip(places, images, strict=True):
        table = rows(full, "pruning_frequency", method=method, layer=layer, **{key: value})
        kernel = table.sort("weight")["frequency"].to_numpy().reshape(shapes[layer])
        shown = np.asarray(image.get_array())
        tile = kernel if kernel.ndim == 2 else kernel[:, :, -1, 1]
        where = np.s_[:, :]
        if kernel.ndim == 4:
            height, width = kernel.shape[:2]
            where = np.s_[-height:, width + 1 : 2 * width + 1]
        np.testing.assert_allclose(shown[where], 100 * tile)
        assert image.get_clim() == (0, 100)


def test_layer_size_shows_the_table(full):
    figure = drawn("layer_size", full)
    axes = figure.axes[0]
    for epoch in (5, 10):
        shown = points(bars_of(axes, f"epoch {epoch}")[0])
        table = rows(full, "layer_sparsity", method="vd", epoch=epoch)
        means = dict(table.select("layer", "mean").rows())
        # conv1 and fc2 have 200 weights each.
        both = (means["conv1"] + means["fc2"]) / 2
        wanted = [means["conv3"], both, means["fc1"], means["conv2"]]
        np.testing.assert_allclose(shown[:, 1], 100 * np.array(wanted), rtol=1e-5)
        np.testing.assert_allclose(shown[:, 0], [96, 200, 720, 1200], rtol=0.05)
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert "conv1\nfc2" in texts(figure)


def test_layers_of_equal_size_are_pooled():
    one, other = np.array([0.2, 0.4, 0.6]), np.array([0.7, 0.8, 0.9])
    table = pl.DataFrame(
        {
            "weights": [8, 8, 9, 10],
            "mean": [one.mean(), other.mean(), 0.0, None],
            "std": [one.std(), other.std(), 0.0, None],
        }
    )
    pooled = np.concatenate([one, other])
    (row,) = weights.pool_equal_sizes(table).rows(named=True)
    assert row["weights"] == 8
    assert row["mean"] == pytest.approx(pooled.mean())
    assert row["std"] == pytest.approx(pooled.std())


def test_accuracy_over_sparsity_shows_the_tables(full):
    ends = {"above_difference": [0.01], "below_difference": [-0.01]}
    crossing = pl.DataFrame({"above": [0.7], "below": [0.8], **ends})
    full = replace(full, tables={**full.tables, "crossing": crossing})
    axes = drawn("accuracy_over_sparsity", full).axes[0]
    mp = rows(full, "trajectories", method="mp", epoch=15).sort("ratio")
    vd = rows(full, "trajectories", method="vd").sort("epoch")
    for label, table in (
        ("magnitude pruning, by ratio, epoch 15", mp),
        ("variational dropout, by epoch", vd),
    ):
        line = points(labelled(axes, label))
        np.testing.assert_allclose(line[:, 0], 100 * table["sparsity_mean"].to_numpy())
        np.testing.assert_allclose(line[:, 1], 100 * table["test_acc_mean"].to_numpy())
    dense = rows(full, "trajectories", method="dense", epoch=50)["test_acc_mean"][0]
    assert points(labelled(axes, "dense"))[:, 1] == pytest.approx([100 * dense] * 2)
    (band,) = [p for p in axes.patches if p.get_label() == "crossover between 70 % and 80 %"]
    assert isinstance(band, Rectangle)
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((70, 80))
    none = crossing.with_columns(pl.lit(None, pl.Float64).alias("above"))
    without = replace(full, tables={**full.tables, "crossing": none})
    assert "crossover" not in texts(drawn("accuracy_over_sparsity", without))


def test_methods_show_the_table(full):
    table = pl.DataFrame(
        {
            "sparsity": [0.5, 0.7, 0.9],
            "members": [MEMBERS, 4, 0],
            "mp_acc": [0.8, 0.7, None],
            "vd_acc": [0.7, 0.9, None],
            "difference": [0.1, -0.2, None],
            "low": [0.08, -0.25, None],
            "high": [0.15, -0.1, None],
        }
    )
    figure = drawn("methods", replace(full, tables={**full.tables, "methods": table}))
    axes = figure.axes[0]
    (bars,) = axes.containers
    assert points(bars[0]) == pytest.approx(np.array([[50, 10], [70, -20]]))
    ends = [segment[:, 1].tolist() for segment in bars[2][0].get_segments()]
    assert ends == [pytest.approx([8, 15]), pytest.approx([-25, -10])]
    numbers = {text.get_text() for text in axes.texts}
    assert "4" in numbers and str(MEMBERS) not in numbers
    low, high = axes.get_ylim()
    assert low < -25 and high > 15
    nothing = replace(full, tables={**full.tables, "methods": table.filter(members=0)})
    assert figures.FIGURES["methods"](nothing) is None


def test_correlation_shows_members_and_coefficients(full):
    # Of each epoch another, or a wrong one would do.
    table = full.tables["correlation"].with_columns(
        pearson=-pl.col("epoch") / 100, kendall=pl.col("epoch") / 50
    )
    full = replace(full, tables={**full.tables, "correlation": table})
    mp, vd = drawn("correlation", full).axes
    dots = {c.get_label(): np.asarray(c.get_offsets()) for c in mp.collections}
    assert len(dots) == len(RATIOS)
    for ratio, (label, offsets) in zip(RATIOS, dots.items(), strict=True):
        assert label == f"{100 * ratio:.0f} % sparse: r = −0.15, τ = 0.30"
        table = rows(full, "friendliness", method="mp", ratio=ratio)
        wanted = 100 * table.select("dense_acc", "test_acc").to_numpy()
        np.testing.assert_allclose(offsets, wanted, rtol=1e-6)
    (compared,) = rows(full, "friendliness", method="vd")["epoch"].unique()
    assert compared < full.tables["correlation"].filter(method="vd")["epoch"].to_numpy().max()
    assert vd.get_title() == f"variational dropout, epoch {compared}"
    assert f"r = −{compared / 100:.2f}, τ = {compared / 50:.2f}" in str(
        vd.collections[0].get_label()
    )
    assert len(np.asarray(vd.collections[0].get_offsets())) == MEMBERS


def test_at_most_five_ratios_the_largest_among_them(full):
    table = rows(full, "friendliness", method="mp", ratio=0.9)
    ratios = [i / 10 for i in range(10)]
    many = pl.concat(table.with_columns(pl.lit(r).alias("ratio")) for r in ratios)
    coefficients = rows(full, "correlation", method="mp", ratio=0.9)
    shown = pl.concat(coefficients.with_columns(pl.lit(r).alias("ratio")) for r in ratios)
    found = replace(full, tables={**full.tables, "friendliness": many, "correlation": shown})
    labels = [c.get_label() for c in drawn("correlation", found).axes[0].collections]
    assert [str(label).split()[0] for label in labels] == ["0", "20", "40", "70", "90"]


def test_correlations_that_are_null(full):
    names = [f"{n}{end}" for n in ("pearson", "kendall") for end in ("", "_low", "_high")]
    gone = pl.col("ratio") == 0.5
    table = full.tables["correlation"].with_columns(
        pl.when(gone).then(None).otherwise(pl.col(name)).alias(name) for name in names
    )
    found = replace(full, tables={**full.tables, "correlation": table})
    assert "50 % sparse: r = none, τ = none" in texts(drawn("correlation", found))
    bars = bars_of(
        drawn("correlation_over_sparsity", found).axes[0], "magnitude pruning, by ratio, epoch 15"
    )
    assert points(bars[0])[:, 0] == pytest.approx([0, 90])
    nothing = table.with_columns(pl.lit(None, pl.Float64).alias(name) for name in names)
    found = replace(full, tables={**full.tables, "correlation": nothing})
    assert figures.FIGURES["correlation_over_sparsity"](found) is None


def test_correlation_over_sparsity_shows_the_table(full):
    figure = drawn("correlation_over_sparsity", full)
    for axes, name in zip(figure.axes, ("pearson", "kendall"), strict=True):
        table = rows(full, "correlation", method="mp", epoch=15).sort("ratio")
        bars = bars_of(axes, "magnitude pruning, by ratio, epoch 15")
        np.testing.assert_allclose(points(bars[0])[:, 1], table[name].to_numpy())
        low = [segment[:, 1].min() for segment in bars[2][0].get_segments()]
        wanted = np.minimum(table[f"{name}_low"].to_numpy(), table[name].to_numpy())
        np.testing.assert_allclose(low, wanted)
        line = labelled(axes, "variational dropout, by epoch")
        table = rows(full, "correlation", method="vd").sort("epoch")
        np.testing.assert_allclose(points(line)[:, 1], table[name].to_numpy())


def test_bars_are_the_r2_and_cut_ones_say_so(full):
    for axes, target in zip(
        drawn("predictability", full).axes, ("test_acc", "change"), strict=True
    ):
        said = {text.get_text() for text in axes.texts}
        for features in ("layer statistics", "dense accuracy"):
            wanted = rows(full, "predictability", target=target, features=features)["r2"].to_numpy()
            heights = [bar.get_height() for bar in bars_of(axes, features)]
            assert heights == pytest.approx(np.maximum(wanted, before_after.MIN_R2))
            for value in wanted:
                assert (f"{value:.2f}".replace("-", "−") in said) == (value < before_after.MIN_R2)


def test_nothing_predicted_no_figure(made):
    assert made.tables["predictability"]["r2"].null_count() == len(made.tables["predictability"])
    assert figures.FIGURES["predictability"](made) is None


def test_agreement_is_ordered_by_one_clustering(full):
    generator = np.random.default_rng(0)
    group = np.array([0, 1, 0, 1, 0, 1])
    dense = 0.3 + 0.5 * (group[:, None] == group) + 0.01 * generator.random((6, 6))
    dense = (dense + dense.T) / 2
    np.fill_diagonal(dense, 1)
    twin = generator.random((6, 4))
    found = replace(full, matrices={"dense": dense, "mp 80%": twin[:4], "dense and mp 80%": twin})
    order = agreement.cluster_order(dense)
    assert sorted(order) == list(range(6))
    assert np.abs(np.diff(group[order])).sum() == 1
    panels = drawn("agreement_matrix", found).axes[:3]
    shown = [np.asarray(axes.images[0].get_array()) for axes in panels]
    few = [member for member in order if member < 4]
    np.testing.assert_allclose(shown[0], 100 * dense[np.ix_(order, order)])
    np.testing.assert_allclose(shown[1], 100 * twin[np.ix_(order, few)])
    np.testing.assert_allclose(shown[2], 100 * twin[np.ix_(few, few)])
    assert panels[1].get_title() == "dense zoo and MP twin (80 %)"
    limits = {axes.images[0].get_clim() for axes in panels}
    assert len(limits) == 1
    # Of members with themselves the scale knows nothing.
    assert limits.pop()[1] == pytest.approx(100 * max(dense[dense < 1].max(), twin.max()))


@pytest.mark.parametrize("members", [1, 2, 6])
def test_agreement_of_few_and_of_unknown(full, members):
    matrix = np.full((members, members), 0.5)
    np.fill_diagonal(matrix, 1)
    matrix[-1] = matrix[:, -1] = np.nan
    drawn("agreement_matrix", replace(full, matrices={"dense": matrix})).draw_without_rendering()


def test_at_most_four_matrices(full):
    assert len(full.matrices) == 5
    panels = [axes for axes in drawn("agreement_matrix", full).axes if axes.images]
    assert len(panels) == 4
    assert panels[0].get_title() == "dense zoo"
    assert panels[1].get_title().startswith("dense zoo and VD twin (epoch ")
    assert panels[2].get_title() == "dense zoo and MP twin (90 %)"
