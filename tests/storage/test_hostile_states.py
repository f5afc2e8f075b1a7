"""Damaged states and states from an untrusted source are refused before they use memory."""

import json
import shutil

import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.damage import (
    DAMAGES,
    FILE_REPLACEMENTS,
    assert_read_fails,
    largest_file,
    refuses,
    replace_file,
)
from zoojax import analysis, open_zoo
from zoojax.hyper_representation.training_data import default_alpha_epoch
from zoojax.storage import checkpoints
from zoojax.storage.zoo_images import load_images
from zoojax.training.inference import predict


def test_states_of_other_kinds_of_zoos(zoo_of_any_kind, tmp_path_factory):
    """The arrays of another kind are refused before any memory is allocated for them."""
    zoo = zoo_of_any_kind
    for make_other in zoo_fixtures.KINDS.values():
        source = make_other(tmp_path_factory)
        if source.config.sparsifier == zoo.config.sparsifier:
            continue
        shutil.rmtree(zoo.path / "states" / "1")
        shutil.copytree(source.path / "states" / "1", zoo.path / "states" / "1")
        assert_read_fails(lambda: open_zoo(zoo.path).state(1), zoo.path / "states" / "1", "array")


def test_arrays_of_wrong_shape_or_type(zoo_of_any_kind):
    zoo = zoo_of_any_kind
    state = zoo.state(1, raw=True)
    saved = checkpoints.read(zoo.path / "states" / "1")

    def save(change) -> None:
        tree = {k: ({**v} if isinstance(v, dict) else v) for k, v in saved.items()}
        change(tree)
        checkpoints.save(zoo.path / "states" / "1", tree)

    def with_conv1(kernel) -> dict:
        return {**saved["params"], "conv1": {**saved["params"]["conv1"], "kernel": kernel}}

    kernel = state["params"]["conv1"]["kernel"]
    for change in (
        lambda t: t.update(params=with_conv1(saved["params"]["conv1"]["kernel"][:1])),
        lambda t: t.update(params=with_conv1(np.zeros((2**8, *kernel.shape[1:]), np.float32))),
        lambda t: t.update(params=with_conv1(kernel.astype(np.float64))),
        lambda t: t.update(params=with_conv1(kernel.astype(np.float16))),
        lambda t: t["params"].pop("fc2"),
        lambda t: t.update(more=np.zeros(3, np.float32)),
        lambda t: t["params"].update(conv9=t["params"]["conv1"]),
        lambda t: t.update(params=np.zeros(3, np.float32)),
    ):
        save(change)
        assert_read_fails(lambda: open_zoo(zoo.path).state(1), zoo.path / "states" / "1", "array")
        images = np.zeros((1, 28, 28, 1), np.float32)
        assert_read_fails(lambda: predict(open_zoo(zoo.path), images, 1))  # noqa: B023


@pytest.mark.parametrize("kind", FILE_REPLACEMENTS)
def test_step_file_that_is_not_a_regular_file(zoo, kind):
    step = zoo.path / "states" / "1"
    files = [f for f in sorted(step.rglob("*")) if f.is_file()]
    for file in files:
        content = file.read_bytes()
        replace_file(file, kind)
        assert_read_fails(lambda: open_zoo(zoo.path).state(1), step)
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
        file.write_bytes(content)
    (step / "more").symlink_to("/etc")
    assert_read_fails(lambda: open_zoo(zoo.path).state(1), "more")


@pytest.mark.parametrize(
    "digests",
    [{}, [], "x", {"../../zoo.json": "0"}, {"/etc/passwd": "0"}, {"/dev/zero": "0"}, {"a\nb": 3}],
)
def test_invalid_checksums(zoo, digests):
    step = zoo.path / "states" / "1"
    (step / checkpoints.CHECKSUMS).write_text(json.dumps(digests))
    assert_read_fails(lambda: zoo.state(1), step)


def test_missing_step(tmp_path):
    with refuses(tmp_path / "nothing"):
        checkpoints.read(tmp_path / "nothing")


@pytest.mark.usefixtures("no_thread_errors")
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_states_are_refused(zoo, damage):
    """States of other epochs can still be read."""
    damage(largest_file(zoo.path / "states" / "1"))
    reopened = open_zoo(zoo.path)
    with refuses(zoo.path / "states" / "1"):
        reopened.params(1)
    assert reopened.params(2)["fc1"]["kernel"].shape == (3, 36, 20)


@pytest.mark.usefixtures("no_thread_errors")
def test_missing_manifest(zoo):
    (zoo.path / "states" / "1" / "state" / "manifest.ocdbt").unlink()
    with refuses(zoo.path / "states" / "1"):
        open_zoo(zoo.path).params(1)


def test_missing_state_folder_is_a_missing_epoch(zoo):
    shutil.rmtree(zoo.path / "states" / "1")
    reopened = open_zoo(zoo.path)
    assert reopened.epochs == [0, 2]
    assert set(reopened.metrics["epoch"]) == {0, 2}
    with refuses("no epoch 1; it has epochs 0, 2"):
        reopened.params(1)


def test_zoo_without_epochs(tmp_path_factory, tmp_path):
    """Everything that needs a state names the zoo and says that it has no epoch."""
    original = zoo_fixtures.KINDS["vd"](tmp_path_factory)
    twin = open_zoo(zoo_fixtures.copied(original, tmp_path / "twin"))
    shutil.rmtree(twin.path / "states")
    dense = zoo_fixtures.dense(tmp_path_factory)
    for read in (
        lambda: twin.newest_epoch,
        lambda: twin.state(0),
        lambda: twin.optimizer_state(),
        lambda: analysis.agreement(dense, twin),
        lambda: analysis.analyze(dense, [twin]),
        lambda: default_alpha_epoch(twin),
        lambda: predict(twin, np.zeros((1, 28, 28, 1), np.float32)),
    ):
        assert_read_fails(read, twin.path, "has no completed epoch yet")


@pytest.mark.parametrize(
    "name", ["u[1]", "[!a]", "a*", "a?", "{a,b}", "back\\slash", "~", "new\nline"]
)
def test_path_with_special_characters(tmp_path_factory, tmp_path, name):
    """Paths are never used as patterns: folders that a pattern would match are not read."""
    for neighbor in ("u1", "b", "ab", "a", "back"):
        zoo_fixtures.train(
            tmp_path_factory, tmp_path / neighbor, zoo_fixtures.GRID.__class__(seeds=1), epochs=0
        )
    out = tmp_path / name
    zoo = zoo_fixtures.train(tmp_path_factory, out)
    zoo_fixtures.assert_same_zoo(open_zoo(out), zoo_fixtures.dense(tmp_path_factory))
    assert len(open_zoo(tmp_path / "u1")) == 1
    done = zoo_fixtures.cli(tmp_path_factory, "info", out, "--check")
    assert done.returncode == 0, done.stderr
    assert load_images(zoo, None).hash == zoo.config.data_hash
