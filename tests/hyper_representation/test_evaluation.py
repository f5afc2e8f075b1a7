"""Reconstruction and properties on members held out: R2, what members compute, files."""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import r2_score

from tests.support import representations, synthetic_zoos, zoo_fixtures
from zoojax import Zoo, ZoojaxError
from zoojax.hyper_representation import evaluation, trainer
from zoojax.hyper_representation.dataset import PROPERTIES, read
from zoojax.hyper_representation.evaluated import (
    FOLDER,
    TABLES,
    Evaluation,
    read_evaluation,
    write,
)
from zoojax.hyper_representation.evaluation import evaluate
from zoojax.hyper_representation.reconstruction import (
    R2Accumulator,
    flatten_layers,
    r2_inputs,
    scatter,
)
from zoojax.hyper_representation.representation import (
    LOSSES,
    Representation,
    open_representation,
)
from zoojax.hyper_representation.settings import Settings
from zoojax.presets import PRESETS
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_THRESHOLD
from zoojax.storage import zoo_images
from zoojax.training import inference
from zoojax.training.hyperparameters import Grid

LAYERS = ["conv1", "conv2", "conv3", "fc1", "fc2"]
MEMBERS, EPOCHS = 9, 3
STATES = MEMBERS * (EPOCHS + 1)


class StandIn(Representation):
    """One that was not trained: an autoencoder takes long to compile, and is not asked here."""

    def embed(self, params, views=None):
        return flatten_layers(params)["fc2"][:, :8]

    def reconstruct(self, params):
        weights = {k: {n: x * 0.9 for n, x in leaves.items()} for k, leaves in params.items()}
        alphas = {
            layer: {name: 3 + 10 * params[layer][name] for name in names}
            for layer, names in self.codec.variational.items()
        }
        return weights, alphas or None


def stand_in(zoo: Zoo, **options) -> StandIn:
    """Beside the zoo; with a row of losses."""
    task = "sparsify" if "alphas_of" in options else "reconstruct"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_train", lambda made, *_: made)
        made = trainer.train_representation(
            zoo.path.with_name(f"{zoo.config.kind}-{task}"), zoo, Settings(task=task), **options
        )
    losses = pl.DataFrame({"epoch": [1], "train_loss": [1.5], "val_loss": [2.0]})
    losses.write_parquet(made.path / LOSSES)
    return StandIn(made.path, made.config)


@pytest.fixture(scope="module")
def dense(tmp_path_factory) -> Zoo:
    folder, spec = tmp_path_factory.mktemp("evaluated"), zoo_fixtures.spec(tmp_path_factory)
    grid = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,))
    return synthetic_zoos.dense(folder / "dense", MEMBERS, grid, spec=spec)


@pytest.fixture(scope="module")
def learned(dense) -> StandIn:
    return stand_in(synthetic_zoos.dropped_out(dense.path.with_name("vd"), dense, EPOCHS))


@pytest.fixture(scope="module")
def images(dense):
    return zoo_images.load_images(dense, None)


@pytest.fixture(scope="module")
def found(learned, images) -> Evaluation:
    return evaluate(learned, learned.training_zoo(), images)


# ---- R2 ------------------------------------------------------------------------------------


def made(seed: int) -> dict:
    """Numbers of two layers of unlike means and spreads."""
    rng = np.random.default_rng(seed)
    shape = {("weights", "conv1"): (3, 20), ("weights", "fc1"): (3, 300)}
    return {
        key: (10 * i + rng.standard_normal(s) * (i + 1)).astype(np.float32)
        for i, (key, s) in enumerate(shape.items())
    }


