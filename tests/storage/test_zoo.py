"""Reading zoos: what is written is read back, and the public interface of `Zoo`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from tests.support.damage import refuses
from zoojax import DataSpec, Grid, Zoo, open_zoo
from zoojax.architectures.cnn import small_cnn
from zoojax.architectures.parameters import pack_bits, unpack_bits
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import VariationalDropout, apply_threshold
from zoojax.storage.writer import create_or_resume
from zoojax.storage.zoo_config import ZooConfig

KINDS = pytest.mark.parametrize("kind", zoo_fixtures.KINDS)


def write_random_zoo(path: Path, kind: str, members: int) -> tuple[Zoo, dict, dict]:
    """Writes a zoo with one epoch of random values.

    Returns:
        The zoo, and the state and optimizer state that were written.
    """
    rng = np.random.default_rng(0)
    table = Grid(seeds=members).members()
    if kind == "mp":
        table = table.with_columns(pl.lit(0.5).alias("ratio"))
    config = ZooConfig(
        *("random", "small", 1, 10, DataSpec("digits"), "0" * 64, 5, 10, "member", 4),
        sparsifier={
            "dense": Dense(),
            "mp": MagnitudePruning().shared(),
            "vd": VariationalDropout("corrected"),
        }[kind],
    )
    shape = small_cnn(1, 10)
    sizes = [(5, 5, 1, 8), (5, 5, 8, 6), (2, 2, 6, 4), (36, 20), (20, 10)]

    def draw(*size):
        return rng.standard_normal((members, *size)).astype(np.float32)

    params = {
        layer: {"kernel": draw(*size), "bias": draw(size[-1])}
        for layer, size in zip(shape.layers, sizes, strict=True)
    }
    params["conv1"]["kernel"].flat[:3] = np.nan, -0.0, np.inf
    state: dict = {"params": params}
    if kind == "mp":
        state["mask"] = {
            layer: rng.random((members, *size)) < 0.5
            for layer, size in zip(shape.layers, sizes, strict=True)
        }
    if kind == "vd":
        state["log_sigma2"] = {
            layer: {"kernel": draw(*size)} for layer, size in zip(shape.layers, sizes, strict=True)
        }
    moments = {"adam": {"count": np.arange(members, dtype=np.int32), "mu": params}}
    metrics = pl.DataFrame(
        {
            "member": table["id"],
            "epoch": pl.Series([0] * members, dtype=pl.Int64),
            **{f"{part}_loss": rng.random(members) for part in ("train", "val", "test")},
            **{f"{part}_acc": rng.random(members) for part in ("train", "val", "test")},
            "ggap": rng.random(members),
            "sparsity": rng.random(members),
            **{f"sparsity_{layer}": rng.random(members) for layer in shape.layers},
            "finite": [True] * members,
        }
    )
    with create_or_resume(path, config, table) as writer:
        writer.append(0, state, moments, metrics)
    return writer.zoo, state, moments


@KINDS
@pytest.mark.parametrize("members", [1, 3])
def test_written_zoo_is_read_back(tmp_path, kind, members):
    """States are bit-identical (NaN, -0.0, infinity), as are masks, moments, config and members."""
    zoo, state, moments = write_random_zoo(tmp_path / "zoo", kind, members)
    reopened = open_zoo(str(tmp_path / "zoo"))
    assert zoo_fixtures.same_bits(reopened.state(0, raw=True), state)
    masked = state["params"]
    if kind == "mp":
        # Values under the mask are stored, but read as zero unless raw=True.
        masked = {
            layer: {
                **leaves,
                "kernel": np.where(state["mask"][layer], leaves["kernel"], np.float32(0)),
            }
            for layer, leaves in masked.items()
        }
    assert zoo_fixtures.same_bits(reopened.state(0), {**state, "params": masked})
    assert zoo_fixtures.same_bits(reopened.params(0), masked)
    assert zoo_fixtures.same_bits(reopened.optimizer_state(), moments)
    assert reopened.config == zoo.config
    assert reopened.members_table.select("id", "seed").equals(
        Grid(seeds=members).members().select("id", "seed")
    )
    assert reopened.metrics.width == 16


layers = st.dictionaries(
    st.sampled_from(["conv1", "conv2", "conv3", "fc1", "fc2"]),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    min_size=1,
)


@given(shapes=layers, members=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_mask_packing_roundtrip(shapes, members, seed):
    """Eight weights per byte, for sizes that are not multiples of eight too."""
    rng = np.random.default_rng(seed)
    mask = {k: rng.random((members, *s)) < 0.5 for k, s in shapes.items()}
    like = {k: np.zeros(s, bool) for k, s in shapes.items()}
    bits = pack_bits(mask)
    weights = sum(int(np.prod(s)) for s in shapes.values())
    assert bits.shape == (members, -(-weights // 8))
    assert zoo_fixtures.same_bits(unpack_bits(bits, like), mask)


texts = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=5)


@settings(max_examples=50)
@given(
    st.builds(
        ZooConfig,
        name=texts,
        architecture=st.just("small"),
        channels=st.just(1),
        classes=st.integers(1, 2**16),
        data=st.builds(DataSpec, texts, mean=st.floats(-1, 1)),
        data_hash=st.text("0123456789abcdef", min_size=64, max_size=64),
        epochs=st.integers(0, 1000),
        batch_size=st.integers(1, 1000),
        data_order=st.sampled_from(["member", "shared"]),
        chunk=st.integers(1, 1000),
        preset=st.none() | texts,
        versions=st.dictionaries(texts, texts, max_size=2),
        origin=st.none() | texts,
    )
)
def test_config_json_roundtrip(config):
    assert ZooConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@KINDS
def test_reading_a_zoo(tmp_path_factory, kind):
    """The public interface, for a trained zoo of each kind."""
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    count = 9 if kind == "mp" else 3
    assert len(zoo) == count
    assert zoo.epochs == [0, 1, 2]
    assert zoo.config.sparsifier.method == kind
    assert zoo.config.shape == small_cnn(1, 10)
    assert zoo.members["id"].to_list() == list(range(count))
    assert zoo.members["diverged_epoch"].null_count() == count
    assert zoo.metrics.select("member", "epoch").rows() == [
        (m, e) for e in range(3) for m in range(count)
    ]
    fractions = zoo.metrics.select("train_acc", "val_acc", "test_acc", "^sparsity.*$")
    assert fractions.width == 9
    assert fractions.min_horizontal().min() >= 0  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert fractions.max_horizontal().max() <= 1  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    ggap = zoo.metrics["train_acc"] - zoo.metrics["test_acc"]
    np.testing.assert_allclose(zoo.metrics["ggap"], ggap, atol=1e-7)
    assert zoo_fixtures.same_bits(zoo.params(), zoo.params(2))
    assert not zoo_fixtures.same_bits(zoo.params(0), zoo.params(2))
    for epoch in (0, None):
        member = zoo.member(1, epoch)
        assert zoo_fixtures.same_bits(member, jax.tree.map(lambda x: x[1], zoo.params(epoch)))
    assert repr(zoo).startswith(f"Zoo('{zoo.path}': ")
    assert f"{count} members, epochs 0 to 2" in repr(zoo)
    assert {"dense": "dense", "mp": "pruned", "vd": "dropout"}[kind] in repr(zoo)


@KINDS
def test_sparse_params_match_sparsity_in_metrics(tmp_path_factory, kind):
    """The parameters used for evaluation: thresholded for variational dropout."""
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    for epoch in zoo.epochs:
        state, sparse = zoo.state(epoch), zoo.sparse_params(epoch)
        expected = state["params"]
        if kind == "vd":
            expected = apply_threshold(expected, state["log_sigma2"])
        assert zoo_fixtures.same_bits(sparse, jax.tree.map(np.asarray, expected))
        weights = [sparse[layer]["kernel"] for layer in sorted(sparse)]
        zeros = sum((w == 0).reshape(len(zoo), -1).sum(1) for w in weights)
        total = sum(w[0].size for w in weights)
        assert total == 2416
        sparsity = zoo.metrics.filter(epoch=epoch)["sparsity"].to_numpy()
        np.testing.assert_allclose(sparsity, zeros / total, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_parent_of_twins(tmp_path_factory, kind):
    parent, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.KINDS[kind](tmp_path_factory)
    recorded = twin.config.parent
    assert recorded is not None
    assert recorded.fingerprint == parent.fingerprint
    assert (recorded.name, recorded.epoch) == ("tiny", 2)
    assert not Path(recorded.path).is_absolute()
    assert (twin.path / recorded.path).resolve() == parent.path.resolve()
    repeated = 3 if kind == "mp" else 1
    assert twin.members_table["parent_id"].to_list() == sorted([0, 1, 2] * repeated)


def test_fingerprint(tmp_path_factory):
    """Depends on everything that determines the members, and on nothing else."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    fingerprints = {
        zoo.fingerprint,
        *(zoo_fixtures.KINDS[kind](tmp_path_factory).fingerprint for kind in ("mp", "vd")),
        Zoo(zoo.path, replace(zoo.config, batch_size=11)).fingerprint,
        Zoo(zoo.path, replace(zoo.config, data_hash="1" * 64)).fingerprint,
    }
    assert len(fingerprints) == 5
    for irrelevant in ({"chunk": 7}, {"name": "other"}, {"versions": {"jax": "9"}}):
        assert Zoo(zoo.path, replace(zoo.config, **irrelevant)).fingerprint == zoo.fingerprint


