"""Sampling of new members: kernel density estimates and sampled zoos."""

import json

import numpy as np
import polars as pl
import pytest

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.api.untrained import initial_variables
from zoojax.cli.main import main
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.sampling import (
    accuracies,
    sample_kde,
    train_from_scratch,
    train_sampled,
)
from zoojax.storage import zoo_images
from zoojax.training import inference, trainer


@pytest.fixture
def reconstructing(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


def correlated_points(count: int = 40) -> np.ndarray:
    """Points with two perfectly correlated dimensions."""
    x = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    return np.stack([x, 3 * x + 1], axis=1)


@pytest.mark.parametrize("independent", [True, False])
def test_sample_depends_on_seed_and_member_only(independent):
    points = correlated_points()
    many = sample_kde(points, np.arange(50), 1, independent=independent)
    few = sample_kde(points, np.array([7, 3]), 1, independent=independent)
    np.testing.assert_array_equal(few.z, many.z[[7, 3]])
    np.testing.assert_array_equal(few.center, many.center[[7, 3]])
    assert len(np.unique(many.z, axis=0)) == 50
    other = sample_kde(points, np.arange(50), 2, independent=independent)
    assert not np.isin(other.z, many.z).any()


def test_independent_samples_are_uncorrelated():
    points = correlated_points()
    z = sample_kde(points, np.arange(4000), 1, independent=True).z
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.06
    assert np.corrcoef(sample_kde(points, np.arange(4000), 1, independent=False).z.T)[0, 1] > 0.7


@pytest.mark.parametrize("independent", [True, False])
def test_samples_have_the_moments_of_the_density_estimate(independent):
    """The mean of the points, and their variance plus that of the smoothing kernel."""
    points = correlated_points()
    z = sample_kde(points, np.arange(4000), 1, independent=independent).z
    std = points.std(0, ddof=1)
    np.testing.assert_allclose(z.mean(0), points.mean(0), atol=0.1 * std.max())
    width = (4 / (3 * len(points))) ** 0.2
    expected = np.sqrt(points.var(0) + (width * std) ** 2)
    np.testing.assert_allclose(z.std(0), expected, rtol=0.06)


def test_joint_samples_lie_near_their_center():
    """Almost all lie within four bandwidths of it in each dimension."""
    points = correlated_points()
    samples = sample_kde(points, np.arange(500), 1, independent=False)
    width = points.std(0, ddof=1) * (4 / (3 * len(points))) ** 0.2
    distance = np.abs(samples.z - points[samples.center]) / width
    assert (distance < 4).mean() > 0.99
    assert distance.std() > 0.5
    assert len(np.unique(samples.center)) == len(points)


def test_samples_of_identical_points_equal_them():
    samples = sample_kde(np.full((5, 3), 2.0, np.float32), np.arange(4), 1, independent=True)
    np.testing.assert_array_equal(samples.z, np.full((4, 3), 2.0))


def sample(out, representation: Representation, twin: Zoo, count: int = 3, **options) -> Zoo:
    return train_sampled(
        out, representation, twin, count, **{"epochs": 0, "chunk": zoo_fixtures.CHUNK, **options}
    )


def test_sampled_zoo_is_a_dense_zoo(reconstructing, twin, tmp_path_factory, tmp_path):
    """With the dense zoo's images and hyperparameters; its members are decoded samples."""
    dense = representations.dense(tmp_path_factory)
    zoo = open_zoo(sample(tmp_path / "zoo", reconstructing, twin).path)
    assert zoo.config.is_dense and zoo.config.parent is None and zoo.epochs == [0]
    assert (zoo.config.data_hash, zoo.config.shape) == (dense.config.data_hash, dense.config.shape)
    assert reconstructing.fingerprint[:16] in (zoo.config.origin or "")
    assert zoo.members_table["id"].to_list() == [0, 1, 2]
    assert zoo.members_table["seed"].to_list() == [10, 11, 12]
    expected = dense.members_table.drop("id", "seed").head(3)
    assert zoo.members_table.drop("id", "seed").equals(expected)
    members = reconstructing.config.zoos[0].members.train
    params = twin.params(representations.EPOCHS)
    points = reconstructing.embed(
        {
            layer: {name: x[members] for name, x in leaves.items()}
            for layer, leaves in params.items()
        }
    )
    z = sample_kde(points, np.arange(3), 1, independent=True).z
    assert zoo_fixtures.same_bits(zoo.params(), reconstructing.decode(z)[0])
    images = zoo_images.load_images(zoo, None)
    metrics = inference.evaluate(zoo, images)
    assert zoo_fixtures.same_bits(zoo_fixtures.bits(metrics), zoo_fixtures.bits(zoo.metrics))
    zoo_fixtures.prune(tmp_path / "mp", zoo, [0.5], epochs=0, chunk=zoo_fixtures.CHUNK)


@pytest.mark.parametrize("method", ["independent", "joint", "best"])
def test_first_members_do_not_depend_on_their_number(reconstructing, twin, tmp_path, method):
    few = sample(tmp_path / "few", reconstructing, twin, 2, method=method, epoch=1)
    many = sample(tmp_path / "many", reconstructing, twin, 5, method=method, epoch=1)
    assert many.members_table.head(2).equals(few.members_table)
    for a, b in zip(*(zoo.params()["fc1"]["kernel"][:2] for zoo in (few, many)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert many.fingerprint != few.fingerprint


def test_method_best_uses_a_fraction_of_the_members(reconstructing, twin, tmp_path):
    """By default two of seven members; with a fraction of 1 it equals the method joint."""
    joint = sample(tmp_path / "joint", reconstructing, twin, 2, method="joint")
    best = sample(tmp_path / "best", reconstructing, twin, 2, method="best")
    assert not zoo_fixtures.same_bits(best.params(), joint.params())
    assert best.fingerprint != joint.fingerprint
    everyone = sample(tmp_path / "all", reconstructing, twin, 2, method="best", top_fraction=1.0)
    assert zoo_fixtures.same_bits(everyone.params(), joint.params())


def test_fine_tuning_and_members_from_scratch(reconstructing, twin, tmp_path):
    """Resume is bit-identical; the baseline starts untrained with the same seeds."""
    options = {"epochs": 2, "method": "joint"}
    full = sample(tmp_path / "uninterrupted", reconstructing, twin, **options)

    def stop(progress: trainer.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "zoo", reconstructing, twin, report=stop, **options)
    assert open_zoo(tmp_path / "zoo").epochs == [0, 1]
    zoo_fixtures.assert_same_zoo(sample(tmp_path / "zoo", reconstructing, twin, **options), full)

    scratch = train_from_scratch(tmp_path / "scratch", full, twin, chunk=zoo_fixtures.CHUNK)
    assert scratch.epochs == full.epochs
    assert scratch.members_table.equals(full.members_table)
    seeds = full.members_table["seed"].to_list()
    initial = initial_variables(full.config.shape, ["kaiming_uniform"] * 3, seeds)["params"]
    assert zoo_fixtures.same_bits(scratch.params(0), initial)
    assert scratch.fingerprint != full.fingerprint
    table = accuracies({"sampled": full, "from scratch": scratch})
    assert table["population"].to_list() == ["sampled", "from scratch"] * 3
    assert table["epoch"].to_list() == [0, 0, 1, 1, 2, 2]
    last = full.metrics.filter(epoch=2)["test_acc"].to_numpy()
    row = table.row(by_predicate=(pl.col("epoch") == 2) & (pl.col("population") == "sampled"))
    assert row[2:] == (pytest.approx(last.mean()), pytest.approx(last.std()), 3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 0}, "0 members"),
        ({"count": -1}, "-1 members"),
        ({"epoch": 9}, "no epoch 9"),
        ({"method": "wild"}, "unknown sampling method 'wild'"),
        ({"top_fraction": 0.0}, "top fraction 0 "),
        ({"top_fraction": float("nan")}, "top fraction nan"),
        ({"epochs": -1}, "-1 epochs"),
        ({"seed": -1}, "seed -1"),
        ({"chunk": 0}, "chunk 0"),
    ],
)
def test_invalid_sampling_arguments(reconstructing, twin, tmp_path, options, named):
    with pytest.raises(ZoojaxError, match=named):
        sample(tmp_path / "zoo", reconstructing, twin, **options)
    assert not (tmp_path / "zoo").exists()


