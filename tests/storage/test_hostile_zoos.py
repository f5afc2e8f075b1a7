"""A zoo from anybody: opened, or refused in one line, and nothing in it is run."""

import contextlib
import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo, ZoojaxError, analysis, open_zoo
from zoojax.filesystem.reading import read_table
from zoojax.hyper_representation.trainer import default_alpha_epoch
from zoojax.storage import checkpoints
from zoojax.storage.zoo_images import load_images
from zoojax.text import is_printable
from zoojax.training.inference import predict


@pytest.fixture(params=zoo_fixtures.KINDS)
def zoo(request, tmp_path_factory, tmp_path) -> Zoo:
    """A zoo of each kind, epochs 0 to 2, to be spoilt."""
    return open_zoo(
        zoo_fixtures.copied(zoo_fixtures.KINDS[request.param](tmp_path_factory), tmp_path / "zoo")
    )


def refused(read, *named: object) -> str:
    """The message of the error that reading ends in: one visible line that names things."""
    with pytest.raises(ZoojaxError) as caught:
        read()
    message = str(caught.value)
    assert is_printable(message), message
    assert len(message) < 1500
    for name in named:
        assert str(name) in message
    return message


def edited(zoo: Zoo, change) -> Path:
    """Changes zoo.json."""
    file = zoo.path / "zoo.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


CODE = '10];std::ofstream("{}");int x[10'
HOSTILE = [
    *(None, True, -1, 0, 1.5, 2**31, 2**70, 1e300, "", "x", "10", [], [1], {}, {"a": 1}),
    *("\x1b[2J", "a\nb", "\u202e", "[/b]", "../../x", "/etc/passwd", "x" * 10**6, "\ud800", "\x00"),
    *("${HOME}", "$(touch x)", CODE),
]


def places(content: dict, prefix: tuple = ()) -> list[tuple]:
    """Where the values of nested objects are."""
    found = []
    for key, value in content.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += places(value, (*prefix, key))
    return found


def put(content: dict, place: tuple, value: object) -> None:
    for key in place[:-1]:
        content = content[key]
    content[place[-1]] = value


# What may be any short visible text, and what a change of is seen elsewhere or not at all.
FREE = {"name", "preset", "path", "versions", "origin", "train", "val", "seed", "mean", "crop"}


def test_every_field_has_a_type_and_a_range(zoo):
    """What is not refused still makes a config of the same types, which reads its states."""
    whole = json.loads((zoo.path / "zoo.json").read_text())
    for place in places(whole):
        for value in HOSTILE:
            content = json.loads(json.dumps(whole))
            put(content, place, value)
            (zoo.path / "zoo.json").write_text(json.dumps(content))
            try:
                opened = open_zoo(zoo.path)
            except ZoojaxError as error:
                assert is_printable(str(error))
                assert len(str(error)) < 1500
                assert str(zoo.path) in str(error)
                continue
            config = opened.config
            assert type(config.classes) is int and type(config.channels) is int
            assert is_printable(repr(opened))
            if not FREE & set(place) and value not in (None, {}):
                # A number within its range.
                assert type(value) in (int, float, bool) or value == "10"


@pytest.mark.parametrize("field", ["classes", "channels", "chunk", "batch_size", "epochs"])
def test_no_field_reaches_a_compiler_or_a_program_as_text(zoo, tmp_path, field):
    marker = tmp_path / "marker"
    file = edited(zoo, lambda c: c.update({field: CODE.format(marker)}))
    refused(lambda: open_zoo(zoo.path), file, field)
    assert not marker.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(kind="pruned"),
        lambda c: c.update(scope="global", variant="released"),
        lambda c: c.update(scope=None, variant=None, kind="mp"),
        lambda c: c.update(variant="other", kind="vd"),
        lambda c: c.update(classes=0),
        lambda c: c.update(classes=2**40),
        lambda c: c.update(channels=2),
        lambda c: c.update(epochs=-1),
        lambda c: c.update(data_order="mine"),
        lambda c: c.update(architecture="huge"),
        lambda c: c.update(data_hash="z" * 64),
        lambda c: c["data"].update(size=32),
        lambda c: c["data"].update(std=0),
        lambda c: c["data"].update(name=3),
        lambda c: c["data"].update(more=3),
        lambda c: c.update(versions={"jax": 3}),
        lambda c: c.update(more=3),
        lambda c: c.update(schema=0),
        lambda c: c.update(schema=True),
    ],
)
def test_configs_that_no_zoo_has(zoo, change):
    refused(lambda: open_zoo(zoo.path), edited(zoo, change))


