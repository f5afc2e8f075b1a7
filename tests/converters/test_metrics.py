"""Metrics of converted zoos: all reported rows, in the units of a zoo."""

import shutil

import numpy as np

from tests.support.conversions import converted, place, write_report
from tests.support.torch_zoos import checkpoint, trials, write_zoo
from tests.support.zoo_fixtures import bits, same_bits
from zoojax import analysis
from zoojax.converters.zoo_to_torch import write_trials


def test_all_reported_rows_are_stored(tmp_path):
    """Including epochs without checkpoints, missing states and damaged states."""
    root = write_zoo(tmp_path / "root", epochs=[0, 2])
    first, second = trials(root)
    for folder in (first, second):
        lines = [{"training_iteration": e, "test_acc": e / 10, "train_acc": 0.75} for e in range(5)]
        write_report(folder, *lines)
    shutil.rmtree(checkpoint(first, 2).parent)
    checkpoint(second, 0).write_bytes(b"")
    zoo = converted(root, tmp_path / "zoo").zoo
    assert zoo.epochs == [0, 2]
    table = zoo.metrics_history
    assert table.select("epoch", "member").rows() == [(e, m) for e in range(5) for m in range(2)]
    assert table["test_acc"].to_list() == [np.float32(e / 10) for e in range(5) for _ in range(2)]
    assert table["finite"].all()
    # `metrics` has only rows with a state.
    assert zoo.metrics.select("member", "epoch").rows() == [(0, 0), (1, 2)]
    assert zoo.metrics["sparsity_fc1"].is_not_null().all()
    assert analysis.summary(zoo)["epoch"].to_list() == list(range(5))
    assert analysis.summary(zoo)["members"].to_list() == [2] * 5
    # Exported and converted again, they are equal.
    write_trials(zoo, tmp_path / "back")
    again = converted(tmp_path / "back", tmp_path / "again").zoo
    assert same_bits(bits(again.metrics_history), bits(table))


def test_rows_match_selected_epochs_and_filters(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 4])
    for folder in trials(root):
        write_report(folder, *({"training_iteration": e, "test_acc": e / 10} for e in range(6)))
    chosen = converted(root, tmp_path / "chosen", select={"epochs": (1, 4)}).zoo
    assert chosen.metrics_history["epoch"].unique().sort().to_list() == [1, 4]
    filtered = converted(root, tmp_path / "filtered", select={"min_accuracy": 0.2}).zoo
    assert filtered.metrics_history["epoch"].unique().sort().to_list() == [1, 2, 3, 4, 5]


def test_twin_rows_without_states_are_in_summaries_only(tmp_path):
    dense = converted(write_zoo(tmp_path / "d", members=3, epochs=[0]), tmp_path / "dense").zoo
    root = write_zoo(tmp_path / "v", members=3, kind="vd", epochs=[0, 1])
    shutil.rmtree(checkpoint(trials(root)[0], 1).parent)
    for folder in trials(root):
        accuracies = {"test_acc": 0.5, "train_acc": 0.5}
        lines = [
            {"training_iteration": e, "sparsity_ratio": 0.1 * e, **accuracies} for e in range(3)
        ]
        write_report(folder, *lines)
    twin = converted(root, tmp_path / "vd", parent=dense).zoo
    classes = np.zeros((3, 10), int)
    table = analysis.agreement(dense, twin, 1, of_zoo=classes, of_twin=classes)
    assert table["member"].to_list() == [1, 2]
    assert analysis.nearest_sparsity_epoch(twin, 0.2) in twin.epochs
    assert len(analysis.paired_metrics(dense, twin)) == 9


def test_accuracies_in_percent_become_fractions(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    for folder, last in zip(trials(root), (40.0, 95.0), strict=True):
        write_report(
            folder,
            {"training_iteration": 0, "test_acc": 0.5, "train_acc": 9.5, "train_loss": 50.0},
            {"training_iteration": 1, "test_acc": last, "train_acc": 97.5, "train_loss": 40.0},
        )
    done = converted(root, tmp_path / "zoo", select={"min_accuracy": 0.9})
    assert done.zoo.metrics.select("member", "epoch").rows() == [(1, 1)]
    (row,) = done.zoo.metrics.to_dicts()
    expected = np.float32(0.975), np.float32(0.95), np.float32(40)
    assert (row["train_acc"], row["test_acc"], row["train_loss"]) == expected
    assert done.notes == ("train_acc, test_acc, ggap: reported in percent, stored as fractions",)
    assert done.rejected[place(1, 1)] == "its test accuracy is 0.4"


def test_single_absurd_accuracy_does_not_rescale_a_zoo(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    write_report(
        trials(root)[0], *({"training_iteration": e, "test_acc": [0.5, 77.0][e]} for e in (0, 1))
    )
    done = converted(root, tmp_path / "zoo")
    assert done.zoo.metrics["test_acc"].to_list() == [0.5, 0, None, np.float32(0.1)]
    assert done.zoo.members_table["notes"][0] == "1 reported share(s) outside 0 to 1 are left out"
    assert done.notes == ()


def test_values_that_are_not_finite_are_null(tmp_path):
    root = write_zoo(tmp_path / "root", members=1, epochs=[0])
    (folder,) = trials(root)
    content = (
        '{"training_iteration": 0, "train_loss": Infinity, "test_loss": NaN, "test_acc": 0.5}\n'
        '{"training_iteration": 1, "train_loss": -Infinity, "val_loss": 1e39, "test_acc": 0.5}\n'
        '{"training_iteration": 2, "train_loss": 1%s, "test_acc": true}\n'
        '{"training_iteration": 3, "train_loss": "0.25", "test_acc": [1], "val_acc": null}\n'
    ) % ("0" * 400)
    (folder / "result.json").write_text(content)
    zoo = converted(root, tmp_path / "zoo").zoo
    table = zoo.metrics_history
    assert table["train_loss"].to_list() == [None, None, None, 0.25]
    assert table["test_acc"].to_list() == [0.5, 0.5, None, None]
    assert table["test_loss"].null_count() == table["val_loss"].null_count() == 4
    # The first epoch has a state with finite weights.
    assert table["finite"].to_list() == [True, False, False, True]
    assert zoo.members_table["notes"][0] == "5 reported number(s) that are not finite are left out"
