"""New members from latent space: the draws, and the zoos they become."""

import json

import numpy as np
import polars as pl
import pytest

from tests.support import representations, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo, prune_zoo
from zoojax.api.dense import initial_params
from zoojax.cli.main import main
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.sampling import (
    accuracies,
    sample_kde,
    sample_zoo,
    train_from_scratch,
)
from zoojax.storage import zoo_images
from zoojax.training import inference, trainer


@pytest.fixture
def reconstructing(tmp_path_factory) -> Representation:
    return representations.reconstructing(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


def line(count: int = 40) -> np.ndarray:
    """Points whose two dimensions are one, as embeddings' may be."""
    x = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    return np.stack([x, 3 * x + 1], axis=1)


@pytest.mark.parametrize("independent", [True, False])
def test_a_draw_is_its_members_own(independent):
    """Whatever else is drawn; another seed draws others."""
    points = line()
    many = sample_kde(points, np.arange(50), 1, independent=independent)
    few = sample_kde(points, np.array([7, 3]), 1, independent=independent)
    np.testing.assert_array_equal(few.z, many.z[[7, 3]])
    np.testing.assert_array_equal(few.near, many.near[[7, 3]])
    assert len(np.unique(many.z, axis=0)) == 50
    other = sample_kde(points, np.arange(50), 2, independent=independent)
    assert not np.isin(other.z, many.z).any()


def test_independent_draws_share_nothing_between_dimensions():
    points = line()
    z = sample_kde(points, np.arange(4000), 1, independent=True).z
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.06
    assert np.corrcoef(sample_kde(points, np.arange(4000), 1, independent=False).z.T)[0, 1] > 0.7


@pytest.mark.parametrize("independent", [True, False])
def test_draws_are_of_a_kernel_density_estimate(independent):
    """Its mean is that of the points, its variance theirs and the kernel's."""
    points = line()
    z = sample_kde(points, np.arange(4000), 1, independent=independent).z
    deviation = points.std(0, ddof=1)
    np.testing.assert_allclose(z.mean(0), points.mean(0), atol=0.1 * deviation.max())
    width = (4 / (3 * len(points))) ** 0.2
    expected = np.sqrt(points.var(0) + (width * deviation) ** 2)
    np.testing.assert_allclose(z.std(0), expected, rtol=0.06)


def test_joint_draws_lie_near_a_point():
    """Almost all within four kernels of it in every dimension."""
    points = line()
    drawn = sample_kde(points, np.arange(500), 1, independent=False)
    width = points.std(0, ddof=1) * (4 / (3 * len(points))) ** 0.2
    distance = np.abs(drawn.z - points[drawn.near]) / width
    assert (distance < 4).mean() > 0.99
    assert distance.std() > 0.5
    assert len(np.unique(drawn.near)) == len(points)


def test_points_that_are_one_are_drawn_as_they_are():
    drawn = sample_kde(np.full((5, 3), 2.0, np.float32), np.arange(4), 1, independent=True)
    np.testing.assert_array_equal(drawn.z, np.full((4, 3), 2.0))


def sample(out, representation: Representation, twin: Zoo, count: int = 3, **options) -> Zoo:
    return sample_zoo(
        out, representation, twin, count, **{"epochs": 0, "chunk": zoo_fixtures.CHUNK, **options}
    )


def test_a_sampled_zoo_is_a_dense_zoo(reconstructing, twin, tmp_path_factory, tmp_path):
    """Of the dense zoo's images and hyper-parameters; its members are decoded draws."""
    dense = representations.dense(tmp_path_factory)
    zoo = open_zoo(sample(tmp_path / "zoo", reconstructing, twin).path)
    assert (zoo.config.kind, zoo.config.parent, zoo.epochs) == ("dense", None, [0])
    assert (zoo.config.data_hash, zoo.config.shape) == (dense.config.data_hash, dense.config.shape)
    assert reconstructing.fingerprint[:16] in (zoo.config.origin or "")
    assert zoo.members_table["id"].to_list() == [0, 1, 2]
    assert zoo.members_table["seed"].to_list() == [10, 11, 12]
    same = dense.members_table.drop("id", "seed").head(3)
    assert zoo.members_table.drop("id", "seed").equals(same)
    members = reconstructing.config.members.train
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
    measured = inference.evaluate(zoo, images)
    assert zoo_fixtures.same_bits(zoo_fixtures.bits(measured), zoo_fixtures.bits(zoo.metrics))
    prune_zoo(tmp_path / "mp", zoo, [0.5], epochs=0, chunk=zoo_fixtures.CHUNK)


@pytest.mark.parametrize("how", ["independent", "joint", "best"])
def test_more_members_are_the_same_and_others(reconstructing, twin, tmp_path, how):
    few = sample(tmp_path / "few", reconstructing, twin, 2, how=how, epoch=1)
    many = sample(tmp_path / "many", reconstructing, twin, 5, how=how, epoch=1)
    assert many.members_table.head(2).equals(few.members_table)
    for a, b in zip(*(zoo.params()["fc1"]["kernel"][:2] for zoo in (few, many)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert many.fingerprint != few.fingerprint


def test_the_best_are_those_of_highest_validation_accuracy(reconstructing, twin, tmp_path):
    """A share of a third of seven is two members; so narrow a choice is another zoo."""
    broad = sample(tmp_path / "broad", reconstructing, twin, 2, how="joint")
    best = sample(tmp_path / "best", reconstructing, twin, 2, how="best")
    assert not zoo_fixtures.same_bits(best.params(), broad.params())
    assert best.fingerprint != broad.fingerprint
    whole = sample(tmp_path / "whole", reconstructing, twin, 2, how="best", best_share=1.0)
    assert zoo_fixtures.same_bits(whole.params(), broad.params())


def test_tuned_beside_members_from_scratch(reconstructing, twin, tmp_path):
    """Resumed to the same bits; scratch members begin untrained, of the same seeds."""
    options = {"epochs": 2, "how": "joint"}
    whole = sample(tmp_path / "whole", reconstructing, twin, **options)

    def stop(at: trainer.Progress) -> None:
        if at.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(tmp_path / "zoo", reconstructing, twin, report=stop, **options)
    assert open_zoo(tmp_path / "zoo").epochs == [0, 1]
    zoo_fixtures.assert_same_zoo(sample(tmp_path / "zoo", reconstructing, twin, **options), whole)

    scratch = train_from_scratch(tmp_path / "scratch", whole, twin, chunk=zoo_fixtures.CHUNK)
    assert scratch.epochs == whole.epochs
    assert scratch.members_table.equals(whole.members_table)
    seeds = whole.members_table["seed"].to_list()
    initial = initial_params(whole.config.shape, ["kaiming_uniform"] * 3, seeds)
    assert zoo_fixtures.same_bits(scratch.params(0), initial)
    assert scratch.fingerprint != whole.fingerprint
    table = accuracies({"sampled": whole, "from scratch": scratch})
    assert table["population"].to_list() == ["sampled", "from scratch"] * 3
    assert table["epoch"].to_list() == [0, 0, 1, 1, 2, 2]
    last = whole.metrics.filter(epoch=2)["test_acc"].to_numpy()
    row = table.row(by_predicate=(pl.col("epoch") == 2) & (pl.col("population") == "sampled"))
    assert row[2:] == (pytest.approx(last.mean()), pytest.approx(last.std()), 3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 0}, "0 members"),
        ({"count": -1}, "-1 members"),
        ({"epoch": 9}, "no epoch 9"),
        ({"how": "wild"}, "no sampling named 'wild'"),
        ({"best_share": 0.0}, "best share 0 "),
        ({"best_share": float("nan")}, "best share nan"),
        ({"epochs": -1}, "-1 epochs"),
        ({"seed": -1}, "seed -1"),
        ({"chunk": 0}, "chunk 0"),
    ],
)
def test_what_cannot_be_sampled(reconstructing, twin, tmp_path, options, named):
    with pytest.raises(ZoojaxError, match=named):
        sample(tmp_path / "zoo", reconstructing, twin, **options)
    assert not (tmp_path / "zoo").exists()