def test_a_twin_need_not_name_its_parent(zoo):
    """So it is with twins converted without one; a dense zoo has none."""
    edited(zoo, lambda c: c.update(parent=None))
    if zoo.config.kind != "dense":
        # Its members then have none either.
        refused(lambda: open_zoo(zoo.path), "parent_id")
        table = zoo.members_table.drop("parent_id")
        table.write_parquet(zoo.path / "members.parquet")
    assert open_zoo(zoo.path).config.parent is None


def cast(name: str, kind):
    return lambda t: t.with_columns(pl.col(name).cast(kind))


def first(name: str, value):
    """The first row's value is another."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        kind = table.schema[name]
        column = pl.Series(name, [value, *table[name].to_list()[1:]], dtype=kind)
        return table.with_columns(column)

    return change


MEMBERS = {
    "no rows": lambda t: t.head(0),
    "no column": lambda t: t.drop("seed"),
    "another column": lambda t: t.with_columns(pl.lit(1).alias("more")),
    "id twice": lambda t: pl.concat([t, t]),
    "id null": first("id", None),
    "id negative": first("id", -1),
    "id text": cast("id", pl.String),
    "seed large": first("seed", 2**32),
    "seed negative": first("seed", -1),
    "seed float": cast("seed", pl.Float64),
    "rate nan": first("learning_rate", np.nan),
    "rate infinite": first("learning_rate", np.inf),
    "rate negative": first("learning_rate", -1.0),
    "rate null": first("learning_rate", None),
    "rate text": cast("learning_rate", pl.String),
    "dropout one": first("dropout", 1.0),
    "decay nan": first("weight_decay", np.nan),
    "activation unknown": first("activation", "\x1b[2Jtanh"),
    "activation null": first("activation", None),
    "init unknown": first("init", "x" * 10**6),
    "optimizer unknown": first("optimizer", "lion"),
}
TWINS = {
    "parent null": first("parent_id", None),
    "parent negative": first("parent_id", -3),
    "parent text": cast("parent_id", pl.String),
    "no parent": lambda t: t.drop("parent_id"),
}
PRUNED = {
    "ratio null": first("ratio", None),
    "ratio nan": first("ratio", np.nan),
    "ratio negative": first("ratio", -0.5),
    "ratio one": first("ratio", 1.0),
    "ratio text": cast("ratio", pl.String),
    "no ratio": lambda t: t.drop("ratio"),
}


def test_members_that_no_zoo_has(zoo):
    changes = MEMBERS | (TWINS if zoo.config.kind != "dense" else {})
    changes |= PRUNED if zoo.config.kind == "mp" else {}
    file, whole = zoo.path / "members.parquet", zoo.members_table
    for change in changes.values():
        change(whole).write_parquet(file)
        refused(lambda: open_zoo(zoo.path), file)
    whole.write_parquet(file)
    assert open_zoo(zoo.path).members_table.equals(whole)


METRICS = {
    "member unknown": first("member", 10**6),
    "member null": first("member", None),
    "row twice": lambda t: pl.concat([t, t.head(1)]),
    "epoch negative": first("epoch", -1),
    "epoch large": first("epoch", 2**40),
    "epoch null": first("epoch", None),
    "epoch text": cast("epoch", pl.String),
    "accuracy above 1": first("test_acc", 90.0),
    "accuracy negative": first("val_acc", -0.1),
    "sparsity infinite": first("sparsity", np.inf),
    "layer above 1": first("sparsity_fc1", 2.0),
    "gap below -1": first("ggap", -3.0),
    "finite null": first("finite", None),
    "finite number": cast("finite", pl.Int8),
    "no column": lambda t: t.drop("test_acc"),
    "another column": lambda t: t.with_columns(pl.lit(1).alias("sparsity_conv9")),
    "text": cast("test_acc", pl.String),
}


def test_metrics_that_no_zoo_has(zoo):
    file, whole = zoo.path / "metrics.parquet", zoo.metrics_history
    for name, change in METRICS.items():
        change(whole).write_parquet(file)
        refused(lambda: open_zoo(zoo.path).metrics, file)
        assert "damaged" in repr(open_zoo(zoo.path)), name
    whole.write_parquet(file)
    assert open_zoo(zoo.path).metrics_history.equals(whole)


def forge(step: Path) -> None:
    """Writes checksums that fit the files, as whoever means harm would."""
    files = [f for f in step.rglob("*") if f.is_file() and f.name != checkpoints.CHECKSUMS]
    digests = {f.relative_to(step).as_posix(): checkpoints.file_digest(f) for f in files}
    (step / checkpoints.CHECKSUMS).write_text(json.dumps(digests))


def test_states_of_other_zoos(zoo, tmp_path_factory):
    """All others' arrays are refused before any memory is taken for them."""
    for other in (*zoo_fixtures.KINDS.values(),):
        source = other(tmp_path_factory)
        if source.config.kind == zoo.config.kind:
            continue
        shutil.rmtree(zoo.path / "states" / "1")
        shutil.copytree(source.path / "states" / "1", zoo.path / "states" / "1")
        refused(lambda: open_zoo(zoo.path).state(1), zoo.path / "states" / "1", "array")


