"""Zero-shot sparsification by predicted log alphas."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.support import representations, synthetic_zoos, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo
from zoojax.architectures.parameters import kernels
from zoojax.cli.main import main
from zoojax.hyper_representation.representation import Representation, open_representation
from zoojax.hyper_representation.zero_shot import compare, scores, zero_shot_twin
from zoojax.runtime import population
from zoojax.sparsifiers.magnitude import MagnitudePruning
from zoojax.sparsifiers.variational_dropout import LOG_ALPHA_CLIP, LOG_ALPHA_THRESHOLD
from zoojax.storage import zoo_images
from zoojax.training import trainer

RATIOS = (0.5, 0.9)
WEIGHTS = 2416


@pytest.fixture
def dense(tmp_path_factory) -> Zoo:
    return representations.dense(tmp_path_factory)


@pytest.fixture
def twin(tmp_path_factory) -> Zoo:
    return representations.twin(tmp_path_factory)


@pytest.fixture
def sparsifying(tmp_path_factory) -> Representation:
    return representations.sparsifying(tmp_path_factory)


def flat(by_layer: dict) -> np.ndarray:
    """Returns [members, weights] with layers sorted by name."""
    return np.concatenate([by_layer[k].reshape(len(by_layer[k]), -1) for k in sorted(by_layer)], 1)


def magnitudes(params: dict) -> dict:
    return {layer: np.abs(w) for layer, w in kernels(params).items()}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_magnitude_scores_match_magnitude_pruning(dense, tmp_path, scope):
    options = {"scope": scope, "epochs": 0, "chunk": zoo_fixtures.CHUNK}
    expected = zoo_fixtures.prune(tmp_path / "a", dense, RATIOS, **options)
    scored = zoo_fixtures.prune(
        tmp_path / "b", dense, RATIOS, scores=magnitudes, origin="magnitudes", **options
    )
    assert zoo_fixtures.same_bits(scored.state(), expected.state())
    assert scored.members_table.equals(expected.members_table)
    assert scored.fingerprint != expected.fingerprint


def test_ties_are_broken_by_magnitude(dense, tmp_path):
    expected = zoo_fixtures.prune(tmp_path / "a", dense, RATIOS, epochs=0, chunk=zoo_fixtures.CHUNK)
    scored = zoo_fixtures.prune(
        tmp_path / "b",
        dense,
        RATIOS,
        scores=lambda params: {k: np.zeros_like(w) for k, w in kernels(params).items()},
        origin="equal",
        epochs=0,
        chunk=zoo_fixtures.CHUNK,
    )
    assert zoo_fixtures.same_bits(scored.state(), expected.state())


def test_twins_of_selected_members(dense, tmp_path):
    full = zoo_fixtures.prune(tmp_path / "a", dense, RATIOS, epochs=0, chunk=zoo_fixtures.CHUNK)
    subset = zoo_fixtures.prune(
        tmp_path / "b", dense, RATIOS, members=[1, 4], epochs=0, chunk=zoo_fixtures.CHUNK
    )
    assert subset.members_table["parent_id"].to_list() == [1, 1, 4, 4]
    assert subset.members_table["ratio"].to_list() == [*RATIOS, *RATIOS]
    assert zoo_fixtures.same_bits(
        subset.state(), population.take(full.state(), np.array([2, 3, 8, 9]))
    )


def test_origin_is_omitted_from_zoo_json_if_unset(dense, tmp_path):
    """So that fingerprints of older zoos, and links of their twins, remain valid."""
    assert "origin" not in json.loads((dense.path / "zoo.json").read_text())
    assert dense.config.origin is None
    config = replace(dense.config, origin="somewhere")
    assert type(config).from_json(config.to_json()) == config


def test_scores_are_negated_log_alphas(dense, sparsifying):
    """Without clipping; clipped, they equal the reconstructed log alphas."""
    params = dense.params()
    by_layer, alphas = scores(sparsifying, params), sparsifying.reconstruct(params)[1]
    assert alphas is not None
    for layer, score in by_layer.items():
        clip = LOG_ALPHA_CLIP["conv" if layer.startswith("conv") else "fc"]
        np.testing.assert_allclose(
            np.clip(-score, -clip, clip), alphas[layer]["kernel"], rtol=1e-5, atol=1e-5
        )


def test_weights_with_largest_log_alphas_are_pruned(dense, sparsifying, tmp_path):
    """The exact number over the whole network; other weights and biases do not change."""
    zoo = zero_shot_twin(tmp_path / "zero", sparsifying, dense, RATIOS, chunk=zoo_fixtures.CHUNK)
    assert isinstance(zoo.config.sparsifier, MagnitudePruning)
    assert (zoo.epochs, zoo.config.epochs) == ([0], 0)
    assert zoo.config.parent is not None
    assert zoo.config.parent.fingerprint == dense.fingerprint
    assert sparsifying.fingerprint[:16] in (zoo.config.origin or "")
    state, params = zoo.state(), dense.params()
    kept = flat(state["mask"])
    pruned = [round(ratio * WEIGHTS) for ratio in RATIOS] * len(dense)
    assert (~kept).sum(1).tolist() == pruned
    ranked = np.repeat(flat(scores(sparsifying, params)), len(RATIOS), axis=0)
    for mask, score in zip(kept, ranked, strict=True):
        assert score[~mask].max() <= score[mask].min()
    before = population.take(params, np.repeat(np.arange(len(dense)), len(RATIOS)))
    for layer, leaves in state["params"].items():
        expected = np.where(state["mask"][layer], before[layer]["kernel"], 0)
        np.testing.assert_array_equal(leaves["kernel"], expected)
        np.testing.assert_array_equal(leaves["bias"], before[layer]["bias"])
    np.testing.assert_allclose(zoo.metrics["sparsity"], np.array(pruned) / WEIGHTS, rtol=1e-6)
    again = zero_shot_twin(zoo.path, sparsifying, dense, RATIOS, chunk=zoo_fixtures.CHUNK)
    assert again.fingerprint == zoo.fingerprint


def test_fine_tuning_resumes_and_keeps_masks(dense, sparsifying, tmp_path):
    """With held-out members only; a different representation is refused."""
    options = {"held_out_only": True, "epochs": 2, "chunk": zoo_fixtures.CHUNK}

    def stop(progress: trainer.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    path = tmp_path / "zero"
    with pytest.raises(KeyboardInterrupt):
        zero_shot_twin(path, sparsifying, dense, [0.8], report=stop, **options)
    assert open_zoo(path).epochs == [0, 1]
    zoo = zero_shot_twin(path, sparsifying, dense, [0.8], **options)
    assert zoo.epochs == [0, 1, 2]
    assert zoo.members_table["parent_id"].to_list() == sparsifying.config.zoos[0].members.test
    assert zoo_fixtures.same_bits(zoo.state(2)["mask"], zoo.state(0)["mask"])
    with pytest.raises(ZoojaxError, match="was created with origin="):
        zero_shot_twin(
            path, different_representation(sparsifying, tmp_path), dense, [0.8], **options
        )


def different_representation(representation: Representation, folder) -> Representation:
    """Copies a representation and changes its scale of log alphas."""
    path = shutil.copytree(representation.path, folder / "other")
    config = open_representation(path).config
    settings = replace(config.settings, alpha_radius=3.0)
    path_of_zoo = str(representation.training_zoo().path.resolve())
    zoos = [replace(config.zoos[0], path=path_of_zoo)]
    config = replace(config, settings=settings, zoos=zoos)
    return Representation(path, config)


def test_comparison_matches_pruned_zoos(dense, twin, sparsifying, tmp_path):
    """Each row has the accuracy of a zoo that is pruned in the same way."""
    images = zoo_images.load_images(dense, None)
    table = compare(sparsifying, dense, twin, images, RATIOS)
    true_mask = f"true VD mask (epoch {representations.EPOCHS})"
    methods = ["predicted", "magnitude", "random", true_mask]
    assert table["method"].unique(maintain_order=True).to_list() == methods
    assert len(table) == 4 * len(RATIOS) + 2
    held_out = sparsifying.config.zoos[0].members.test
    assert (table["members"] == len(held_out)).all()
    curves = table.filter(~table["at_threshold"])
    expected = [round(r * WEIGHTS) / WEIGHTS for r in RATIOS] * 4
    np.testing.assert_allclose(curves["sparsity"], expected)
    for method, ranked in (
        ("magnitude", None),
        ("predicted", lambda params: scores(sparsifying, params)),
    ):
        zoo = zoo_fixtures.prune(
            *(tmp_path / method, dense, RATIOS),
            members=held_out,
            scores=ranked,
            origin=None if ranked is None else method,
            epochs=0,
            chunk=zoo_fixtures.CHUNK,
        )
        accuracy = zoo.metrics["test_acc"].to_numpy().reshape(len(held_out), -1)
        rows = curves.filter(method=method)
        np.testing.assert_allclose(rows["test_acc_mean"], accuracy.mean(0), atol=1e-6)
        np.testing.assert_allclose(rows["test_acc_std"], accuracy.std(0), atol=1e-6)
    # The synthetic twin has the dense zoo's weights, so its threshold gives the same mask.
    row = table.filter(at_threshold=True, method=true_mask)
    rows = np.flatnonzero(twin.members_table["id"].is_in(held_out))
    zeros = flat(kernels(jax.tree.map(lambda x: x[rows] == 0, twin.sparse_params())))
    assert row["sparsity"].item() == pytest.approx(zeros.mean())
    assert compare(sparsifying, dense, twin, images, RATIOS).equals(table)


def test_sparsity_at_threshold_counts_predicted_log_alphas(sparsifying, dense, twin):
    table = compare(sparsifying, dense, twin, zoo_images.load_images(dense, None), [0.5])
    rows = np.flatnonzero(dense.members_table["id"].is_in(sparsifying.config.zoos[0].members.test))
    params = population.take(dense.params(), rows)
    expected = (-flat(scores(sparsifying, params)) >= LOG_ALPHA_THRESHOLD).mean()
    row = table.filter(at_threshold=True, method="predicted")
    assert row["sparsity"].item() == pytest.approx(expected)


def test_invalid_arguments_create_no_twin(dense, twin, sparsifying, tmp_path_factory, tmp_path):
    out = tmp_path / "zero"
    with pytest.raises(ZoojaxError, match="trained without log alphas"):
        zero_shot_twin(out, representations.without_alphas(tmp_path_factory), dense, RATIOS)
    with pytest.raises(ZoojaxError, match="itself a twin"):
        zero_shot_twin(out, sparsifying, twin, RATIOS)
    for ratios, named in (([], "one or more"), ([0.5, 0.5], "each once"), ([1.0], "ratio 1 ")):
        with pytest.raises(ZoojaxError, match=named):
            zero_shot_twin(out, sparsifying, dense, ratios)
    with pytest.raises(ZoojaxError, match="no epoch 7"):
        zero_shot_twin(out, sparsifying, dense, RATIOS, epoch=7)
    with pytest.raises(ZoojaxError, match="-1 epochs"):
        zero_shot_twin(out, sparsifying, dense, RATIOS, epochs=-1)
    assert not out.exists()
    colored = Zoo(dense.path, replace(dense.config, channels=3))
    with pytest.raises(ZoojaxError, match="3 channels"):
        zero_shot_twin(out, sparsifying, colored, RATIOS)
    other = synthetic_zoos.dense(tmp_path / "other", 3, spec=zoo_fixtures.spec(tmp_path_factory))
    with pytest.raises(ZoojaxError, match=r"not a twin of .*other"):
        zero_shot_twin(out, sparsifying, other, RATIOS, held_out_only=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ZoojaxError, match="not empty and is not a zoo"):
        zero_shot_twin(tmp_path / "full", sparsifying, dense, RATIOS)


def test_command(dense, twin, sparsifying, tmp_path, capsys, monkeypatch):
    """Prints the zoo and the comparison, and writes the comparison if requested."""
    # If set, the command does not enable the compilation cache for the other tests.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    out, folder = tmp_path / "zero", tmp_path / "comparison"
    words = ["represent", "sparsify", str(sparsifying.path), str(dense.path), "--out", str(out)]
    words += ["--ratios", "0.5", "0.9", "--chunk", "4", "--quiet"]
    assert main([*words, "--comparison", str(folder)]) == 0
    printed = capsys.readouterr().out
    for named in ("predicted", "magnitude", "random", "true VD mask", "90.0", "log alpha >= 3"):
        assert named in printed
    assert sorted(f.name for f in folder.iterdir()) == [
        *("zero_shot.csv", "zero_shot.png", "zero_shot.svg"),
    ]
    assert main(["info", str(out)]) == 0
    assert "zero-shot, log alphas predicted by" in capsys.readouterr().out
    assert main(words) == 0
    assert "already complete" in capsys.readouterr().err
    # Without its training zoo, a moved representation has no comparison.
    moved = Path(shutil.copytree(sparsifying.path, tmp_path / "elsewhere"))
    words[2], words[5] = str(moved), str(tmp_path / "again")
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert "is not a folder" in printed["comparison"]
    assert len(printed["rows"]) == 2