def test_moved_twin_finds_its_parent(tmp_path_factory, tmp_path):
    """Paths of parents are relative."""
    shutil.copytree(zoo_fixtures.pruned(tmp_path_factory).path.parent, tmp_path / "moved")
    twin = open_zoo(tmp_path / "moved" / "pruned")
    assert twin.config.parent is not None
    parent = open_zoo((twin.path / twin.config.parent.path).resolve())
    assert parent.path == (tmp_path / "moved" / "dense").resolve()
    assert parent.fingerprint == twin.config.parent.fingerprint


def test_path_that_is_not_a_folder(tmp_path):
    with refuses(f"{tmp_path / 'none'} is not a folder"):
        open_zoo(tmp_path / "none")
    (tmp_path / "file").touch()
    with refuses(f"{tmp_path / 'file'} is not a folder"):
        open_zoo(tmp_path / "file")


def test_folder_that_is_not_a_zoo(tmp_path):
    with refuses(f"{tmp_path} is not a zoo"):
        open_zoo(tmp_path)


def test_unknown_epoch_and_member(zoo):
    with refuses(f"{zoo.path} has no epoch 7; it has epochs 0 to 2"):
        zoo.params(7)
    with refuses(f"{zoo.path} has no epoch -1"):
        zoo.state(-1)
    for member in (3, -1):
        with refuses(f"{zoo.path} has no member {member}; it has 3 members"):
            zoo.member(member)
