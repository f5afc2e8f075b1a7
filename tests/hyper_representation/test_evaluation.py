"""Evaluation on held-out members: tables, functional fidelity, and files."""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import zoojax.cli.represent.evaluate as evaluate_command
from tests.support import representations, synthetic_zoos, zoo_fixtures
from zoojax import Zoo, ZoojaxError
from zoojax.hyper_representation import boosting, evaluate_representation, evaluation, trainer
from zoojax.hyper_representation.dataset import PROPERTIES, read_samples
from zoojax.hyper_representation.evaluation import evaluate
from zoojax.hyper_representation.evaluation_tables import (
    FOLDER,
    TABLES,
    Evaluation,
    read_evaluation,
    write,
)
from zoojax.hyper_representation.functional_fidelity import summarize
from zoojax.hyper_representation.property_scores import SCOPES
from zoojax.hyper_representation.reconstruction import (
    flatten_layers,
)
from zoojax.hyper_representation.representation import (
    LOSSES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import Settings
from zoojax.hyperparameters.grid import Grid
from zoojax.intervals import mean_interval
from zoojax.presets import PRESETS
from zoojax.storage import zoo_images
from zoojax.training import inference

LAYERS = ["conv1", "conv2", "conv3", "fc1", "fc2"]
MEMBERS, EPOCHS = 9, 3
STATES = MEMBERS * (EPOCHS + 1)
COLUMNS_OF_TABLE_3 = ("weights", "alphas", "accuracy", "sparsity", "epoch", "ggap")


class FakeRepresentation(Representation):
    """Replaces the autoencoder, which takes long to compile, with simple functions."""

    def embed(self, params, views=None):
        return flatten_layers(params)["fc2"][:, :8]

    def reconstruct(self, params):
        weights = {k: {n: x * 0.9 for n, x in leaves.items()} for k, leaves in params.items()}
        alphas = {
            layer: {name: 3 + 10 * params[layer][name] for name in names}
            for layer, names in self.codec.variational.items()
        }
        return weights, alphas or None


def fake_representation(zoo: Zoo, **options) -> FakeRepresentation:
    """Creates a representation next to the zoo, with one row of losses."""
    task = "sparsify" if "alphas_of" in options else "reconstruct"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_train", lambda representation, *_: representation)
        created = trainer.train_autoencoder(
            zoo.path.with_name(f"{zoo.path.name}-{task}"), zoo, Settings(task=task), **options
        )
    losses = pl.DataFrame({"epoch": [1], "train_loss": [1.5], "val_loss": [2.0]})
    losses.write_parquet(created.path / LOSSES)
    return FakeRepresentation(created.path, created.config)


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Zoo:
    folder, spec = tmp_path_factory.mktemp("evaluated"), zoo_fixtures.spec(tmp_path_factory)
    grid = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,))
    return synthetic_zoos.dense(folder / "dense", MEMBERS, grid, spec=spec)


@pytest.fixture(scope="module")
def representation(dense) -> FakeRepresentation:
    return fake_representation(
        synthetic_zoos.variational_dropout(dense.path.with_name("vd"), dense, EPOCHS)
    )


@pytest.fixture(scope="module")
def images(dense):
    return zoo_images.load_images(dense, None)


@pytest.fixture(scope="module")
def results(representation, images) -> Evaluation:
    return evaluate(representation, representation.training_zoos(), [images])


# ---- Complete evaluations ------------------------------------------------------------------


def test_perfect_autoencoder_has_r2_and_agreement_of_one(representation, images):
    zoo, config = representation.training_zoo(), representation.config
    perfect = FakeRepresentation(representation.path, config)
    order = [member for part in config.zoos[0].members for member in part]
    epochs = iter(config.zoos[0].epochs)

    def reconstruct(params):
        states = read_samples(zoo, order, [next(epochs)])
        return states.weights, states.alphas

    perfect.reconstruct = reconstruct
    tables = evaluate(perfect, [zoo], [images]).tables
    assert set(tables["reconstruction"]["r2"]) == {1.0}
    assert tables["scatter"]["true"].equals(tables["scatter"]["reconstructed"].alias("true"))
    summary = tables["functional_summary"]
    assert set(summary["agreement"]) == {1.0} and set(summary["change"]) == {0.0}
    assert set(tables["functional"]["agreement"]) == {1.0}
    dense, functional = (tables["functional"].filter(thresholded=t) for t in (False, True))
    assert dense["sparsity"].to_list() == [0.0] * len(functional)
    for epoch in (0, config.zoos[0].epochs[-1]):
        metrics = inference.evaluate(zoo, images, epoch)
        table = functional.filter(epoch=epoch).join(metrics, on="member", suffix="_of_zoo")
        assert table["member"].to_list() == config.zoos[0].members.test
        for name in ("test_acc", "sparsity"):
            for column in (name, f"reconstructed_{name.removeprefix('test_')}"):
                assert table[column].to_list() == pytest.approx(table[f"{name}_of_zoo"].to_list())
    assert functional["sparsity"].to_numpy().max() > 0.2


