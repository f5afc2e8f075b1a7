"""Views of members and of several zoos, conditions, vectors and tables."""

import warnings

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zoojax
from tests.support import zoo_fixtures
from zoojax import ZoojaxError
from zoojax.storage import zoo_access
from zoojax.storage.expressions import parse_condition, select_rows

TABLE = pl.DataFrame(
    {
        "seed": [1, 2, 3, 4],
        "acc": [0.1, 0.9, None, float("nan")],
        "init": ["normal", "uniform", "normal", "a'b"],
        "flag": [True, False, True, False],
    }
)


@pytest.fixture
def zoo(tmp_path_factory):
    return zoo_fixtures.dense(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory):
    return zoo_fixtures.pruned(tmp_path_factory)


def same(one, other) -> None:
    """Trees with the same bits."""
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("rows", [[2, 0], slice(1, None), -1, [False, True, True], np.array([0])])
def test_rows_have_the_states_and_tables_of_the_members(zoo, rows):
    positions = np.atleast_1d(np.arange(3)[rows])
    view = zoo[rows]
    assert view.members["id"].to_list() == positions.tolist()
    same(view.state(2), jax.tree.map(lambda x: x[positions], zoo.state(2)))
    same(view.optimizer_state(), jax.tree.map(lambda x: x[positions], zoo.optimizer_state()))
    assert set(view.metrics["member"]) == set(positions.tolist())
    assert view.epochs == zoo.epochs
    np.testing.assert_array_equal(view.flat(1), zoo.flat(1)[positions])


def test_views_of_views_and_rows_of_states(zoo):
    view = zoo[[2, 1]][[1]]
    assert view.members["id"].to_list() == [1]
    same(zoo[[2, 1]].state(1, rows=slice(1, 2)), view.state(1))
    assert [one.members["id"].item() for one in zoo] == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (3, "no row 3"),
        (-4, "no row -4"),
        ([], "no member"),
        (slice(5, 9), "no member"),
        ([0, 0], "more than once"),
        ([0, -3], "more than once"),
        ([True], "1 values for 3 members"),
        ([0.5], "whole numbers"),
        ("0", "whole numbers"),
        (None, "whole number"),
        (True, "whole number"),
        ([[0], [1]], "dimensions"),
        ([[0], [1, 2]], "dimensions"),
        (slice("a", None), "whole numbers"),
        ({0: 1}, "whole numbers"),
    ],
)
def test_invalid_rows_are_refused(zoo, rows, message):
    with pytest.raises(ZoojaxError, match=message) as caught:
        zoo[rows]
    assert "\n" not in str(caught.value)


def test_a_view_can_be_sparsified_analyzed_saved_and_evaluated(zoo, twin, tmp_path):
    view = zoo[[2, 0]]
    own = zoojax.sparsify(view, zoojax.MagnitudePruning(ratios=(0.5,)), epochs=1, quiet=True)
    assert own.members["parent_id"].to_list() == [2, 0]
    # A twin of a view is a twin of the zoo, and has the bits that a twin of the zoo has.
    assert own.config.parent is not None
    assert own.config.parent.fingerprint == zoo.fingerprint
    whole = zoojax.sparsify(zoo, zoojax.MagnitudePruning(ratios=(0.5,)), epochs=1, quiet=True)
    np.testing.assert_array_equal(own.flat(), whole.flat()[[2, 0]])
    tables = zoojax.analyze(view, twin.filter("parent_id != 1"), out=None, quiet=True)
    assert tables.tables["trajectories"].filter(epoch=2)["members"].to_list()[0] == 2
    saved = view.save(tmp_path / "saved")
    assert saved.members["id"].to_list() == [2, 0]
    same(saved.state(2), view.state(2))
    np.testing.assert_array_equal(
        saved.predict(np.zeros((1, 28, 28, 1))), view.predict(np.zeros((1, 28, 28, 1)))
    )
    assert len(view.evaluate(epoch=1)) == 2


def test_masked_twins_have_views(twin):
    view = twin.filter(ratio=0.5)
    rows = np.flatnonzero((twin.members["ratio"] == 0.5).to_numpy())
    same(view.state(2), jax.tree.map(lambda x: x[rows], twin.state(2)))
    assert (view.sparse_params(2)["fc1"]["kernel"] == 0).any()


