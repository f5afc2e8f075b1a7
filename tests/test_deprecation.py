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

RENAMED = [(module, old) for module in (zoojax, analysis) for old in module._RENAMED]
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


def test_import_of_a_renamed_function():
    with pytest.warns(DeprecationWarning, match=r"use zoojax\.train_zoo") as warned:
        from zoojax import make_dense  # pyright: ignore[reportAttributeAccessIssue]
    assert {w.filename for w in warned} == {__file__}
    assert make_dense is zoojax.train_zoo


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
        assert current_name("zoojax", "train_zoo", zoojax._RENAMED) == "train_zoo"
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
    assert {"open_zoo", "prune_zoo", "__version__"} <= set(dir(zoojax))
    assert "importlib" not in dir(zoojax)
