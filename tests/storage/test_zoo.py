"""A zoo on disk: what is written is read back, and what is damaged is said to be."""

import gc
import json
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import zoo_fixtures
from zoojax import DataSpec, Zoo, ZoojaxError, open_zoo, prune_zoo, train_zoo
from zoojax.api.dense import Grid
from zoojax.architectures.base import architecture
from zoojax.architectures.parameters import pack_mask, unpack_mask
from zoojax.sparsifiers.variational_dropout import apply_threshold
from zoojax.storage import checkpoints
from zoojax.storage.writer import CorruptionWarning, create_or_resume
from zoojax.storage.zoo_config import ZooConfig

KINDS = pytest.mark.parametrize("kind", zoo_fixtures.KINDS)


@pytest.fixture
def zoo(tmp_path_factory, tmp_path) -> Zoo:
    """A dense zoo of three members and epochs 0 to 2, to be spoilt."""
    return open_zoo(zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo"))


def written(path: Path, kind: str, members: int, seed: int = 0) -> tuple[Zoo, dict, dict]:
    """A zoo of one epoch of random numbers, the state and the moments that went in."""
    rng = np.random.default_rng(seed)
    table = Grid(seeds=members).members()
    if kind == "mp":
        table = table.with_columns(pl.lit(0.5).alias("ratio"))
    config = ZooConfig(
        *("made-up", kind, "small", 1, 10, DataSpec("digits"), "0" * 64, 5, 10, "member", 4),
        scope="global" if kind == "mp" else None,
        variant="corrected" if kind == "vd" else None,
    )
    shape = architecture("small", 1)
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
def test_what_is_written_is_read(tmp_path, kind, members):
    """States to the bit (NaN, -0.0, infinity), masks, moments, config, members."""
    zoo, state, moments = written(tmp_path / "zoo", kind, members)
    again = open_zoo(str(tmp_path / "zoo"))
    assert zoo_fixtures.same_bits(again.state(0, raw=True), state)
    shown = state["params"]
    if kind == "mp":
        # What was under the mask is kept, and not shown.
        shown = {
            layer: {
                **leaves,
                "kernel": np.where(state["mask"][layer], leaves["kernel"], np.float32(0)),
            }
            for layer, leaves in shown.items()
        }
    assert zoo_fixtures.same_bits(again.state(0), {**state, "params": shown})
    assert zoo_fixtures.same_bits(again.params(0), shown)
    assert zoo_fixtures.same_bits(again.optimizer_state(), moments)
    assert again.config == zoo.config
    assert again.members_table.select("id", "seed").equals(
        Grid(seeds=members).members().select("id", "seed")
    )
    assert again.metrics.width == 16


layers = st.dictionaries(
    st.sampled_from(["conv1", "conv2", "conv3", "fc1", "fc2"]),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    min_size=1,
)


@given(shapes=layers, members=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_masks_survive_packing_at_any_size(shapes, members, seed):
    """Also where the bits do not fill the last byte; eight weights a byte."""
    rng = np.random.default_rng(seed)
    mask = {k: rng.random((members, *s)) < 0.5 for k, s in shapes.items()}
    params = {k: {"kernel": np.zeros((members, *s))} for k, s in shapes.items()}
    bits = pack_mask(mask)
    weights = sum(int(np.prod(s)) for s in shapes.values())
    assert bits.shape == (members, -(-weights // 8))
    assert zoo_fixtures.same_bits(unpack_mask(bits, params), mask)


texts = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=5)


@settings(max_examples=50)
@given(
    st.builds(
        ZooConfig,
        name=texts,
        kind=st.just("dense"),
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
def test_config_survives_json(config):
    assert ZooConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@KINDS
def test_reading_a_zoo(tmp_path_factory, kind):
    """The public interface, on a trained zoo of each kind."""
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    count = 9 if kind == "mp" else 3
    assert len(zoo) == count
    assert zoo.epochs == [0, 1, 2]
    assert zoo.config.kind == kind
    assert zoo.config.shape == architecture("small", 1)
    assert zoo.members["id"].to_list() == list(range(count))
    assert zoo.members["diverged_epoch"].null_count() == count
    assert zoo.metrics.select("member", "epoch").rows() == [
        (m, e) for e in range(3) for m in range(count)
    ]
    shares = zoo.metrics.select("train_acc", "val_acc", "test_acc", "^sparsity.*$")
    assert shares.width == 9
    assert shares.min_horizontal().min() >= 0  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
    assert shares.max_horizontal().max() <= 1  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]
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
def test_effective_parameters_have_the_sparsity_of_the_metrics(tmp_path_factory, kind):
    """They are what is evaluated: thresholded under variational dropout."""
    zoo = zoo_fixtures.KINDS[kind](tmp_path_factory)
    for epoch in zoo.epochs:
        state, effective = zoo.state(epoch), zoo.sparse_params(epoch)
        expected = state["params"]
        if kind == "vd":
            expected = apply_threshold(expected, state["log_sigma2"])
        assert zoo_fixtures.same_bits(effective, jax.tree.map(np.asarray, expected))
        kernels = [effective[layer]["kernel"] for layer in sorted(effective)]
        zeros = sum((k == 0).reshape(len(zoo), -1).sum(1) for k in kernels)
        total = sum(k[0].size for k in kernels)
        assert total == 2416
        got = zoo.metrics.filter(epoch=epoch)["sparsity"].to_numpy()
        np.testing.assert_allclose(got, zeros / total, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_twins_know_their_parent(tmp_path_factory, kind):
    parent, twin = zoo_fixtures.dense(tmp_path_factory), zoo_fixtures.KINDS[kind](tmp_path_factory)
    known = twin.config.parent
    assert known is not None
    assert known.fingerprint == parent.fingerprint
    assert (known.name, known.epoch) == ("tiny", 2)
    assert not Path(known.path).is_absolute()
    assert (twin.path / known.path).resolve() == parent.path.resolve()
    repeated = 3 if kind == "mp" else 1
    assert twin.members_table["parent_id"].to_list() == sorted([0, 1, 2] * repeated)


def test_fingerprints_tell_zoos_apart(tmp_path_factory):
    """By what decides the members, and by nothing else."""
    zoo = zoo_fixtures.dense(tmp_path_factory)
    fingerprints = {
        zoo.fingerprint,
        *(zoo_fixtures.KINDS[kind](tmp_path_factory).fingerprint for kind in ("mp", "vd")),
        Zoo(zoo.path, replace(zoo.config, batch_size=11)).fingerprint,
        Zoo(zoo.path, replace(zoo.config, data_hash="1" * 64)).fingerprint,
    }
    assert len(fingerprints) == 5
    for same in ({"chunk": 7}, {"name": "other"}, {"versions": {"jax": "9"}}):
        assert Zoo(zoo.path, replace(zoo.config, **same)).fingerprint == zoo.fingerprint


def refuses(named: object):
    """A ZoojaxError of one line that names something."""
    return pytest.raises(ZoojaxError, match=rf"\A.*{re.escape(str(named))}.*\Z")


def test_no_folder(tmp_path):
    with refuses(f"{tmp_path / 'none'} is not a folder"):
        open_zoo(tmp_path / "none")
    (tmp_path / "file").touch()
    with refuses(f"{tmp_path / 'file'} is not a folder"):
        open_zoo(tmp_path / "file")


def test_no_zoo(tmp_path):
    with refuses(f"{tmp_path} is not a zoo"):
        open_zoo(tmp_path)


def edit(zoo: Zoo, change) -> Path:
    file = zoo.path / "zoo.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


def test_newer_schema(zoo):
    file = edit(zoo, lambda c: c.update(schema=99, novelty=1))
    with refuses(f"{file} has schema 99"):
        open_zoo(zoo.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("format"),
        lambda c: c.update(format="other"),
        lambda c: c.pop("schema"),
        lambda c: c.update(schema="new"),
        lambda c: c.pop("parent"),
        lambda c: c.pop("data"),
        lambda c: c.pop("kind"),
        lambda c: c.update(data=3),
        lambda c: c.update(data={"name": "digits", "colour": 1}),
        lambda c: c.update(parent={"path": "x"}),
        lambda c: c.update(parent=3),
        lambda c: c.update(unheard_of=1),
    ],
)
def test_wrong_json(zoo, change):
    file = edit(zoo, change)
    with refuses(file):
        open_zoo(zoo.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe\x00", b"\x00" * 9])
def test_damaged_json(zoo, content):
    (zoo.path / "zoo.json").write_bytes(content)
    with refuses(zoo.path / "zoo.json"):
        open_zoo(zoo.path)


def test_json_is_a_folder(zoo):
    (zoo.path / "zoo.json").unlink()
    (zoo.path / "zoo.json").mkdir()
    with refuses(zoo.path / "zoo.json"):
        open_zoo(zoo.path)


def test_missing_members(zoo):
    (zoo.path / "members.parquet").unlink()
    with refuses(zoo.path / "members.parquet"):
        open_zoo(zoo.path)


@pytest.mark.parametrize("table", ["members", "metrics"])
@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_truncated_parquet(zoo, table, keep):
    file = zoo.path / f"{table}.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with refuses(file):
        _ = open_zoo(zoo.path).epochs


def test_missing_metrics_mean_no_epoch(zoo):
    """As after an interruption before the first was whole."""
    (zoo.path / "metrics.parquet").unlink()
    again = open_zoo(zoo.path)
    assert again.epochs == []
    assert again.metrics.is_empty()
    assert again.members["diverged_epoch"].null_count() == 3
    with refuses("no epoch yet"):
        again.params()


def test_absent_epoch_and_member(zoo):
    with refuses(f"{zoo.path} has no epoch 7; it has 0 to 2"):
        zoo.params(7)
    with refuses(f"{zoo.path} has no epoch -1"):
        zoo.state(-1)
    for member in (3, -1):
        with refuses(f"{zoo.path} has no member {member}; it has 3 members"):
            zoo.member(member)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    """Eight bits in the middle of the weights, as a failing disk does."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


DAMAGES = [truncate, empty, flip, Path.unlink]


def largest(folder: Path) -> Path:
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


@pytest.fixture
def silence(monkeypatch):
    """Nothing is printed by threads that outlive a failed read; none reaches other tests."""
    noise = []
    monkeypatch.setattr(sys, "unraisablehook", noise.append)
    yield
    time.sleep(0.1)
    gc.collect()
    assert not [str(n.exc_value) for n in noise]


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_states_are_told_not_returned(zoo, damage):
    """Those of other epochs can still be read."""
    damage(largest(zoo.path / "states" / "1"))
    again = open_zoo(zoo.path)
    with refuses(zoo.path / "states" / "1"):
        again.params(1)
    assert again.params(2)["fc1"]["kernel"].shape == (3, 36, 20)


@pytest.mark.usefixtures("silence")
def test_missing_manifest(zoo):
    (zoo.path / "states" / "1" / "state" / "manifest.ocdbt").unlink()
    with refuses(zoo.path / "states" / "1"):
        open_zoo(zoo.path).params(1)


def test_missing_state_folder_is_a_missing_epoch(zoo):
    shutil.rmtree(zoo.path / "states" / "1")
    again = open_zoo(zoo.path)
    assert again.epochs == [0, 2]
    assert set(again.metrics["epoch"]) == {0, 2}
    with refuses("no epoch 1; it has 0, 2"):
        again.params(1)


def unfinish(zoo: Zoo, epochs: int = 3) -> Zoo:
    """As if more epochs were to come."""
    edit(zoo, lambda c: c.update(epochs=epochs))
    return open_zoo(zoo.path)


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("folder", ["states", "optimizer"])
def test_training_goes_on_from_the_newest_sound_epoch(tmp_path_factory, zoo, folder, damage):
    """And says so; the end is that of no damage."""
    whole = zoo_fixtures.train(tmp_path_factory, zoo.path.with_name("whole"), epochs=3)
    unfinish(zoo)
    damage(largest(zoo.path / folder / "2"))
    told = re.escape(f"{zoo.path / folder / '2'} is damaged: ") + ".*; going on from epoch 1"
    with pytest.warns(CorruptionWarning, match=told):
        again = zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)
    zoo_fixtures.assert_same_zoo(again, whole)


@pytest.mark.usefixtures("silence")
@pytest.mark.parametrize(("sound", "told"), [((0,), "epoch 0"), ((), "the beginning")])
def test_training_goes_on_from_afar(tmp_path_factory, zoo, sound, told):
    """Where all the newer epochs are damaged, of a finished zoo too."""
    whole = zoo_fixtures.copied(zoo, zoo.path.with_name("whole"))
    for epoch in {0, 1, 2} - set(sound):
        flip(largest(zoo.path / "states" / str(epoch)))
    with pytest.warns(CorruptionWarning, match=f"{zoo.path}/states/2.*; going on from {told}"):
        again = zoo_fixtures.train(tmp_path_factory, zoo.path)
    zoo_fixtures.assert_same_zoo(again, open_zoo(whole))


def test_training_goes_back_for_moments(tmp_path_factory, zoo):
    whole = zoo_fixtures.train(tmp_path_factory, zoo.path.with_name("whole"), epochs=3)
    unfinish(zoo)
    shutil.rmtree(zoo.path / "optimizer" / "2")
    with pytest.warns(CorruptionWarning, match="optimizer/2 is damaged.*; going on from epoch 1"):
        again = zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)
    zoo_fixtures.assert_same_zoo(again, whole)


def test_training_refuses_to_go_on_without_moments(tmp_path_factory, zoo):
    unfinish(zoo)
    shutil.rmtree(zoo.path / "optimizer")
    with refuses(f"{zoo.path} has no optimiser state"):
        zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3)


def test_only_the_newest_moments_are_kept(zoo):
    assert sorted(p.name for p in (zoo.path / "optimizer").iterdir()) == ["1", "2"]


def test_half_an_epoch_is_invisible_and_swept(tmp_path_factory, zoo):
    """What kill -9 leaves at various moments; the finished zoo is that of no interruption."""
    whole = zoo_fixtures.train(tmp_path_factory, zoo.path.with_name("whole"), epochs=3)
    unfinish(zoo)
    for folder in ("states", "optimizer"):
        # Saved, but not in the metrics; and still being saved.
        shutil.copytree(zoo.path / folder / "2", zoo.path / folder / "3")
        half = zoo.path / folder / "3.orbax-checkpoint-tmp-17"
        half.mkdir()
        (half / "part").write_bytes(b"half")
        shutil.copytree(half, zoo.path / folder / ".4.removed-99")
    (zoo.path / ".metrics.parquet.tmp-99").write_bytes(b"half")
    again = open_zoo(zoo.path)
    assert again.epochs == [0, 1, 2]
    assert set(again.metrics["epoch"]) == {0, 1, 2}
    with refuses("no epoch 3"):
        again.params(3)
    zoo_fixtures.assert_same_zoo(zoo_fixtures.train(tmp_path_factory, zoo.path, epochs=3), whole)
    assert sorted(p.name for p in (zoo.path / "states").iterdir()) == ["0", "1", "2", "3"]
    assert sorted(p.name for p in (zoo.path / "optimizer").iterdir()) == ["2", "3"]
    assert sorted(p.name for p in zoo.path.iterdir()) == [
        *("members.parquet", "metrics.parquet", "optimizer", "states", "zoo.json")
    ]


def test_metrics_without_their_state_are_invisible_and_made_again(tmp_path_factory, zoo):
    """An epoch whose state someone deleted does not double its rows."""
    unfinish(zoo, 2)
    shutil.rmtree(zoo.path / "states" / "2")
    shutil.rmtree(zoo.path / "optimizer" / "2")
    assert open_zoo(zoo.path).epochs == [0, 1]
    again = zoo_fixtures.train(tmp_path_factory, zoo.path)
    assert again.epochs == [0, 1, 2]
    assert len(again.metrics) == 9


def test_a_moved_pair_still_knows_each_other(tmp_path_factory, tmp_path):
    """Parent paths are relative."""
    shutil.copytree(zoo_fixtures.pruned(tmp_path_factory).path.parent, tmp_path / "moved")
    twin = open_zoo(tmp_path / "moved" / "pruned")
    assert twin.config.parent is not None
    parent = open_zoo((twin.path / twin.config.parent.path).resolve())
    assert parent.path == (tmp_path / "moved" / "dense").resolve()
    assert parent.fingerprint == twin.config.parent.fingerprint


def test_reading_a_tree_that_is_none(tmp_path):
    with refuses(tmp_path / "nothing"):
        checkpoints.read(tmp_path / "nothing")


def test_out_that_is_a_file_or_someone_elses_folder(tmp_path_factory, tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("mine")
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    parent = zoo_fixtures.dense(tmp_path_factory)
    for out in (file, folder):
        before = zoo_fixtures.contents(tmp_path)
        with refuses(out):
            zoo_fixtures.train(tmp_path_factory, out)
        with refuses(out):
            prune_zoo(out, parent, [0.5], epochs=0)
        assert zoo_fixtures.contents(tmp_path) == before
    with refuses(file / "zoo"):
        train_zoo(
            file / "zoo",
            "x",
            Grid(),
            "small",
            zoo_fixtures.spec(tmp_path_factory),
            epochs=0,
            chunk=1,
        )