def test_concatenated_zoos_have_all_members(zoo):
    both = zoojax.concat([zoo[:1], zoo[1:]])
    assert both.members.equals(zoo.members)
    same(both.state(2), zoo.state(2))
    same(both.state(2, rows=slice(1, 3)), zoo.state(2, rows=slice(1, 3)))
    order = ["epoch", "member"]
    assert both.metrics.sort(order).equals(zoo.metrics.sort(order))
    assert zoojax.concat([zoo]) is zoo
    assert both.evaluate(epoch=1).equals(zoo.evaluate(epoch=1))


def test_equal_ids_are_shifted(zoo):
    both = zoojax.concat([zoo, zoo[1:]])
    assert both.members["id"].to_list() == [0, 1, 2, 4, 5]
    assert set(both.metrics["member"]) == {0, 1, 2, 4, 5}
    np.testing.assert_array_equal(both.flat(1)[[3, 4]], zoo.flat(1)[1:])
    np.testing.assert_array_equal(
        both.params(1, members=[5])["fc1"]["bias"][0], zoo.params(1)["fc1"]["bias"][2]
    )
    twin = zoojax.sparsify(both, zoojax.MagnitudePruning(ratios=(0.5,)), epochs=1, quiet=True)
    assert twin.members["parent_id"].to_list() == [0, 1, 2, 4, 5]


def test_twins_of_one_parent_stay_twins(zoo, twin):
    both = zoojax.concat([twin.filter(ratio=0.0), twin.filter(ratio=0.9)])
    assert both.config.parent == twin.config.parent
    assert both.members["parent_id"].to_list() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("zoos", "message"),
    [
        (lambda zoo, twin: [zoo, twin], "their epochs is|their sparsifier is"),
        (lambda zoo, twin: [], "no zoos"),
        (lambda zoo, twin: zoo, "a list"),
        (lambda zoo, twin: [zoo, 3], "a zoo"),
        (lambda zoo, twin: "folder", "a list"),
    ],
)
def test_zoos_that_differ_are_not_joined(zoo, twin, zoos, message):
    with pytest.raises(ZoojaxError, match=message):
        zoojax.concat(zoos(zoo, twin))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("seed < 3", [1, 2]),
        ("not seed < 3", [3, 4]),
        ("1 < seed <= 3", [2, 3]),
        ("seed in (1, 4)", [1, 4]),
        ("seed not in [1, -4]", [2, 3, 4]),
        ("init == 'normal' and flag", [1, 3]),
        ("(init == 'normal') & ~(seed == 1)", [3]),
        ('init == "a\'b" or seed == 1', [1, 4]),
        ("acc == None", [3]),
        ("acc is not None and acc < 0.5", [1]),
        ("seed * 2 - 1 > seed + 1.5", [3, 4]),
        ("-seed > -2", [1]),
        ("seed / 2 == 1", [2]),
        ("True", [1, 2, 3, 4]),
        (pl.col("seed") > 3, [4]),
        (lambda table: table["seed"] > 3, [4]),
        ([True, False, False, True], [1, 4]),
        (np.array([True, False, False, True]), [1, 4]),
    ],
)
def test_conditions_select_rows(condition, expected):
    assert TABLE.filter(select_rows(TABLE, condition))["seed"].to_list() == expected


@pytest.mark.parametrize(
    "condition",
    [
        "",
        "seed",
        "seed <",
        "__import__('os').system('true')",
        "seed.real > 1",
        "seed[0] == 1",
        "(lambda: 1)() == 1",
        "[x for x in (1,)] == 1",
        "f'{seed}' == '1'",
        "missing == 1",
        "seed == 'a'",
        "seed in seed",
        "seed in ((1, 2),)",
        "init > 3",
        "init + 1 == 2",
        "not init",
        "seed == 1j",
        "seed == b'1'",
        "seed == " + "9" * 40,
        "seed == " + "9" * 400,
        "(" * 500 + "seed" + ")" * 500,
        "seed == 1 " * 1000,
        "\0",
        "seed == 1\nimport os",
        "1 is 1",
        "seed := 3",
        "seed ** 9 > 1",
        "'a' * 9",
        "seed == '\ud800'",
        [True],
        [1, 2, 3, 4],
        ["a"] * 4,
        3,
        object(),
        pl.col("missing") == 1,
        lambda table: table,
    ],
)
def test_invalid_conditions_are_refused_in_one_line(condition):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZoojaxError) as caught:
            select_rows(TABLE, condition)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@given(st.text("seedacinitflg0123456789 <>=!()+-*/&|~'\",.[]and or not", max_size=40))
