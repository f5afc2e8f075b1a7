"""Public names are listed; old names work, warn with the new name, and are the same objects."""

import subprocess
import sys
import warnings

import polars as pl
import pytest

import zoojax
from tests.support import ROOT, zoo_fixtures
from zoojax import analysis
from zoojax.deprecation import RenamedAttribute, current_name

RENAMED = [(module, old) for module in (analysis,) for old in module._RENAMED]
ZOO_ATTRIBUTES = {
    "roster": "members_table",
    "all_metrics": "metrics_history",
    "effective": "sparse_params",
    "rows": "row_indices",
    "optimizer": "optimizer_state",
}


@pytest.mark.parametrize(("module", "old"), RENAMED, ids=lambda v: getattr(v, "__name__", v))
def test_renamed_function(module, old):
    new = module._RENAMED[old]
    message = f"{module.__name__}.{old} is deprecated .* use {module.__name__}.{new}$"
    with pytest.warns(DeprecationWarning, match=message) as warned:
        function = getattr(module, old)
    assert warned[0].filename == __file__
    assert function is getattr(module, new)
    assert new in module.__all__ and old not in module.__all__ and old not in dir(module)


def test_functions_of_version_0_1(tmp_path_factory, tmp_path):
    spec, grid = zoo_fixtures.spec(tmp_path_factory), zoo_fixtures.GRID
    options = {"epochs": 0, "chunk": zoo_fixtures.CHUNK, "quiet": True}
    with pytest.warns(DeprecationWarning, match=r"use zoojax\.train_zoo$") as warned:
        zoo = zoojax.make_dense(tmp_path / "zoo", "tiny", grid, "small", spec, **options)
    assert warned[0].filename == __file__
    assert zoo.fingerprint == zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=0).fingerprint
    with pytest.warns(DeprecationWarning, match=r"use zoojax\.sparsify$"):
        pruned = zoojax.make_pruned(tmp_path / "mp", zoo, [0.5], scope="layer", **options)
    with pytest.warns(DeprecationWarning, match=r"use zoojax\.sparsify$"):
        dropped = zoojax.make_dropped_out(tmp_path / "vd", zoo, variant="corrected", **options)
    assert [pruned.config.sparsifier, dropped.config.sparsifier] == [
        zoojax.MagnitudePruning((), "layer"),
        zoojax.VariationalDropout("corrected"),
    ]
    assert not {"make_dense", "make_pruned", "make_dropped_out"} & set(dir(zoojax))


@pytest.mark.parametrize("old", ZOO_ATTRIBUTES)
def test_renamed_zoo_attribute(tmp_path_factory, old):
    zoo, new = zoo_fixtures.variational_dropout(tmp_path_factory), ZOO_ATTRIBUTES[old]
    with pytest.warns(DeprecationWarning, match=rf"Zoo\.{old} is deprecated .* Zoo\.{new}$") as w:
        value = getattr(zoo, old)
    assert w[0].filename == __file__
    current = getattr(zoo, new)
    if isinstance(current, pl.DataFrame):
        assert value.equals(current)
    else:
        assert value == current  # A bound method.
        arguments = ([1, 0],) if old == "rows" else ()
        assert zoo_fixtures.same_bits(value(*arguments), current(*arguments))


def test_every_renamed_attribute_is_tested():
    old = {name for name, value in vars(zoojax.Zoo).items() if isinstance(value, RenamedAttribute)}
    assert old == ZOO_ATTRIBUTES.keys()


def test_current_names_do_not_warn(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert current_name("zoojax.analysis", "summary", analysis._RENAMED) == "summary"
        _ = zoojax.train_zoo, analysis.analyze
        _ = zoo_fixtures.variational_dropout(tmp_path_factory).members_table


def test_renamed_attribute_of_a_class_is_itself():
    """Tools that inspect classes, such as documentation builders, get no warning."""
    assert isinstance(zoojax.Zoo.roster, RenamedAttribute)


def test_old_names_do_not_make_the_import_heavy():
    code = "import sys, zoojax; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_dir_lists_public_names():
    assert set(zoojax.__all__) <= set(dir(zoojax))
    assert {"open_zoo", "sparsify", "__version__"} <= set(dir(zoojax))
    assert "importlib" not in dir(zoojax)
