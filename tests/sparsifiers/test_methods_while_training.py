"""Methods that prune while they train, end to end through the command line."""

import numpy as np
import pytest

from tests.support.zoo_fixtures import assert_refused, cli, dense, same_bits
from zoojax import open_zoo, sparsify
from zoojax.runtime import population
from zoojax.sparsifiers.registry import sparsifiers

COMMANDS = {
    "gradual-magnitude": "--ratios 0.5 0.9 --end 0.6 --frequency 3 --scope layer",
    "iterative-magnitude": "--ratios 0.4 0.8 --rewind-epoch 1 --schedule cosine",
    "static-sparse": "--ratios 0.5 0.9 --scope er --start magnitude",
    "set": "--ratios 0.5 0.9 --replaced 0.2",
    "rigl": "--ratios 0.5 0.9 --frequency 2",
    "straight-through": "--ratios 0.5 0.9 --scope erk",
    "top-kast": "--ratios 0.5 0.9 --explored 0.3 --frequency 2",
    "l0": "--penalties 0.001 0.1 --gate-rate 100",
    "variational-dropout": "--kl-weight 0.1 --warmup 2 --threshold 2",
}


SLOW = ("static-sparse", "set", "straight-through", "top-kast", "variational-dropout")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in COMMANDS]
)
def test_a_member_is_its_own_whatever_its_neighbors(tmp_path_factory, tmp_path, name):
    """All members by command, and some of them in memory: with the same bits."""
    parent, options = dense(tmp_path_factory), COMMANDS[name].split()
    shared = ["--epochs", 2, "--chunk", 2, "--quiet"]
    done = cli(
        tmp_path_factory,
        *("sparsify", name, parent.path, "--out", tmp_path / "twin"),
        *options,
        *shared,
    )
    assert done.returncode == 0, done.stderr
    twin = open_zoo(tmp_path / "twin")
    kind = sparsifiers()[name.replace("-", "_")]
    table = twin.members_table
    values = {option: tuple(table[name].unique()) for option, name in kind.per_member.items()}
    sparsifier = kind(**{**twin.config.sparsifier.shared_options(), **values})
    assert sparsifier.shared() == twin.config.sparsifier
    some = sparsify(parent, sparsifier, epochs=2, chunk=2, members=[2], quiet=True)
    rows = np.flatnonzero(table["parent_id"].to_numpy() == 2)
    assert len(rows) == len(some)
    for epoch in range(3):
        assert same_bits(some.state(epoch), population.take(twin.state(epoch), rows))
    assert twin.metrics["finite"].all()


@pytest.mark.parametrize(
    "words, named",
    [
        ("gradual-magnitude --begin 0.9 --end 0.5", "begin 0.9 is not below end 0.5"),
        ("iterative-magnitude --rewind-epoch 7", "no epoch 7 to rewind to"),
        ("rigl --frequency 0", "frequency"),
        ("l0 --penalties -1", "penalty -1"),
        ("top-kast --explored 2", "explored"),
    ],
)
def test_invalid_options_are_one_line(tmp_path_factory, tmp_path, words, named):
    name, *options = words.split()
    out = tmp_path / "twin"
    done = cli(
        tmp_path_factory, "sparsify", name, dense(tmp_path_factory).path, "--out", out, *options
    )
    assert_refused(done, named)
    assert not out.exists()