def test_any_text_gives_rows_or_one_line(text):
    try:
        assert len(select_rows(TABLE, text)) == len(TABLE)
    except ZoojaxError as error:
        assert "\n" not in str(error)


def test_expressions_name_columns_only():
    assert str(parse_condition("seed > 1", ["seed"])) == str(pl.col("seed") > pl.lit(1))


def test_filter_by_metrics_of_an_epoch(zoo):
    for epoch in (1, 2):
        best = zoo.metrics.filter(epoch=epoch).sort("test_loss")["member"][0]
        losses = zoo.metrics.filter(epoch=epoch)["test_loss"].sort()
        middle = float((losses[0] + losses[1]) / 2)
        view = zoo.filter(f"test_loss < {middle!r}", epoch=epoch)
        assert view.members["id"].to_list() == [best]
    with pytest.raises(ZoojaxError, match=r"no member of .* meets the condition seed > 99"):
        zoo.filter("seed > 99")
    with pytest.raises(ZoojaxError, match="no column nope"):
        zoo.filter(nope=1)
    with pytest.raises(ZoojaxError, match="no epoch 7"):
        zoo.filter("seed > 0", epoch=7)
    assert len(zoo.filter()) == 3


def test_flat_vectors_and_their_inverse(zoo, twin):
    for one in (zoo, twin):
        same(one.unflatten(one.flat(2)), one.sparse_params(2))
        same(one.unflatten(one.flat(2, "torch"), "torch"), one.sparse_params(2))
        same(one.unflatten(one.flat(2)[1]), jax.tree.map(lambda x: x[1], one.sparse_params(2)))
    with pytest.raises(ZoojaxError, match="no layout keras; there are: flax, torch"):
        zoo.flat(2, "keras")
    for wrong in (np.zeros((3, 7)), np.zeros(()), []):
        with pytest.raises(ZoojaxError, match="has 2464 parameters"):
            zoo.unflatten(wrong)


def test_torch_vectors_are_those_of_torch(zoo):
    """The state dict of the exported member, joined by PyTorch."""
    torch = pytest.importorskip("torch")
    from zoojax.converters import zoo_to_torch

    for row, vector in enumerate(zoo.flat(2, "torch")):
        state = zoo_to_torch.state_dict(zoo, row, 2)
        joined = torch.cat([tensor.ravel() for tensor in state.values()])
        np.testing.assert_array_equal(joined.numpy(), vector)


@pytest.mark.parametrize("package", ["pandas", "xarray"])
def test_a_missing_package_is_named(zoo, package, monkeypatch):
    monkeypatch.setattr(zoo_access, "find_spec", lambda name: None)
    with pytest.raises(ZoojaxError, match=f"needs {package}; .*pip install 'zoojax\\[tables\\]'"):
        getattr(zoo, f"to_{package}")()


def test_pandas(zoo):
    pytest.importorskip("pandas")
    frame = zoo.to_pandas()
    assert len(frame) == 9 and frame["seed"].tolist() == [1, 2, 3] * 3
    np.testing.assert_array_equal(frame["test_acc"], zoo.metrics["test_acc"])


def test_xarray(zoo):
    pytest.importorskip("xarray")
    data = zoo.to_xarray()
    assert data.sizes == {"member": 3, "epoch": 3}
    expected = zoo.metrics.filter(epoch=1)["test_acc"].to_numpy()
    np.testing.assert_array_equal(data["test_acc"].sel(epoch=1), expected)
    assert data["seed"].values.tolist() == [1, 2, 3]
