"""`zoojax geometry curvature`, `similarity`, `basins` and `transfer`, end to end."""

import polars as pl
import pytest

from tests.support.zoo_fixtures import assert_refused, cli, cli_json, contents, dense, pruned
from zoojax import open_zoo

FEW = ("--images", "16")


def test_curvature(tmp_path_factory, tmp_path):
    zoo, out = dense(tmp_path_factory).path, tmp_path / "out"
    options = (*FEW, "--samples", "2", "--steps", "3", "--eigenvalues", "2")
    found = cli_json(
        *(tmp_path_factory, "geometry", "curvature", zoo, *options, "--members", "0", "2"),
        *("--out", out, "--quiet"),
    )
    assert [row["member"] for row in found["curvature"]] == [0, 2]
    assert [row["rank"] for row in found["eigenvalues"]] == [1, 2, 1, 2]
    assert pl.read_csv(out / "curvature.csv")["trace"].to_list() == pytest.approx(
        [row["trace"] for row in found["curvature"]]
    )
    shown = cli(tmp_path_factory, "geometry", "curvature", zoo, *options, "--quiet")
    assert shown.returncode == 0 and "trace" in shown.stdout and "rank" in shown.stdout


def test_similarity(tmp_path_factory, tmp_path):
    command = ("geometry", "similarity", dense(tmp_path_factory).path, *FEW)
    found = cli_json(tmp_path_factory, *command, "--out", tmp_path / "out")
    assert [row["epoch"] for row in found["similarity"]] == [0, 1, 2]
    assert len(found["layers"]) == 25
    shown = cli(tmp_path_factory, *command)
    assert shown.returncode == 0 and "dimension" in shown.stdout


def test_basins(tmp_path_factory, tmp_path):
    zoo, twin = dense(tmp_path_factory).path, pruned(tmp_path_factory).path
    out = tmp_path / "out"
    found = cli_json(
        tmp_path_factory, "geometry", "basins", zoo, twin, "--points", "3", "--out", out
    )
    lines = [(row["line"], row["ratio"], row["aligned"]) for row in found["barriers"]]
    ratios = (0.0, 0.5, 0.9)
    assert lines == [
        ("two dense members", None, False),
        ("two dense members", None, True),
        *(
            (line, ratio, aligned)
            for ratio in ratios
            for line, aligned in (
                ("parent and twin", False),
                ("two twins", False),
                ("two twins", True),
            )
        ),
    ]
    assert all(row["loss_barrier"] >= 0 for row in found["barriers"])
    assert [row["ratio"] for row in found["masks"]] == list(ratios)
    assert (out / "barriers.png").exists() and (out / "masks_pairs.csv").exists()
    shown = cli(tmp_path_factory, "geometry", "basins", zoo, twin, "--points", "3")
    assert shown.returncode == 0 and "parent and twin" in shown.stdout


def test_transfer(tmp_path_factory, tmp_path):
    zoo, twin = dense(tmp_path_factory).path, pruned(tmp_path_factory).path
    out = tmp_path / "out"
    command = ("geometry", "transfer", zoo, twin, "--epochs", "1", "--out", out, "--quiet")
    found = cli_json(tmp_path_factory, *command)
    keys = [(row["ratio"], row["epoch"], row["mask"]) for row in found["rows"]]
    assert keys[:4] == [(0.5, 0, mask) for mask in ("own", "aligned", "unaligned", "random")]
    assert len(keys) == 2 * 2 * 4
    assert str(open_zoo(out / "random").config.origin).endswith(", random")
    assert (out / "transfer.svg").exists()
    states = contents(out / "aligned" / "states")
    assert cli(tmp_path_factory, *command).returncode == 0
    assert contents(out / "aligned" / "states") == states


def test_refusals(tmp_path_factory, tmp_path):
    zoo, twin = dense(tmp_path_factory).path, pruned(tmp_path_factory).path
    out = ("--out", tmp_path / "out")

    def refused(*words: object, named: tuple[object, ...]) -> None:
        assert_refused(cli(tmp_path_factory, "geometry", *words), *named)
        assert not (tmp_path / "out").exists()

    refused("curvature", zoo, "--images", "0", *out, named=("images is 0",))
    refused("curvature", zoo, "--members", "7", *out, named=("no member 7",))
    refused("curvature", zoo, "--epoch", "9", *out, named=("no epoch 9",))
    refused("curvature", tmp_path, *out, named=("is not a zoo",))
    refused("similarity", zoo, "--members", "0", "1", *out, named=("three or more members",))
    refused("basins", zoo, zoo, *out, named=("is not a twin of",))
    refused("basins", zoo, twin, "--points", "1", *out, named=("1 points",))
    refused("transfer", zoo, zoo, *out, named=("is not a twin of",))
    refused("transfer", zoo, twin, "--members", "1", *out, named=("two or more members",))
    (tmp_path / "file").write_text("")
    done = cli(tmp_path_factory, "geometry", "similarity", zoo, *FEW, "--out", tmp_path / "file")
    assert_refused(done, tmp_path / "file")