def test_r2_is_that_of_sklearn_by_layer_and_about_each_layers_mean_over_all():
    fidelity, batches = R2Accumulator(), [(made(0), made(1)), (made(2), made(2))]
    for true, guess in batches:
        fidelity.add("test", true, guess)
        fidelity.add("train", true, true)
    table = fidelity.table()
    own = table.filter(part="test").drop("part", "quantity")
    errors = totals = 0.0
    for row, key in enumerate(made(0), start=1):
        true, guess = (
            np.concatenate([np.float64(b[i][key]).ravel() for b in batches]) for i in (0, 1)
        )
        layer, count, r2 = own.row(row)
        assert (layer, count) == (key[1], true.size)
        assert r2 == pytest.approx(r2_score(true, guess), rel=1e-5)
        errors += np.square(true - guess, dtype=np.float64).sum()
        totals += np.square(true - true.mean(dtype=np.float64)).sum()
    assert own.row(0) == ("all", 2 * 960, pytest.approx(1 - errors / totals, rel=1e-5))
    assert table.filter(part="train")["r2"].to_list() == [1.0, 1.0, 1.0]


def test_what_does_not_vary_has_no_r2():
    fidelity, key = R2Accumulator(), ("weights", "conv1")
    fidelity.add("test", {key: np.full((3, 7), 0.1, np.float32)}, {key: np.zeros((3, 7))})
    assert fidelity.table()["r2"].to_list() == [None, None]


def test_numbers_are_on_the_scales_of_the_losses(learned):
    states = read(learned.training_zoo(), [0, 1], [2])
    assert states.alphas is not None
    scales = r2_inputs(learned.codec, states.weights, states.alphas)
    kernel = states.weights["fc2"]["kernel"].reshape(2, -1)
    own = (kernel - learned.config.mean["fc2"]) / learned.config.deviation["fc2"]
    # Leaves in the order of their names: the bias comes first.
    np.testing.assert_allclose(scales["weights", "fc2"][:, 10:], own, rtol=1e-6)
    alpha = states.alphas["fc2"]["kernel"].reshape(2, -1)
    assert np.array_equal(scales["log alphas", "fc2"], alpha)
    squashed = np.tanh((alpha - LOG_ALPHA_THRESHOLD) / learned.config.settings.alpha_radius)
    np.testing.assert_allclose(scales["alphas", "fc2"], squashed, atol=1e-6)
    assert ("alphas", "conv1") in scales and scales["alphas", "conv1"].shape == (2, 208)
    assert not any(quantity != "weights" for quantity, _ in r2_inputs(learned.codec, {}, None))


def test_pairs_are_a_bounded_sample_that_belongs_together():
    true = {("weights", "fc1"): np.arange(600.0).reshape(3, 200)}
    guess = {("weights", "fc1"): -np.arange(600.0).reshape(3, 200)}
    (pairs,) = scatter(true, guess, 50, np.random.default_rng(0))
    assert len(pairs) == pairs["true"].n_unique() == 50
    assert pairs["reconstructed"].equals(-pairs["true"].alias("reconstructed"))
    (pairs,) = scatter(true, guess, 1000, np.random.default_rng(0))
    assert len(pairs) == 600


# ---- A whole evaluation --------------------------------------------------------------------


def test_a_perfect_autoencoder_gives_every_member_back(learned, images):
    zoo, config = learned.training_zoo(), learned.config
    perfect = StandIn(learned.path, config)
    order = [*config.members.train, *config.members.val, *config.members.test]
    epochs = iter(config.epochs)

    def reconstruct(params):
        states = read(zoo, order, [next(epochs)])
        return states.weights, states.alphas

    perfect.reconstruct = reconstruct
    tables = evaluate(perfect, zoo, images).tables
    assert set(tables["reconstruction"]["r2"]) == {1.0}
    assert tables["scatter"]["true"].equals(tables["scatter"]["reconstructed"].alias("true"))
    functional = tables["functional"]
    assert set(functional["agreement"]) == {1.0}
    for epoch in (0, config.epochs[-1]):
        measured = inference.evaluate(zoo, images, epoch)
        own = functional.filter(epoch=epoch).join(measured, on="member", suffix="_of_zoo")
        assert own["member"].to_list() == config.members.test
        for name in ("test_acc", "sparsity"):
            for column in (name, f"reconstructed_{name.removeprefix('test_')}"):
                assert own[column].to_list() == pytest.approx(own[f"{name}_of_zoo"].to_list())
    assert functional["sparsity"].to_numpy().max() > 0.2