def test_wrong_task_missing_parent_or_other_zoo(reconstructing, twin, tmp_path_factory, tmp_path):
    with pytest.raises(ZoojaxError, match="trained with --task sparsify"):
        sample(tmp_path / "zoo", representations.sparsifying(tmp_path_factory), twin)
    path = zoo_fixtures.copied(twin, tmp_path / "moved")
    with pytest.raises(ZoojaxError, match=r"dense is not a folder; .* is a twin of it"):
        sample(tmp_path / "zoo", reconstructing, open_zoo(path))
    zoo = sample(tmp_path / "zoo", reconstructing, twin, 2)
    for options, named in (({"seed": 2}, "created with origin="), ({"count": 3}, "other members")):
        with pytest.raises(ZoojaxError, match=named):
            sample(zoo.path, reconstructing, twin, **{"count": 2, **options})
    assert sample(zoo.path, reconstructing, twin, 2).fingerprint == zoo.fingerprint


def test_members_have_the_hyperparameters_of_their_center(
    reconstructing, twin, tmp_path_factory, tmp_path, monkeypatch
):
    dense = representations.dense(tmp_path_factory)
    rates = 1e-3 * (1.0 + np.arange(len(dense)))
    varied = dense.members_table.with_columns(pl.Series("learning_rate", rates))
    monkeypatch.setitem(dense.__dict__, "members_table", varied)
    monkeypatch.setattr("zoojax.hyper_representation.sampling.dense_zoo", lambda _: dense)
    zoo = sample(tmp_path / "zoo", reconstructing, twin, 4, method="joint")
    members = reconstructing.config.zoos[0].members.train
    params = {k: {n: x[members] for n, x in v.items()} for k, v in twin.params().items()}
    centers = sample_kde(reconstructing.embed(params), np.arange(4), 1, independent=False).center
    expected = [rates[members[i]] for i in centers]
    assert zoo.members_table["learning_rate"].to_list() == expected
    assert len(set(expected)) > 1