def test_arrays_of_other_shapes_and_types(zoo):
    state = zoo.state(1, raw=True)
    raw = checkpoints.read(zoo.path / "states" / "1")

    def saved(change) -> None:
        tree = {k: ({**v} if isinstance(v, dict) else v) for k, v in raw.items()}
        change(tree)
        checkpoints.save(zoo.path / "states" / "1", tree)

    def conv1(kernel) -> dict:
        return {**raw["params"], "conv1": {**raw["params"]["conv1"], "kernel": kernel}}

    kernel = state["params"]["conv1"]["kernel"]
    for change in (
        lambda t: t.update(params=conv1(raw["params"]["conv1"]["kernel"][:1])),
        lambda t: t.update(params=conv1(np.zeros((2**8, *kernel.shape[1:]), np.float32))),
        lambda t: t.update(params=conv1(kernel.astype(np.float64))),
        lambda t: t.update(params=conv1(kernel.astype(np.float16))),
        lambda t: t["params"].pop("fc2"),
        lambda t: t.update(more=np.zeros(3, np.float32)),
        lambda t: t["params"].update(conv9=t["params"]["conv1"]),
        lambda t: t.update(params=np.zeros(3, np.float32)),
    ):
        saved(change)
        refused(lambda: open_zoo(zoo.path).state(1), zoo.path / "states" / "1", "array")
        refused(lambda: predict(open_zoo(zoo.path), np.zeros((1, 28, 28, 1), np.float32), 1))