def test_an_evaluation_has_every_table(found, learned):
    tables, members = found.tables, learned.config.members
    assert tuple(tables) == TABLES
    reconstruction = tables["reconstruction"]
    assert len(reconstruction) == 3 * 3 * (1 + len(LAYERS))
    count = reconstruction.filter(part="val", quantity="weights", layer="all")["count"][0]
    assert count == len(members.val) * (EPOCHS + 1) * 2464
    # A tenth of each weight is missing.
    weights = reconstruction.filter(quantity="weights", layer="fc1")["r2"].to_list()
    assert weights == pytest.approx([0.99] * 3, abs=1e-3)
    assert len(tables["properties"]) == 4 * len(PROPERTIES)
    assert tables["losses"].equals(learned.losses)
    per_epoch = -(-2000 // (EPOCHS + 1))
    sizes = tables["scatter"].group_by("quantity", "layer").len()["len"]
    assert len(sizes) == 2 * len(LAYERS)
    assert max(sizes) <= per_epoch * (EPOCHS + 1)


def test_the_map_is_of_the_embeddings(found, learned):
    table, members = found.tables["embeddings"], learned.config.members
    assert len(table) == STATES
    parts = {name: sorted(part) for name, part in members._asdict().items()}
    for name, part in parts.items():
        assert table.filter(part=name)["member"].unique().sort().to_list() == part
    train = table.filter(part="train")
    places = train.select("x", "y").to_numpy()
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-4)
    assert abs(np.corrcoef(places.T)[0, 1]) < 1e-3
    state = train.row(5, named=True)
    zoo = learned.training_zoo()
    metrics = zoo.metrics.filter(member=state["member"], epoch=state["epoch"])
    assert all(metrics[name][0] == state[name] for name in PROPERTIES)


@pytest.mark.parametrize("preset", [None, "mnist-s-seed", "usps-s-seed"])
def test_the_papers_row_is_that_of_the_same_zoo(found, learned, preset):
    """Of the preset and its images; Table 3 has two of them."""
    data = PRESETS["mnist-s-seed"].data
    twin = learned.training_zoo()
    alike = Zoo(twin.path, replace(twin.config, preset=preset, data=data))
    rows = evaluation._summary(found.tables, alike).filter(pl.col("zoo").str.contains("paper"))
    published = [(0.787, 0.794, 0.963, 0.98, 0.532, 0.191)] if preset == "mnist-s-seed" else []
    assert [row[2:] for row in rows.rows()] == [pytest.approx(row) for row in published]


def test_the_summary_is_as_the_papers_table_3(found):
    own = found.tables["summary"]
    assert own.columns[2:] == ["weights", "alphas", "accuracy", "sparsity", "epoch", "ggap"]
    assert own["zoo"].unique().to_list() == ["made-up-vd"]
    assert own["features"].to_list() == [
        *("embedding", "embedding, mean of 8 orders", "weights", "layer statistics")
    ]
    assert own["alphas"].to_list()[1:] == [None] * 3
    told = found.tables["properties"].filter(features="weights", property="test_acc")
    assert own["accuracy"][2] == told["r2"][0]
    whole = found.tables["reconstruction"].filter(part="test", quantity="alphas", layer="all")
    assert own["alphas"][0] == whole["r2"][0]


