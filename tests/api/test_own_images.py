"""Zoos whose members each learn an image: which one, how, and what they refuse."""

import numpy as np
import polars as pl
import pytest
import torch

import zoojax
from tests.support import contracts, zoo_fixtures
from tests.support.report_page import content
from zoojax import Grid, MagnitudePruning, train_zoo
from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.presets.known import PRESETS
from zoojax.training.own_images import OwnImages, coordinates

OPTIONS = {"architecture": "siren-8-7", "quiet": True, "chunk": 4}
SIDE = 5


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (40, SIDE, SIDE, 3)).astype(np.uint8), np.arange(40) % 10


@pytest.fixture(scope="module")
def zoo(arrays):
    return train_zoo(data=arrays, members=5, epochs=2, steps_per_epoch=3, split="val", **OPTIONS)


def test_members_learn_the_images_of_a_part_in_order(zoo):
    images = zoo.store.images()
    table = zoo.members
    assert table["split"].to_list() == ["val"] * 5
    assert table["image"].to_list() == list(range(5))
    assert table["label"].to_list() == images.val.labels[:5].tolist()


def test_seeds_beyond_the_last_image_start_again(arrays):
    whole = train_zoo(data=arrays, members=42, epochs=0, **OPTIONS)
    later = train_zoo(data=arrays, members=2, epochs=0, first_seed=41, **OPTIONS)
    columns = ["seed", "split", "image", "label"]
    assert later.members[columns].rows() == whole.members[columns].rows()[40:]
    assert later.members["image"].to_list() == [0, 1]
    assert whole.members["split"].unique(maintain_order=True).to_list() == ["train", "val", "test"]


def test_combinations_of_hyperparameters_learn_the_same_images(arrays):
    grid = Grid(inits=("siren",), learning_rates=(1e-3, 1e-4), seeds=3)
    table = train_zoo(data=arrays, grid=grid, epochs=0, **OPTIONS).members
    assert table["image"].to_list() == [0, 1, 2] * 2


def test_training_is_that_of_torch(zoo):
    """The same weights after six full-batch steps of Adam, and the same error and PSNR."""
    images, points = zoo.store.images(), torch.tensor(coordinates(SIDE).reshape(-1, 2))
    for member in (0, 3):
        params = zoo.member(member, 0)
        leaves = {
            (layer, name): torch.tensor(value, requires_grad=True)
            for layer, each in params.items()
            for name, value in each.items()
        }
        target = torch.tensor(images.val.images[member].reshape(-1, 3))
        optimizer = torch.optim.Adam(leaves.values(), lr=1e-3)

        def error(leaves=leaves, target=target):
            x = points
            for layer in ("fc1", "fc2"):
                x = torch.sin(30 * (x @ leaves[layer, "kernel"] + leaves[layer, "bias"]))
            return ((x @ leaves["fc3", "kernel"] + leaves["fc3", "bias"] - target) ** 2).mean()

        for _ in range(6):
            optimizer.zero_grad()
            error().backward()
            optimizer.step()
        for (layer, name), value in leaves.items():
            trained = zoo.member(member, 2)[layer][name]
            np.testing.assert_allclose(trained, value.detach(), atol=2e-5)
        row = zoo.metrics.filter(member=member, epoch=2)
        np.testing.assert_allclose(row["loss"][0], error().item(), rtol=1e-3)
        # Pixels were divided by 0.5.
        np.testing.assert_allclose(row["psnr"][0], -10 * np.log10(error().item() / 4), rtol=1e-3)


def test_initial_weights_have_the_bounds_of_the_paper(arrays):
    params = train_zoo(
        data=arrays, architecture="siren-64-64", members=3, epochs=0, quiet=True
    ).params(0)
    for layer, inputs, bound in (
        ("fc1", 2, 1 / 2),
        ("fc2", 64, np.sqrt(6 / 64) / 30),
        ("fc3", 64, np.sqrt(6 / 64) / 30),
    ):
        largest = np.abs(params[layer]["kernel"]).max()
        assert 0.9 * bound < largest <= bound
        assert np.abs(params[layer]["bias"]).max() <= 1 / np.sqrt(inputs)


def test_coordinates_are_those_of_torch_in_row_order():
    axis = torch.linspace(-1, 1, 4)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    expected = torch.stack([x.ravel(), y.ravel()], dim=-1)
    np.testing.assert_allclose(coordinates(4).reshape(-1, 2), expected, atol=1e-7)


def test_apply_computes_the_pixels(zoo):
    images, pixels = zoo.store.images(), zoo.apply(coordinates(SIDE))
    targets = images.val.images[:5].reshape(5, -1, 3)
    loss = np.square(pixels - targets).mean((1, 2))
    np.testing.assert_allclose(loss, zoo.metrics.filter(epoch=2)["loss"], rtol=1e-4)


def test_evaluation_reproduces_the_metrics(zoo):
    measured = zoojax.evaluate(zoo)
    saved = zoo.metrics.filter(epoch=2)
    for column in ("loss", "psnr", "sparsity"):
        np.testing.assert_allclose(measured[column], saved[column], rtol=1e-5)