@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "device", "unreadable", "gone"])
@pytest.mark.parametrize("name", ["zoo.json", "members.parquet", "metrics.parquet"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path_factory, tmp_path, kind, name):
    zoo = open_zoo(zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo"))
    spoil(zoo.path / name, kind)
    if kind == "gone" and name == "metrics.parquet":
        assert open_zoo(zoo.path).epochs == []  # As before the first epoch.
    elif kind != "unreadable":
        refused(lambda: open_zoo(zoo.path).epochs, tmp_path / "zoo")


def test_steps_that_hold_other_things(tmp_path_factory, tmp_path):
    for kind in ("pipe", "folder", "loop", "device", "gone"):
        zoo = open_zoo(zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / kind))
        step = zoo.path / "states" / "1"
        files = [f for f in sorted(step.rglob("*")) if f.is_file()]
        for file in files:
            kept = file.read_bytes()
            spoil(file, kind)
            refused(lambda: open_zoo(zoo.path).state(1), step)  # noqa: B023
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink(
                missing_ok=True
            )
            file.write_bytes(kept)
        (step / "more").symlink_to("/etc")
        refused(lambda: open_zoo(zoo.path).state(1), "more")  # noqa: B023


def spoil(file: Path, kind: str) -> None:
    """Puts something else in the place of a file."""
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "unreadable":
        file.write_bytes(b"")
        file.chmod(0)


@pytest.mark.parametrize(
    "digests",
    [{}, [], "x", {"../../zoo.json": "0"}, {"/etc/passwd": "0"}, {"/dev/zero": "0"}, {"a\nb": 3}],
)
def test_checksums_that_no_step_has(tmp_path_factory, tmp_path, digests):
    zoo = open_zoo(zoo_fixtures.copied(zoo_fixtures.dense(tmp_path_factory), tmp_path / "zoo"))
    step = zoo.path / "states" / "1"
    (step / checkpoints.CHECKSUMS).write_text(json.dumps(digests))
    refused(lambda: zoo.state(1), step)


def test_files_of_other_programs_are_left_alone(tmp_path_factory, tmp_path):
    """Resuming neither ends at them nor removes them."""
    out = tmp_path / "zoo"
    zoo = zoo_fixtures.train(tmp_path_factory, out)
    files = [".DS_Store", "Thumbs.db", ".nfs000001", "²", "notes.txt"]
    folders = [".sync.tmp-1", "backup", "007"]
    for place in (out, out / "states", out / "optimizer", out / "states" / "1"):
        for name in files:
            (place / name).write_bytes(b"mine")
    for place in (out, out / "states", out / "optimizer"):
        for name in folders:
            (place / name).mkdir()
            (place / name / "file").write_bytes(b"mine")
    assert open_zoo(out).epochs == [0, 1, 2]
    # As after an interruption: the last epoch is not whole.
    table = pl.read_parquet(out / "metrics.parquet").filter(pl.col("epoch") < 2)
    table.write_parquet(out / "metrics.parquet")
    (out / ".metrics.parquet.tmp-123").write_bytes(b"half")
    (out / "states" / "2.orbax-checkpoint-tmp-7").mkdir()
    (out / "states" / ".3.removed-9").mkdir()
    (out / "states" / "..3.orbax-checkpoint-tmp.removed-9.removed-10").mkdir()
    again = zoo_fixtures.train(tmp_path_factory, out)
    zoo_fixtures.assert_same_zoo(again, zoo_fixtures.dense(tmp_path_factory))
    assert zoo_fixtures.same_bits(again.state(2), zoo.state(2))
    for place in (out, out / "states", out / "optimizer"):
        for name in files:
            assert (place / name).read_bytes() == b"mine"
        for name in folders:
            assert (place / name / "file").read_bytes() == b"mine"
    assert not (out / ".metrics.parquet.tmp-123").exists()
    assert not (out / "states" / "2.orbax-checkpoint-tmp-7").exists()
    assert not (out / "states" / ".3.removed-9").exists()
    assert not (out / "states" / "..3.orbax-checkpoint-tmp.removed-9.removed-10").exists()


@pytest.mark.parametrize(
    "name", ["u[1]", "[!a]", "a*", "a?", "{a,b}", "back\\slash", "~", "new\nline"]
)
def test_a_path_is_never_a_pattern(tmp_path_factory, tmp_path, name):
    """Neighbours that a pattern would find stay out of it."""
    for near in ("u1", "b", "ab", "a", "back"):
        zoo_fixtures.train(
            tmp_path_factory, tmp_path / near, zoo_fixtures.GRID.__class__(seeds=1), epochs=0
        )
    out = tmp_path / name
    zoo = zoo_fixtures.train(tmp_path_factory, out)
    zoo_fixtures.assert_same_zoo(open_zoo(out), zoo_fixtures.dense(tmp_path_factory))
    assert len(open_zoo(tmp_path / "u1")) == 1
    done = zoo_fixtures.cli(tmp_path_factory, "info", out, "--check")
    assert done.returncode == 0, done.stderr
    assert load_images(zoo, None).hash == zoo.config.data_hash


# ---- fuzzing


def mutated_json(rng: random.Random, path: Path) -> None:
    content = json.loads(path.read_text())
    for _ in range(rng.choice([1, 1, 2, 4])):
        action, place = rng.randrange(4), rng.choice(places(content))
        try:
            if action == 0:
                inside = content
                for key in place[:-1]:
                    inside = inside[key]
                del inside[place[-1]]
            elif action == 1:
                put(content, (*place[:-1], rng.choice(["x", "\x1b", "a" * 10**5, ""])), 1)
            else:
                put(content, place, rng.choice(HOSTILE))
        except (KeyError, TypeError):
            continue
    path.write_text(json.dumps(content))


def mutated_bytes(rng: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 2, 10, 100])):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    if rng.random() < 0.2:
        del content[rng.randrange(len(content) + 1) :]
    path.write_bytes(content)


def mutated_table(rng: random.Random, path: Path) -> None:
    table = read_table(path)
    name = rng.choice(table.columns)
    values = [
        None,
        -1,
        0,
        2**40,
        1.5,
        float("nan"),
        float("inf"),
        "\x1b[2J",
        "x" * 10**5,
        [1],
        b"x",
    ]
    match rng.randrange(6):
        case 0:
            table = table.drop(name)
        case 1:
            table = pl.concat([table, table.sample(1, seed=rng.randrange(99))])
        case 2:
            table = table.with_columns(pl.Series(name, [rng.choice(values)] * len(table)))
        case 3:
            table = table.rename({name: rng.choice(["", "\n", "x" * 1000, "id2"])})
        case 4:
            table = table.head(rng.randrange(len(table)))
        case _:
            table = table.with_columns(pl.Series("more", [rng.choice(values)] * len(table)))
    table.write_parquet(path)