@pytest.mark.parametrize("kind", ["dense", "mp"])
def test_weights_alone_of_a_zoo_without_alphas(kind, dense):
    path = dense.path.with_name("mp")
    zoo = dense if kind == "dense" else synthetic_zoos.pruned(path, dense, (0.5,))
    learned = stand_in(zoo, weights_only=True)
    tables = evaluate(learned, zoo, None).tables
    assert "functional" not in tables
    assert set(tables["reconstruction"]["quantity"]) == {"weights"}
    assert set(tables["scatter"]["quantity"]) == {"weights"}
    # All are as sparse.
    told = tables["properties"].filter(property="sparsity")
    assert told["r2"].to_list() == [None] * 4
    assert tables["summary"].filter(zoo=zoo.config.name)["alphas"].to_list() == [None] * 4


def test_the_task_sparsify_is_measured_against_the_later_alphas(learned, images):
    learned = stand_in(learned.training_zoo(), alphas_of=EPOCHS)
    tables = evaluate(learned, learned.training_zoo(), images).tables
    # The made-up weights are the same at all epochs, and so are the alphas to be found.
    functional = tables["functional"]
    assert functional.group_by("member").agg(pl.col("sparsity").n_unique())["sparsity"].max() == 1
    assert set(tables["reconstruction"]["quantity"]) == {"weights", "alphas", "log alphas"}


# ---- Files ---------------------------------------------------------------------------------


def test_what_is_written_is_read_back(found, learned, tmp_path):
    copy = open_representation(shutil.copytree(learned.path, tmp_path / "copy"))
    with pytest.raises(ZoojaxError, match="has not been evaluated; run 'zoojax represent eval"):
        read_evaluation(copy)
    write(found, copy.path / FOLDER)
    again = read_evaluation(copy).tables
    assert tuple(again) == TABLES
    assert all(again[name].equals(found.tables[name]) for name in TABLES)
    names = {file.name for file in (copy.path / FOLDER).iterdir()}
    assert names == {f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")}
    fewer = {name: table for name, table in found.tables.items() if name != "functional"}
    write(replace(found, tables=fewer), copy.path / FOLDER)
    assert "functional" not in read_evaluation(copy).tables
    longer = pl.concat([copy.losses, copy.losses.with_columns(epoch=pl.lit(2, pl.Int64))])
    longer.write_parquet(copy.path / "losses.parquet")
    with pytest.raises(ZoojaxError, match="was trained since"):
        read_evaluation(copy)
    (copy.path / FOLDER / "scatter.parquet").write_text("")
    with pytest.raises(ZoojaxError, match=r"scatter\.parquet is damaged"):
        read_evaluation(copy)


def test_a_folder_that_cannot_be_made_is_named(found, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZoojaxError, match="cannot create"):
        write(found, tmp_path / "file" / FOLDER)


def test_the_command_names_what_is_missing(learned, tmp_path_factory, tmp_path):
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", tmp_path)
    zoo_fixtures.assert_refused(done, tmp_path, "not a hyper-representation")
    # From elsewhere the zoo is found by --zoo alone.
    copy = shutil.copytree(learned.path, tmp_path / "copy")
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", copy)
    zoo_fixtures.assert_refused(done, "is not a folder")
    options = ("--zoo", learned.training_zoo().path)
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", copy, *options)
    zoo_fixtures.assert_refused(done, copy, "no epoch yet")


@pytest.mark.slow
def test_the_command_prints_the_papers_table_and_writes_beside(tmp_path_factory):
    path = representations.reconstructing(tmp_path_factory).path
    told = zoo_fixtures.cli_json(tmp_path_factory, "represent", "evaluate", path)
    found = read_evaluation(open_representation(path)).tables
    for name in ("summary", "reconstruction", "properties"):
        assert len(told[name]) == len(found[name])
    assert told["summary"][0]["weights"] == pytest.approx(found["summary"]["weights"][0])
    assert (path / FOLDER / "functional.csv").exists()
    done = zoo_fixtures.cli(tmp_path_factory, "represent", "evaluate", path, "--quiet")
    assert done.returncode == 0 and done.stderr == ""
    assert "(paper)" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"evaluation: {path / FOLDER}"