def test_sampling_from_a_dense_training_zoo(tmp_path_factory, tmp_path):
    dense = representations.dense(tmp_path_factory)
    weights = representations.without_alphas(tmp_path_factory)
    zoo = sample(tmp_path / "zoo", weights, dense, epoch=0)
    assert zoo.config.name == "made-up-sampled"
    assert "around epoch 0 of made-up" in (zoo.config.origin or "")


def test_command(reconstructing, tmp_path, capsys, monkeypatch):
    """Prints both zoos in one table, also if both are already complete."""
    # If set, the command does not enable the compilation cache for the other tests.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    out, scratch = tmp_path / "sampled", tmp_path / "scratch"
    words = ["represent", "sample", str(reconstructing.path), "--members", "3", "--out", str(out)]
    words += ["--scratch", str(scratch), "--epochs", "1", "--chunk", "4", "--quiet"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    for named in ("sampled", "from scratch", "epoch", "3 members"):
        assert named in printed
    assert open_zoo(out).epochs == open_zoo(scratch).epochs == [0, 1]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["zoos"] == {"sampled": str(out), "from scratch": str(scratch)}
    assert len(printed["rows"]) == 4
    assert main([*words, "--seed", "2"]) == 2
    assert "created with origin=" in capsys.readouterr().err
    bad = [replace_word(words, str(reconstructing.path), str(tmp_path))]
    bad.append(replace_word(words, "3", "0"))
    for each, named in zip(bad, ("not a hyper-representation", "0 members"), strict=True):
        assert main(each) == 2
        assert named in capsys.readouterr().err


def replace_word(words: list[str], old: str, new: str) -> list[str]:
    return [new if word == old else word for word in words]