def test_evaluation_has_all_tables(results, representation):
    tables, members = results.tables, representation.config.zoos[0].members
    assert tuple(tables) == TABLES
    reconstruction = tables["reconstruction"]
    assert len(reconstruction) == 3 * 3 * (1 + len(LAYERS))
    count = reconstruction.filter(part="val", quantity="weights", layer="all")["count"][0]
    assert count == len(members.val) * (EPOCHS + 1) * 2464
    # Reconstructed weights are 0.9 times the true ones.
    weights = reconstruction.filter(quantity="weights", layer="fc1")["r2"].to_list()
    assert weights == pytest.approx([0.99] * 3, abs=1e-3)
    assert len(tables["properties"]) == 5 * len(SCOPES) * len(PROPERTIES)
    assert len(tables["differences"]) == 2 * 3 * len(SCOPES) * len(PROPERTIES)
    assert len(tables["functional"]) == 2 * len(members.test) * (EPOCHS + 1)
    assert tables["losses"].equals(representation.losses)
    per_epoch = -(-2000 // (EPOCHS + 1))
    sizes = tables["scatter"].group_by("quantity", "layer").len()["len"]
    assert len(sizes) == 2 * len(LAYERS)
    assert max(sizes) <= per_epoch * (EPOCHS + 1)


def test_embeddings_table_has_principal_components(results, representation):
    table, members = results.tables["embeddings"], representation.config.zoos[0].members
    assert len(table) == STATES
    parts = {name: sorted(part) for name, part in members._asdict().items()}
    for name, part in parts.items():
        assert table.filter(part=name)["member"].unique().sort().to_list() == part
    train = table.filter(part="train")
    components = train.select("x", "y").to_numpy()
    np.testing.assert_allclose(components.mean(axis=0), 0, atol=1e-4)
    assert abs(np.corrcoef(components.T)[0, 1]) < 1e-3
    state = train.row(5, named=True)
    zoo = representation.training_zoo()
    metrics = zoo.metrics.filter(member=state["member"], epoch=state["epoch"])
    assert all(metrics[name][0] == state[name] for name in PROPERTIES)


@pytest.mark.parametrize("preset", [None, "mnist-s-seed", "usps-s-seed"])
def test_summary_has_the_papers_row_of_the_same_preset(results, representation, preset):
    """Table 3 has the preset mnist-s-seed, but not usps-s-seed."""
    data = PRESETS["mnist-s-seed"].data
    twin = representation.training_zoo()
    same_preset = Zoo(twin.path, replace(twin.config, preset=preset, data=data))
    rows = evaluation._summary(results.tables, [same_preset]).filter(
        pl.col("zoo").str.contains("paper")
    )
    published = [(0.787, 0.794, 0.963, 0.98, 0.532, 0.191)] if preset == "mnist-s-seed" else []
    shown = rows.select(list(COLUMNS_OF_TABLE_3)).rows()
    assert shown == [pytest.approx(row) for row in published]
    assert rows["weights_low"].to_list() == [None] * len(published)


def test_summary_has_the_columns_of_table_3(results):
    summary = results.tables["summary"]
    assert summary.columns[2::3] == list(COLUMNS_OF_TABLE_3)
    assert summary.columns[3::3] == [f"{name}_low" for name in COLUMNS_OF_TABLE_3]
    assert summary["zoo"].unique().to_list() == ["made-up-vd"]
    assert summary["features"].to_list() == [
        *("embedding", "embedding, mean of 8 orders", "weights", "layer statistics"),
        "mean of each epoch",
    ]
    assert summary["alphas"].to_list()[1:] == [None] * 4
    scores = results.tables["properties"].filter(scope="all states")
    probe = scores.filter(features="weights", property="test_acc")
    assert summary["accuracy"][2] == probe["r2"][0]
    alphas = results.tables["reconstruction"].filter(part="test", quantity="alphas", layer="all")
    assert summary["alphas"][0] == alphas["r2"][0]


@pytest.mark.parametrize("name", ["dense", "pruned"])
def test_evaluation_of_zoo_without_log_alphas(name, dense):
    path = dense.path.with_name("pruned")
    zoo = dense if name == "dense" else synthetic_zoos.pruned(path, dense, (0.5,))
    representation = fake_representation(zoo, weights_only=True)
    tables = evaluate(representation, [zoo], [None]).tables
    assert "functional" not in tables
    assert set(tables["reconstruction"]["quantity"]) == {"weights"}
    assert set(tables["scatter"]["quantity"]) == {"weights"}
    # All members have the same sparsity.
    probes = tables["properties"].filter(property="sparsity")
    assert probes["r2"].to_list() == [None] * 5 * len(SCOPES)
    assert tables["summary"].filter(zoo=zoo.config.name)["alphas"].to_list() == [None] * 5


def test_functional_summary_has_means_of_the_nearest_epochs(representation, images):
    zoo = representation.training_zoo()
    tables = evaluate(representation, [zoo], [images], epochs=[0, 99, 2, 100]).tables
    summary, functional = tables["functional_summary"], tables["functional"]
    assert summary["epochs"].to_list() == ["0", "3", "2", "all"] * 2
    assert summary["thresholded"].to_list() == [False] * 4 + [True] * 4
    for row in summary.to_dicts():
        states = functional.filter(thresholded=row["thresholded"])
        if row["epochs"] != "all":
            states = states.filter(epoch=int(row["epochs"]))
        for name in ("test_acc", "reconstructed_acc", "agreement", "sparsity"):
            assert row[name] == pytest.approx(states[name].mean())
        assert row["change"] == pytest.approx(row["reconstructed_acc"] - row["test_acc"])
        # There is only one test member.
        assert row["members"] == 1 and row["agreement_low"] is None


def test_functional_summary_has_intervals_of_means_over_members():
    rng, states = np.random.default_rng(0), [(m, e) for m in range(25) for e in (0, 1)]
    table = pl.DataFrame(states, schema=["member", "epoch"], orient="row").with_columns(
        thresholded=pl.lit(True),
        agreement=pl.Series(rng.random(50)),
        test_acc=pl.lit(0.5),
        reconstructed_acc=pl.Series(rng.random(50)),
        sparsity=0.0,
        reconstructed_sparsity=0.0,
    )
    first, everything = summarize(table, [0]).to_dicts()
    assert (first["members"], first["test_acc_low"], first["test_acc_high"]) == (25, 0.5, 0.5)
    for row, chosen in ((first, table.filter(epoch=0)), (everything, table)):
        by_member = chosen.group_by("member", maintain_order=True).mean()
        ends = mean_interval(by_member["agreement"].to_numpy())
        assert (row["agreement_low"], row["agreement_high"]) == pytest.approx(ends)
        assert row["change_low"] == pytest.approx(row["reconstructed_acc_low"] - 0.5)


def test_evaluation_has_intervals_and_predictors(tmp_path_factory, monkeypatch):
    """Of a zoo with ten test members."""
    monkeypatch.setattr(boosting, "_ROUNDS", 5)
    path = tmp_path_factory.mktemp("many") / "dense"
    zoo = synthetic_zoos.dense(path, 67, spec=zoo_fixtures.spec(tmp_path_factory))
    representation, stages = fake_representation(zoo, weights_only=True), []
    options = {"predictor_names": ["boosting"], "on_stage": stages.append}
    tables = evaluate(representation, [zoo], [None], **options).tables
    assert "made-up: predicting properties from layer statistics, gradient boosting" in stages
    scores = tables["properties"].filter(property="test_acc", scope="all states")
    assert scores["features"].to_list()[-2:] == [
        *("mean of each epoch", "layer statistics, gradient boosting")
    ]
    for table, columns in (
        (scores, ["r2"]),
        (tables["reconstruction"].filter(part="test"), ["r2"]),
        (tables["summary"].head(1), ["weights", "accuracy", "ggap"]),
        (tables["differences"].filter(property="ggap", scope="last epoch"), ["r2_difference"]),
    ):
        for name in columns:
            assert (table[f"{name}_low"] <= table[name]).all()
            assert (table[f"{name}_high"] >= table[name]).all()
            assert table[f"{name}_low"].null_count() == 0
    again = evaluate(representation, [zoo], [None], **options).tables
    assert all(table.equals(again[name]) for name, table in tables.items())


def test_predictors_are_checked_before_the_evaluation(representation, monkeypatch):
    monkeypatch.setattr(evaluation, "read_samples", None)
    for names, message in ((["forest"], "no predictor named 'forest'"), ("mlp", "a list")):
        with pytest.raises(ZoojaxError, match=message):
            evaluate(representation, representation.training_zoos(), [None], predictor_names=names)


@pytest.mark.parametrize("epochs", [5, "0", [0.5], [True], None])
def test_epochs_that_are_not_whole_numbers(representation, epochs):
    with pytest.raises(ZoojaxError, match="whole number"):
        evaluate_representation(representation, epochs=epochs)


def test_task_sparsify_is_compared_with_the_later_log_alphas(representation, images):
    representation = fake_representation(representation.training_zoo(), alphas_of=EPOCHS)
    tables = evaluate(representation, representation.training_zoos(), [images]).tables
    # The synthetic weights, and so the target log alphas, are the same at all epochs.
    functional = tables["functional"].filter(thresholded=True)
    assert functional.group_by("member").agg(pl.col("sparsity").n_unique())["sparsity"].max() == 1
    assert set(tables["reconstruction"]["quantity"]) == {"weights", "alphas", "log alphas"}


def test_printed_tables(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    evaluate_command._show(results)
    printed = capsys.readouterr().out
    for words in (
        ("embedding, mean of 8 orders", "mean of each epoch", "within epochs", "last epoch"),
        ("R2 of the embedding minus", "Reconstructed members", "thresholded", "agreement"),
    ):
        assert all(word in printed for word in words)
    row = {"r2": 0.5, "r2_low": -0.0001, "r2_high": 0.75}
    assert evaluate_command._cell(row, "r2") == "50.0 [0.0, 75.0]"
    assert evaluate_command._cell({"r2": 0.5}, "r2") == "50.0"
    assert evaluate_command._cell({"r2": None}, "r2") == "-"


# ---- Files ---------------------------------------------------------------------------------


def test_written_evaluation_is_read_back(results, representation, tmp_path):
    copy = open_representation(shutil.copytree(representation.path, tmp_path / "copy"))
    with pytest.raises(ZoojaxError, match="has not been evaluated; run 'zoojax represent eval"):
        read_evaluation(copy)
    write(results, copy.path / FOLDER)
    tables = read_evaluation(copy).tables
    assert tuple(tables) == TABLES
    assert all(tables[name].equals(results.tables[name]) for name in TABLES)
    names = {file.name for file in (copy.path / FOLDER).iterdir()}
    assert names == {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")}
    images = ("functional", "functional_summary")
    fewer = {name: table for name, table in results.tables.items() if name not in images}
    write(replace(results, tables=fewer), copy.path / FOLDER)
    assert "functional" not in read_evaluation(copy).tables
    longer = pl.concat([copy.losses, copy.losses.with_columns(epoch=pl.lit(2, pl.Int64))])
    longer.write_parquet(copy.path / "losses.parquet")
    with pytest.raises(ZoojaxError, match="was trained further"):
        read_evaluation(copy)
    (copy.path / FOLDER / "scatter.parquet").write_text("")
    with pytest.raises(ZoojaxError, match=r"scatter\.parquet is damaged"):
        read_evaluation(copy)


def test_folder_that_cannot_be_created_is_named(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZoojaxError, match="cannot create"):
        write(results, tmp_path / "file" / FOLDER)


def test_command_names_missing_zoo_and_epoch(representation, tmp_path_factory, tmp_path):
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", tmp_path)
    zoo_fixtures.assert_refused(done, tmp_path, "not a hyper-representation")
    # A moved representation does not find its zoo by the relative path.
    copy = shutil.copytree(representation.path, tmp_path / "copy")
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", copy)
    zoo_fixtures.assert_refused(done, "is not a folder")
    options = ("--zoo", representation.training_zoo().path)
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", copy, *options)
    zoo_fixtures.assert_refused(done, copy, "no completed epoch yet")


@pytest.mark.slow
def test_command_prints_summary_and_writes_tables(tmp_path_factory):
    path = representations.reconstructing(tmp_path_factory).path
    words = ("--predictors", "boosting", "mlp", "equivariant", "--epochs", 0, 3)
    printed = zoo_fixtures.cli_json(tmp_path_factory, "represent", "evaluate", path, *words)
    tables = read_evaluation(open_representation(path)).tables
    for name in ("summary", "reconstruction", "properties", "differences", "functional_summary"):
        assert len(printed[name]) == len(tables[name])
    assert len(tables["summary"]) == 8
    assert set(tables["functional_summary"]["epochs"]) == {"0", "3", "all"}
    assert printed["summary"][0]["weights"] == pytest.approx(tables["summary"]["weights"][0])
    assert (path / FOLDER / "functional.csv").exists()
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", path, "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    assert "(paper)" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"evaluation: {path / FOLDER}"
