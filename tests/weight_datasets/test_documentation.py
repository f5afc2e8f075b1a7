"""The examples of docs/weight_datasets.md run and predict accuracy."""

import re

import jax
import pytest
from sklearn.metrics import r2_score

from tests.support import ROOT
from tests.support.weight_zoos import random_zoo
from zoojax import VariationalDropout, WeightDataset, sparsify, train_zoo
from zoojax.hyper_representation.predictors import SplitArrays
from zoojax.hyper_representation.probes import Ridge

TEXT = (ROOT / "docs" / "weight_datasets.md").read_text("utf-8")
EXAMPLES = {
    library: next(
        block
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
        if block.startswith("import") and f"import {library}" in block
    )
    for library in ("torch", "jax")
}


def run(library: str, path, capsys) -> float:
    """Runs an example on another zoo; returns the score that it prints."""
    code = EXAMPLES[library].replace("zoos/usps", str(path))
    exec(compile(code, f"{library} example", "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    score = re.fullmatch(r"R2 on test members: (-?\d\.\d{3})\n", printed)
    assert score is not None, printed
    return float(score[1])


def test_examples_are_short():
    for example in EXAMPLES.values():
        assert len([line for line in example.splitlines() if line.strip()]) < 40


@pytest.mark.parametrize("library", EXAMPLES)
def test_examples_learn(library, tmp_path, monkeypatch, capsys):
    """A function of few parameters, which the accuracies of random zoos are."""
    pytest.importorskip(library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    zoo = random_zoo(tmp_path / "zoo", "chain-28-c2x3-a-g-d", members=100, epochs=9)
    with jax.numpy_rank_promotion("allow"):
        assert run(library, zoo.path, capsys) > 0.8


@pytest.mark.slow
def test_examples_reach_the_ridge_regression_on_usps(data_dir, tmp_path, monkeypatch, capsys):
    """On the states of the zoo of docs/hyper_representations.md; takes many minutes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    zoo = train_zoo("usps-s-seed", tmp_path / "zoo", members=200, data_dir=data_dir, quiet=True)
    twin = sparsify(zoo, VariationalDropout(), tmp_path / "vd", data_dir=data_dir, quiet=True)
    parts = [
        WeightDataset(twin, split=split, target="test_acc", cache=tmp_path / "cache")[:]
        for split in SplitArrays._fields
    ]
    features, targets = (
        SplitArrays(*(x for x, _ in parts)),
        SplitArrays(*(y[:, None] for _, y in parts)),
    )
    r2 = r2_score(targets.test, Ridge("flat").predict(features, targets).test)
    for library in EXAMPLES:
        assert run(library, twin.path, capsys) >= r2