def test_twins_learn_the_images_of_their_parents(zoo):
    twin = zoojax.sparsify(zoo, MagnitudePruning(ratios=(0.5,)), epochs=1, quiet=True)
    parents = zoo.members.select(pl.col("id").alias("parent_id"), "split", "image", "label")
    assert twin.members.select(parents.columns).equals(parents)
    assert twin.config.steps_per_epoch == 3
    assert twin.metrics["psnr"].is_finite().all()


@pytest.mark.parametrize("name", ["magnitude_pruning", "variational_dropout"])
def test_interrupted_twin_resumes_with_the_same_bits(zoo, tmp_path, name):
    def create(out, **options):
        return zoojax.sparsify(zoo, contracts.options_of(name), out, epochs=2, chunk=3, **options)

    resumed = contracts.interrupted_and_resumed(tmp_path / "twin", create)
    zoo_fixtures.assert_same_zoo(resumed, create(tmp_path / "whole"))


def test_analysis_of_a_zoo_without_accuracies(zoo, tmp_path):
    """Tables, figures and page show PSNR and sparsity; a note says what was left out."""
    twins = [
        zoojax.sparsify(zoo, MagnitudePruning(ratios=(0.3, 0.6)), epochs=1, quiet=True),
        zoojax.sparsify(zoo, "variational_dropout", epochs=1, quiet=True),
    ]
    result = zoojax.analyze(zoo, *twins, out=tmp_path, quiet=True)
    tables = {"members", "trajectories", "layer_sparsity", "pruning_frequency"}
    assert set(result.tables) == tables | {"added_method_cost"}
    assert any("no accuracies and no predictions" in note for note in result.notes)
    trajectories = result.tables["trajectories"]
    assert "psnr_mean" in trajectories.columns and "test_acc_mean" not in trajectories.columns
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert {"trajectories", "accuracy_over_sparsity", "layer_size"} <= drawn
    assert "PSNR (dB)" in (tmp_path / "figures" / "trajectories.svg").read_text()
    data = content(tmp_path / "report.html")
    assert [metric["name"] for metric in data["metrics"]] == ["psnr", "sparsity"]
    assert data["score"]["short"] == "PSNR" and not data["score"]["percent"]
    dense = data["populations"][0]["values"]["psnr"]
    shown = zoo.metrics["psnr"]
    assert dense["low"] == pytest.approx(shown.min()) and dense["high"] == pytest.approx(
        shown.max()
    )


def test_presets_are_derived_for_every_image_set():
    names = {name for name in PRESETS if name.endswith("-siren")}
    sets = ("digits", "mnist", "fmnist", "usps", "svhn", "cifar10", "stl10")
    assert names == {f"{name}-siren" for name in sets}
    for name in names:
        preset = PRESETS[name]
        assert preset.batch_size == preset.data.size**2
        assert (preset.data.mean, preset.data.std) == (0.5, 1.0)
    assert (PRESETS["usps-siren"].data.size, PRESETS["cifar10-siren"].data.channels) == (16, 3)


def test_preset_is_recorded_if_only_members_differ():
    zoo = train_zoo("digits-siren", members=2, epochs=10, steps_per_epoch=100, quiet=True)
    assert zoo.config.preset == zoo.config.name == "digits-siren"
    assert zoo.config.data is not None and zoo.config.data.size == 8
    assert (zoo.metrics.filter(epoch=10)["psnr"] > 40).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 3}, "batch_size has no effect here"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0; give at least 1"),
        ({"split": "tests"}, "no split named 'tests'; there are: train, val, test, all"),
        ({"architecture": "small", "split": "test"}, "split has no effect here"),
        ({"architecture": "small", "steps_per_epoch": 9}, "steps_per_epoch has no effect here"),
    ],
)
def test_options_without_effect_are_refused(arrays, options, message):
    with pytest.raises(ZoojaxError, match=message):
        train_zoo(data=arrays, members=1, epochs=0, **{**OPTIONS, **options})


def test_what_members_without_classes_cannot_do(zoo, arrays, tmp_path):
    for call, message in (
        (lambda: zoojax.sparsify(zoo, "snip", quiet=True), "use another sparsifier"),
        (lambda: zoojax.predict(zoo, coordinates(SIDE)), "predict no classes"),
        (lambda: zoojax.evaluate(zoo, arrays), "cannot be evaluated on others"),
        (lambda: zoojax.train_representation(zoo, tmp_path / "rep"), "need members that classify"),
        (
            lambda: zoojax.functional.evaluate(
                zoojax.functional.init("siren", 1), coordinates(3), np.zeros(9, int)
            ),
            "learn one image each",
        ),
    ):
        with pytest.raises(ZoojaxError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_images_without_that_of_a_member_are_refused(zoo):
    images = zoo.store.images()
    few = loading.make("few", images.train, images.train, images.test, 10)
    table = zoo.members_table.with_columns(image=pl.lit(10**6, pl.Int64))
    with pytest.raises(ZoojaxError, match="member 0 learns image 1000000 of the val images, but"):
        OwnImages().own(few, table)
