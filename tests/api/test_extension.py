"""Extending zoos and twins by epochs and members: the bits of training all at once."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.support import zoo_fixtures
from tests.support.damage import edit_config, refuses
from zoojax import Choice, Grid, LogUniform, RigL, Zoo, analysis, open_zoo, sparsify
from zoojax.runtime.population import take
from zoojax.storage import extension

SEEDS = Grid(inits=("kaiming_uniform",), learning_rates=(1e-2,), seeds=4)
# The ids of members change when seeds are added.
GRID = Grid(learning_rates=(1e-2, 3e-3), seeds=2)
# The members that are added use another optimizer, too.
SEARCH = Grid(learning_rates=LogUniform(1e-3, 1e-1), optimizers=Choice(("adam", "sgd")), seeds=2)
GRIDS = {"seeds": SEEDS, "grid": GRID, "search": SEARCH}


# Most tests need one of the zoos.
on_grid = pytest.mark.parametrize("extended", ["grid"], indirect=True)


class Extended(NamedTuple):
    """A small zoo, its extension, the same zoo at once, twins of the small zoo, and the grid."""

    before: Path
    more: Zoo
    whole: Zoo
    twins: list[Zoo]
    grid: Grid


def train(factory, out, grid: Grid, seeds: int | None = None, **options: Any) -> Zoo:
    given = {} if seeds is None else {"members": seeds}
    return zoo_fixtures.train(factory, out, grid, **given, **options)


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


@pytest.fixture(scope="module", params=GRIDS)
def extended(request, tmp_path_factory) -> Extended:
    grid, folder = GRIDS[request.param], tmp_path_factory.mktemp("extended")
    small = train(tmp_path_factory, folder / "zoo", grid, epochs=3)
    before = zoo_fixtures.copied(small, folder / "before")
    (small.path / "notes.txt").write_text("mine")
    twins = [
        zoo_fixtures.prune(folder / "twin", small, [0.5], epochs=1, chunk=zoo_fixtures.CHUNK),
        zoo_fixtures.prune(
            folder / "early", small, [0.5, 0.9], epoch=1, epochs=0, chunk=zoo_fixtures.CHUNK
        ),
    ]
    more = train(tmp_path_factory, small.path, grid, 2 * grid.seeds, epochs=5)
    whole = train(tmp_path_factory, folder / "whole", grid, 2 * grid.seeds, epochs=5)
    return Extended(before, more, whole, twins, grid)


def test_extension_equals_training_at_once(extended):
    _, more, whole, *_ = extended
    zoo_fixtures.assert_same_zoo(more, whole)
    assert more.metrics_history.equals(whole.metrics_history)
    config = json.loads((more.path / "zoo.json").read_text())
    assert config.pop("earlier")
    assert config == json.loads((whole.path / "zoo.json").read_text())


@on_grid
def test_extension_leaves_nothing_behind_and_keeps_other_files(extended):
    _, more, whole, *_ = extended
    assert (more.path / "notes.txt").read_text() == "mine"
    assert hidden(more.path.parent) == hidden(more.path) == []
    (more.path / "notes.txt").unlink()
    names = [{p.name for p in zoo.path.rglob("*") if p.is_dir()} for zoo in (more, whole)]
    assert names[0] == names[1]
    (more.path / "notes.txt").write_text("mine")


@on_grid
def test_old_members_keep_their_states(extended):
    before, more, *_ = extended
    old = open_zoo(before)
    rows = extension.positions(old.members_table, more.members_table)
    assert isinstance(rows, list)
    for epoch in old.epochs:
        kept = take(more.state(epoch), np.array(rows))
        assert zoo_fixtures.same_bits(kept, old.state(epoch))


@on_grid
def test_twins_recognize_their_extended_parent(extended):
    """Tables of the twins are the same with the extended parent, but for the ids of members."""
    before, more, _, twins, _ = extended
    for twin in twins:
        old = analysis.paired_metrics(open_zoo(before), twin)
        new = analysis.paired_metrics(more, twin)
        assert new.drop("parent_id").equals(old.drop("parent_id"))
        seeds = [
            table.select("parent_id").join(
                zoo.members_table, left_on="parent_id", right_on="id", maintain_order="left"
            )
            for table, zoo in ((old, open_zoo(before)), (new, more))
        ]
        assert seeds[0].drop("parent_id").equals(seeds[1].drop("parent_id"))


@on_grid
def test_twin_resumes_and_is_extended_after_its_parent(tmp_path_factory, tmp_path, extended):
    """The same command returns the twin; with all members, it is as if made at once."""
    before, more, whole, (twin, _), _ = extended
    shutil.copytree(more.path, tmp_path / "zoo")
    parent, path = open_zoo(tmp_path / "zoo"), zoo_fixtures.copied(twin, tmp_path / "twin")
    rows = extension.positions(open_zoo(before).members_table, more.members_table)
    assert isinstance(rows, list)
    members = more.members_table["id"].gather(rows).to_list()
    options: dict[str, Any] = {"epoch": 3, "chunk": zoo_fixtures.CHUNK}
    content = zoo_fixtures.contents(path)
    same = zoo_fixtures.prune(path, parent, [0.5], members=members, epochs=1, **options)
    zoo_fixtures.assert_same_zoo(same, twin)
    assert zoo_fixtures.contents(path) == content
    longer = zoo_fixtures.prune(path, parent, [0.5], members=members, epochs=2, **options)
    assert longer.config.epochs == 2
    assert analysis.paired_metrics(parent, longer)["parent_id"].unique().sort().to_list() == members
    larger = zoo_fixtures.prune(path, parent, [0.5], epochs=2, **options)
    at_once = zoo_fixtures.prune(tmp_path / "once", whole, [0.5], epochs=2, **options)
    zoo_fixtures.assert_same_zoo(larger, at_once)


@on_grid
@pytest.mark.parametrize("options", [{"members": 1}, {"epochs": 2}], ids=str)
def test_less_is_refused(tmp_path_factory, extended, options):
    _, more, *_ = extended
    content = zoo_fixtures.contents(more.path)
    with refuses("created with"):
        train(tmp_path_factory, more.path, GRID, **{"epochs": 5, "members": 4, **options})
    assert zoo_fixtures.contents(more.path) == content


@pytest.mark.parametrize(
    ("grid", "named"),
    [
        ({"schedules": ("cosine",)}, "schedule cosine depends on the number of epochs"),
        ({"schedules": ("step",), "warmups": (0.5,)}, "the warm-up depends on the number"),
    ],
    ids=["cosine", "warmup"],
)
def test_epochs_that_change_learning_rates_are_refused(tmp_path_factory, tmp_path, grid, named):
    grid = Grid(seeds=1, **grid)
    zoo = train(tmp_path_factory, tmp_path / "zoo", grid, epochs=0)
    content = zoo_fixtures.contents(zoo.path)
    with refuses(f"{zoo.path} has 0 epochs and cannot be extended to 1: {named}"):
        train(tmp_path_factory, zoo.path, grid, epochs=1)
    assert zoo_fixtures.contents(zoo.path) == content
    assert len(train(tmp_path_factory, zoo.path, grid, 2, epochs=0)) == 2


def test_fresh_seeds_that_would_change_are_refused(tmp_path_factory, tmp_path):
    grid = Grid(learning_rates=(1e-2, 3e-3), seeds=1, fresh_seeds=True)
    zoo = train(tmp_path_factory, tmp_path / "zoo", grid, epochs=0)
    with refuses("its member 1 (seed 2) is not one of the 4 members requested"):
        train(tmp_path_factory, zoo.path, grid, 2, epochs=0)


def test_zoo_without_optimizer_state_is_refused(tmp_path_factory, tmp_path):
    """As a converted one; members can be added nevertheless."""
    zoo = train(tmp_path_factory, tmp_path / "zoo", SEEDS, 1, epochs=1)
    shutil.rmtree(zoo.path / "optimizer")
    content = zoo_fixtures.contents(zoo.path)
    with refuses("it has no optimizer state"):
        train(tmp_path_factory, zoo.path, SEEDS, 1, epochs=2)
    assert zoo_fixtures.contents(zoo.path) == content
    assert len(train(tmp_path_factory, zoo.path, SEEDS, 2, epochs=1)) == 2


def test_rigl_twin_is_not_extended_by_epochs(tmp_path_factory, tmp_path):
    parent = zoo_fixtures.dense(tmp_path_factory)
    options: dict[str, Any] = {"members": 1, "chunk": zoo_fixtures.CHUNK, "quiet": True}
    twin = sparsify(parent, RigL(), tmp_path / "twin", epochs=0, **options)
    with refuses("RigL depends on the number of epochs"):
        sparsify(parent, RigL(), twin.path, epochs=1, **options)


# Functions whose call stands for a kill at that moment.
STOPS = {
    "epochs added": "zoojax.api.extension._add_members",
    "members trained": "zoojax.storage.extension.merge",
    "merging": "zoojax.storage.extension._joined_moments",
    "merged": "zoojax.storage.extension.replace_zoo",
    "between the renames": "zoojax.storage.extension.finish_replacing",
    "renamed": "zoojax.storage.extension.sync_folder",
}


@on_grid
@pytest.mark.parametrize("stop", STOPS)
def test_stopped_extension_resumes(tmp_path_factory, tmp_path, extended, monkeypatch, stop):
    before, _, whole, _, grid = extended
    path = zoo_fixtures.copied(open_zoo(before), tmp_path / "zoo")
    (path / "notes.txt").write_text("mine")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(STOPS[stop], killed)
        train(tmp_path_factory, path, grid, 2 * grid.seeds, epochs=5)
    if stop != "between the renames":
        assert set(open_zoo(path).epochs) >= {0, 1, 2, 3}
    resumed = train(tmp_path_factory, path, grid, 2 * grid.seeds, epochs=5)
    zoo_fixtures.assert_same_zoo(resumed, whole)
    assert (path / "notes.txt").read_text() == "mine"
    assert hidden(tmp_path) == []


def test_extension_by_other_members_than_those_of_a_stopped_one(
    tmp_path_factory, tmp_path, monkeypatch
):
    zoo = train(tmp_path_factory, tmp_path / "zoo", SEEDS, 1, epochs=0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("zoojax.storage.extension.merge", killed)
        train(tmp_path_factory, zoo.path, SEEDS, 3, epochs=0)
    assert len(train(tmp_path_factory, zoo.path, SEEDS, 2, epochs=0)) == 2
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("ids", [[[0, 9]], [[0, -1]], [[0]], "x", {"0": 1}], ids=str)
def test_hostile_record_of_an_extension(tmp_path_factory, tmp_path, ids):
    zoo = train(tmp_path_factory, tmp_path / "zoo", SEEDS, 1, epochs=0)
    edit_config(zoo, lambda c: c.update(earlier=[{"fingerprint": "0" * 64, "ids": ids}]))
    with refuses(str(zoo.path)):
        open_zoo(zoo.path)


def test_out_is_an_opened_zoo(tmp_path_factory, tmp_path):
    zoo = train(tmp_path_factory, tmp_path / "zoo", SEEDS, 1, epochs=0)
    assert len(train(tmp_path_factory, zoo, SEEDS, 2, epochs=0)) == 2
    with refuses("which is not in a folder"):
        train(tmp_path_factory, zoo[:1], SEEDS, 2, epochs=0)


@on_grid
def test_view_of_an_extended_zoo(tmp_path, extended):
    _, more, *_ = extended
    view = more[1:3]
    saved = view.save(tmp_path / "part")
    assert zoo_fixtures.same_bits(saved.state(), view.state())
    assert open_zoo(saved.path).config.earlier is None


def test_command_line_extends(tmp_path_factory, tmp_path):
    words = ["train", "digits-s-seed", "--data", zoo_fixtures.images(tmp_path_factory)]
    words += ["--chunk", zoo_fixtures.CHUNK, "--quiet", "--out", tmp_path / "zoo"]
    for members, epochs in ((1, 0), (2, 1)):
        more = ["--members", members, "--epochs", epochs]
        done = zoo_fixtures.cli(tmp_path_factory, *words, *more)
        assert done.returncode == 0, done.stderr
        assert "already complete" not in done.stderr
    zoo = open_zoo(tmp_path / "zoo")
    assert (len(zoo), zoo.epochs) == (2, [0, 1])
