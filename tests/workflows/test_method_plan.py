"""Which twins a comparison trains: options, starts and epochs of every sparsifier."""

from typing import Any

import pytest

from zoojax import ZoojaxError
from zoojax.architectures.registry import architecture
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifiers
from zoojax.workflows.method_plan import check_budget, chosen_sparsifiers, plan

RATIOS = (0.95, 0.5, 0.8)
ALL = [kind for kind in sparsifiers().values() if kind is not Dense]


def test_every_sparsifier_has_a_twin_of_its_own():
    planned = plan(ALL, RATIOS, 50)
    assert {type(twin.sparsifier) for twin in planned} == set(ALL)
    assert len({twin.folder for twin in planned}) == len(planned)
    by_folder: dict[str, Any] = {twin.folder: twin for twin in planned}
    assert by_folder["mp"].sparsifier.ratios == RATIOS
    assert by_folder["nm"].sparsifier.ratios == (0.5, 0.75) and by_folder["nm"].sparsifier.m == 4
    assert by_folder["nm-2"].sparsifier.ratios == (0.5,) and by_folder["nm-2"].sparsifier.m == 8
    assert len(by_folder["l0"].sparsifier.penalties) == 5
    for folder, rewind in (("imp", "weights"), ("imp-2", "learning_rate")):
        twin = by_folder[folder]
        assert (twin.sparsifier.ratios, twin.sparsifier.rewind) == ((0.5, 0.8, 0.95), rewind)
        assert (twin.epoch, twin.epochs) == (50, 150)
        assert twin.sparsifier.measured_epochs(twin.epochs) == [50, 100, 150]
    for folder in ("static", "set", "rigl"):
        assert (by_folder[folder].epoch, by_folder[folder].epochs) == (0, 65)
    assert (by_folder["vd"].epoch, by_folder["vd"].epochs) == (50, 25)


def test_equal_budget():
    """All methods train the same number of epochs in all."""
    assert {twin.epoch + twin.epochs for twin in plan(ALL, RATIOS, 50, budget=30)} == {80}
    own = plan(ALL[:1], RATIOS, 50, budget=30, epochs={ALL[0].name: 3})
    assert [twin.epochs for twin in own] == [30]


def test_repeated_ratios_are_refused_at_once():
    with pytest.raises(ZoojaxError, match="ratios, each once"):
        plan(ALL, (0.5, 0.5), 50)


def test_chain_needs_a_ratio():
    (kind,) = [kind for kind in ALL if kind.name == "iterative_magnitude"]
    assert plan([kind], (0.0,), 50) == []
    few = kind.at_ratios((0.5, 0.7, 0.9))[0]
    assert few.measured_epochs(2) == [1, 2] and few.measured_epochs(0) == []


def test_all_leaves_out_what_does_not_apply():
    chosen, notes = chosen_sparsifiers(("all",), architecture("siren", 1), "images")
    assert {kind.name for kind in chosen} < {kind.name for kind in ALL}
    assert len(chosen) + len(notes) == len(ALL)
    assert any(note.startswith("Without SNIP: SNIP scores weights on images") for note in notes)
    assert chosen_sparsifiers(("all",), architecture("small", 1), "zoo") == (ALL, [])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("all", "sparsifiers is all; give a tuple of names"),
        ((3,), "give a tuple of names"),
        (("magnitude-prunning",), "did you mean 'magnitude_pruning'"),
        (("dense",), "no sparsifier named 'dense'"),
        (("snip", "snip"), "give each sparsifier once"),
        ((), "at least one"),
        (("all", "snip"), "no sparsifier named 'all'"),
    ],
)
def test_invalid_names_are_refused(names, message):
    with pytest.raises(ZoojaxError, match=message):
        chosen_sparsifiers(names, architecture("small", 1), "zoo")


@pytest.mark.parametrize("budget", [0, -1, 1.5, "2", True])
def test_invalid_budgets_are_refused(budget):
    with pytest.raises(ZoojaxError, match="budget"):
        check_budget(budget)