def mutated_state(rng: random.Random, step: Path) -> None:
    files = [f for f in sorted(step.rglob("*")) if f.is_file()]
    file = rng.choice(files)
    match rng.randrange(4):
        case 0:
            spoil(file, rng.choice(["pipe", "folder", "loop", "device", "gone"]))
        case 1:
            file.rename(file.with_name("other"))
        case _:
            mutated_bytes(rng, file)
            if rng.random() < 0.8:
                forge(step)


def spoilt_once(rng: random.Random, path: Path) -> None:
    """Spoils a zoo in one way."""
    tables = ["members.parquet", "metrics.parquet"]
    match rng.randrange(6):
        case 0 | 1:
            mutated_json(rng, path / "zoo.json")
        case 2:
            mutated_bytes(rng, path / rng.choice(["zoo.json", *tables]))
        case 3 | 4:
            mutated_table(rng, path / rng.choice(tables))
        case _:
            mutated_state(rng, path / rng.choice(["states", "optimizer"]) / "1")


def fuzzed(factory, tmp_path: Path, number: int) -> str:
    """Spoils one zoo in one way and opens it in every way; "opened" or "refused"."""
    rng = random.Random(number)
    kind = rng.choice(list(zoo_fixtures.KINDS))
    path = zoo_fixtures.copied(zoo_fixtures.KINDS[kind](factory), tmp_path / f"zoo-{number}")
    for _ in range(rng.choice([1, 1, 2])):
        # What is spoilt already may not be spoilt in every way.
        with contextlib.suppress(ZoojaxError, ValueError, OSError):
            spoilt_once(rng, path)
    done = zoo_fixtures.cli(factory, "info", path, "--check", "--quiet")
    outcome = "opened"
    if done.returncode:
        outcome = "refused"
        assert done.returncode == 2, (number, done)
        (line,) = done.stderr.splitlines()
        assert line.startswith("zoojax: ")
        assert is_printable(line)
        assert len(line) < 3000
    assert all(is_printable(line) for line in done.stdout.splitlines()), (number, done.stdout)
    more = zoo_fixtures.cli(factory, "evaluate", path, "--epoch", 1)
    assert more.returncode in (0, 2), (number, more)
    if outcome == "opened":
        assert is_printable(repr(open_zoo(path)))
    shutil.rmtree(path)
    return outcome


def fuzz(factory, tmp_path: Path, numbers: range) -> None:
    marker = tmp_path / "x"
    outcomes = [fuzzed(factory, tmp_path, number) for number in numbers]
    assert {"opened", "refused"} == set(outcomes)
    assert not marker.exists()
    assert not (factory.getbasetemp() / "x").exists()


def test_forty_spoilt_zoos(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzz(tmp_path_factory, tmp_path, range(40))


@pytest.mark.slow
def test_three_hundred_spoilt_zoos(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fuzz(tmp_path_factory, tmp_path, range(40, 340))


def test_twins_of_members_that_the_parent_lacks(tmp_path_factory, tmp_path):
    dense = zoo_fixtures.dense(tmp_path_factory)
    path = zoo_fixtures.copied(zoo_fixtures.pruned(tmp_path_factory), tmp_path / "twin")
    table = open_zoo(path).members_table
    table.with_columns(pl.col("parent_id") + 1).write_parquet(path / "members.parquet")
    refused(lambda: analysis.analyze(dense, [open_zoo(path)]), path, "member 3")
    edited(open_zoo(path), lambda c: c.update(parent=None))
    table.drop("parent_id").write_parquet(path / "members.parquet")
    refused(lambda: analysis.analyze(dense, [open_zoo(path)]), path, "--parent")


def test_zoos_without_an_epoch(tmp_path_factory, tmp_path):
    """Their training has only begun: whatever needs a state says so."""
    twin = open_zoo(
        zoo_fixtures.copied(zoo_fixtures.dropped_out(tmp_path_factory), tmp_path / "twin")
    )
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
        refused(read, twin.path, "no epoch yet")
