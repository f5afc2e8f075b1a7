"""A zoo that is asked for again is returned; own scores and missing seeds make no surprises."""

import os
from typing import Any

import numpy as np
import polars as pl
import pytest
import zoos

from zoojax import ZoojaxError, make_dropped_out, make_pruned, open_zoo
from zoojax.magnitude_pruning import kernels


def magnitudes(params: dict) -> dict:
    return {layer: np.abs(kernel) for layer, kernel in kernels(params).items()}


@pytest.mark.parametrize("kind", zoos.KINDS)
def test_a_finished_zoo_is_returned_untouched(tmp_path_factory, tmp_path, kind):
    """Even from a folder in which nothing can be written."""
    path = zoos.copied(zoos.KINDS[kind](tmp_path_factory), tmp_path / "zoo")
    parent = zoos.dense(tmp_path_factory)
    before, calls = zoos.contents(path), []
    options: dict[str, Any] = {"epochs": zoos.EPOCHS, "chunk": zoos.CHUNK, "report": calls.append}

    def again():
        if kind == "dense":
            return zoos.train(tmp_path_factory, path, report=calls.append)
        if kind == "mp":
            return make_pruned(path, parent, [0.0, 0.5, 0.9], **options)
        return make_dropped_out(path, parent, **options)

    os.chmod(tmp_path, 0o500)  # noqa: PTH101
    try:
        zoo = again()
    finally:
        os.chmod(tmp_path, 0o700)  # noqa: PTH101
    assert zoos.contents(path) == before
    zoos.assert_same_zoo(zoo, zoos.KINDS[kind](tmp_path_factory))
    (call,) = calls
    assert (call.epoch, call.done) == (call.epochs, call.total)


def test_the_same_command_again_succeeds(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    words = ["train", "digits-s-seed", "--data", zoos.images(tmp_path_factory), "--members", 2]
    words += ["--epochs", 1, "--chunk", zoos.CHUNK, "--out", out]
    first = zoos.cli(tmp_path_factory, *words)
    again = zoos.cli(tmp_path_factory, *words)
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    assert again.stdout == first.stdout
    assert "already complete" in again.stderr
    assert "already complete" not in first.stderr
    other = zoos.cli(tmp_path_factory, *words, "--epochs", 2)
    zoos.assert_refused(other, out, "epochs")


def test_scores_need_a_name(tmp_path_factory, tmp_path):
    parent = zoos.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="name"):
        make_pruned(tmp_path / "zoo", parent, [0.5], scores=magnitudes)
    assert not (tmp_path / "zoo").exists()


def test_named_scores_are_part_of_the_identity(tmp_path_factory, tmp_path):
    parent = zoos.dense(tmp_path_factory)
    options: dict[str, Any] = {"epochs": 0, "chunk": zoos.CHUNK}
    one = make_pruned(tmp_path / "a", parent, [0.5], scores=magnitudes, origin="one", **options)
    two = make_pruned(tmp_path / "b", parent, [0.5], scores=magnitudes, origin="two", **options)
    assert one.fingerprint != two.fingerprint
    with pytest.raises(ZoojaxError, match="origin one, not two"):
        make_pruned(tmp_path / "a", parent, [0.5], scores=magnitudes, origin="two", **options)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: s.pop("fc1"), "fc1"),
        (lambda s: s.update(more=s["fc1"]), "more"),
        (lambda s: s.update(fc1=s["fc1"][:, 1:]), r"scores of fc1 have shape \(3, 35, 20\)"),
        (lambda s: s.update(fc1=s["fc1"] * np.nan), "scores of fc1 are not all numbers"),
        (lambda s: s.update(fc1=s["fc1"].astype(str)), "scores of fc1 are not all numbers"),
    ],
)
def test_scores_are_checked_before_anything_is_written(tmp_path_factory, tmp_path, spoil, named):
    def spoilt(params: dict) -> dict:
        found = magnitudes(params)
        spoil(found)
        return found

    with pytest.raises(ZoojaxError, match=named):
        make_pruned(
            tmp_path / "zoo", zoos.dense(tmp_path_factory), [0.5], scores=spoilt, origin="spoilt"
        )
    assert list(tmp_path.iterdir()) == []


def test_members_without_a_seed_draw_by_their_id(tmp_path_factory, tmp_path):
    """Torch zoos need not say their seeds; a null was once taken for some number."""
    path = zoos.copied(zoos.dense(tmp_path_factory), tmp_path / "zoo")
    table = open_zoo(path).roster
    table.with_columns(pl.Series("seed", [1, None, 3])).write_parquet(path / "members.parquet")
    twin = make_dropped_out(tmp_path / "twin", open_zoo(path), epochs=1, chunk=zoos.CHUNK)
    assert twin.roster["seed"].to_list() == [1, 1, 3]
    known = make_dropped_out(
        tmp_path / "known", zoos.dense(tmp_path_factory), epochs=1, chunk=zoos.CHUNK
    )
    assert zoos.same_bits(twin.member(0, 1), known.member(0, 1))
    assert zoos.same_bits(twin.member(2, 1), known.member(2, 1))


def test_unknown_members_are_named(tmp_path_factory, tmp_path):
    with pytest.raises(ZoojaxError, match="no member 7"):
        make_pruned(tmp_path / "zoo", zoos.dense(tmp_path_factory), [0.5], members=[0, 7])
