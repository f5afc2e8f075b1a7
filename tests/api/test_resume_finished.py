"""Complete zoos are returned unchanged; custom scores; members without seeds."""

import os
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.architectures.parameters import kernels


def magnitude_scores(params: dict) -> dict:
    return {layer: np.abs(kernel) for layer, kernel in kernels(params).items()}


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_complete_zoo_is_returned_unchanged(tmp_path_factory, tmp_path, kind):
    """Also from a read-only folder."""
    path = zoo_fixtures.copied(zoo_fixtures.KINDS[kind](tmp_path_factory), tmp_path / "zoo")
    parent = zoo_fixtures.dense(tmp_path_factory)
    before, calls = zoo_fixtures.contents(path), []
    options: dict[str, Any] = {
        "epochs": zoo_fixtures.EPOCHS,
        "chunk": zoo_fixtures.CHUNK,
        "report": calls.append,
    }

    def rerun() -> Zoo:
        if kind == "dense":
            return zoo_fixtures.train(tmp_path_factory, path, report=calls.append)
        if kind == "mp":
            return zoo_fixtures.prune(path, parent, [0.0, 0.5, 0.9], **options)
        return zoo_fixtures.train_variational(path, parent, **options)

    os.chmod(tmp_path, 0o500)  # noqa: PTH101
    try:
        zoo = rerun()
    finally:
        os.chmod(tmp_path, 0o700)  # noqa: PTH101
    assert zoo_fixtures.contents(path) == before
    zoo_fixtures.assert_same_zoo(zoo, zoo_fixtures.KINDS[kind](tmp_path_factory))
    (call,) = calls
    assert (call.epoch, call.done) == (call.epochs, call.total)


def test_rerun_command_reports_a_complete_zoo(tmp_path_factory, tmp_path):
    out = tmp_path / "zoo"
    words = [
        "train",
        "digits-s-seed",
        "--data",
        zoo_fixtures.images(tmp_path_factory),
        "--members",
        2,
    ]
    words += ["--epochs", 1, "--chunk", zoo_fixtures.CHUNK, "--out", out]
    first = zoo_fixtures.cli(tmp_path_factory, *words)
    again = zoo_fixtures.cli(tmp_path_factory, *words)
    assert (first.returncode, again.returncode) == (0, 0), again.stderr
    assert again.stdout == first.stdout
    assert "already complete" in again.stderr
    assert "already complete" not in first.stderr
    other = zoo_fixtures.cli(tmp_path_factory, *words, "--epochs", 0)
    zoo_fixtures.assert_refused(other, out, "epochs")


def test_scores_without_origin_are_refused(tmp_path_factory, tmp_path):
    parent = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError, match="name"):
        zoo_fixtures.prune(tmp_path / "zoo", parent, [0.5], scores=magnitude_scores)
    assert not (tmp_path / "zoo").exists()


def test_origin_of_scores_is_part_of_the_identity(tmp_path_factory, tmp_path):
    parent = zoo_fixtures.dense(tmp_path_factory)
    options: dict[str, Any] = {"epochs": 0, "chunk": zoo_fixtures.CHUNK}
    one = zoo_fixtures.prune(
        tmp_path / "a", parent, [0.5], scores=magnitude_scores, origin="one", **options
    )
    two = zoo_fixtures.prune(
        tmp_path / "b", parent, [0.5], scores=magnitude_scores, origin="two", **options
    )
    assert one.fingerprint != two.fingerprint
    with pytest.raises(ZoojaxError, match="origin=one, but two was requested"):
        zoo_fixtures.prune(
            tmp_path / "a", parent, [0.5], scores=magnitude_scores, origin="two", **options
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fc1"), "fc1"),
        (lambda s: s.update(more=s["fc1"]), "more"),
        (lambda s: s.update(fc1=s["fc1"][:, 1:]), r"scores of fc1 have shape \(3, 35, 20\)"),
        (lambda s: s.update(fc1=s["fc1"] * np.nan), "scores of fc1 are not all numbers"),
        (lambda s: s.update(fc1=s["fc1"].astype(str)), "scores of fc1 are not all numbers"),
    ],
)
def test_scores_are_checked_before_anything_is_written(tmp_path_factory, tmp_path, change, message):
    def invalid_scores(params: dict) -> dict:
        scores = magnitude_scores(params)
        change(scores)
        return scores

    with pytest.raises(ZoojaxError, match=message):
        zoo_fixtures.prune(
            tmp_path / "zoo",
            zoo_fixtures.dense(tmp_path_factory),
            [0.5],
            scores=invalid_scores,
            origin="invalid",
        )
    assert list(tmp_path.iterdir()) == []


def test_member_without_a_seed_uses_its_id(tmp_path_factory, tmp_path):
    """Torch zoos may lack seeds; a null must not become an arbitrary number."""
    path = zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo")
    table = open_zoo(path).members_table
    table.with_columns(pl.Series("seed", [1, None, 3])).write_parquet(path / "members.parquet")
    twin = zoo_fixtures.train_variational(
        tmp_path / "twin", open_zoo(path), epochs=1, chunk=zoo_fixtures.CHUNK
    )
    assert twin.members_table["seed"].to_list() == [1, 1, 3]
    known = zoo_fixtures.train_variational(
        tmp_path / "known", zoo_fixtures.dense(tmp_path_factory), epochs=1, chunk=zoo_fixtures.CHUNK
    )
    assert zoo_fixtures.same_bits(twin.member(0, 1), known.member(0, 1))
    assert zoo_fixtures.same_bits(twin.member(2, 1), known.member(2, 1))


def test_unknown_member_is_named(tmp_path_factory, tmp_path):
    with pytest.raises(ZoojaxError, match="no member 7"):
        zoo_fixtures.prune(
            tmp_path / "zoo", zoo_fixtures.dense(tmp_path_factory), [0.5], members=[0, 7]
        )