def test_zoos_and_folders_of_something_else(reconstructing, twin, tmp_path_factory, tmp_path):
    with pytest.raises(ZoojaxError, match="learned to sparsify"):
        sample(tmp_path / "zoo", representations.sparsifying(tmp_path_factory), twin)
    path = zoo_fixtures.copied(twin, tmp_path / "moved")
    with pytest.raises(ZoojaxError, match=r"dense is not a folder; .* is a twin of it"):
        sample(tmp_path / "zoo", reconstructing, open_zoo(path))
    zoo = sample(tmp_path / "zoo", reconstructing, twin, 2)
    for options, named in (({"seed": 2}, "created with origin="), ({"count": 3}, "other members")):
        with pytest.raises(ZoojaxError, match=named):
            sample(zoo.path, reconstructing, twin, **{"count": 2, **options})
    assert sample(zoo.path, reconstructing, twin, 2).fingerprint == zoo.fingerprint


def test_members_take_the_hyper_parameters_that_they_were_drawn_near(
    reconstructing, twin, tmp_path_factory, tmp_path, monkeypatch
):
    """In a zoo whose members differ in them."""
    dense = representations.dense(tmp_path_factory)
    rates = 1e-3 * (1.0 + np.arange(len(dense)))
    varied = dense.members_table.with_columns(pl.Series("learning_rate", rates))
    monkeypatch.setitem(dense.__dict__, "members_table", varied)
    monkeypatch.setattr("zoojax.hyper_representation.sampling.dense_zoo", lambda _: dense)
    zoo = sample(tmp_path / "zoo", reconstructing, twin, 4, how="joint")
    members = reconstructing.config.members.train
    params = {k: {n: x[members] for n, x in v.items()} for k, v in twin.params().items()}
    near = sample_kde(reconstructing.embed(params), np.arange(4), 1, independent=False).near
    expected = [rates[members[i]] for i in near]
    assert zoo.members_table["learning_rate"].to_list() == expected
    assert len(set(expected)) > 1


def test_a_zoo_without_twin_is_sampled_from_as_well(tmp_path_factory, tmp_path):
    dense = representations.dense(tmp_path_factory)
    weights = representations.without_alphas(tmp_path_factory)
    zoo = sample(tmp_path / "zoo", weights, dense, epoch=0)
    assert zoo.config.name == "made-up-sampled"
    assert "around epoch 0 of made-up" in (zoo.config.origin or "")


def test_the_command(reconstructing, tmp_path, capsys, monkeypatch):
    """Both zoos, in one table; again, both are finished, and it is printed again."""
    # Set, it is left as it is: programs of other tests are not to be kept.
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
    found = json.loads(capsys.readouterr().out)
    assert found["zoos"] == {"sampled": str(out), "from scratch": str(scratch)}
    assert len(found["rows"]) == 4
    assert main([*words, "--seed", "2"]) == 2
    assert "created with origin=" in capsys.readouterr().err
    bad = [replace_word(words, str(reconstructing.path), str(tmp_path))]
    bad.append(replace_word(words, "3", "0"))
    for each, named in zip(bad, ("not a hyper-representation", "0 members"), strict=True):
        assert main(each) == 2
        assert named in capsys.readouterr().err


def replace_word(words: list[str], old: str, new: str) -> list[str]:
    return [new if word == old else word for word in words]
