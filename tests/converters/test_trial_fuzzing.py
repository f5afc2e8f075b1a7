"""Random damage to trial folders: they are converted, or refused in one line."""

import contextlib
import io
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.torch_zoos import config, state, trials, write_trial
from zoojax import open_zoo
from zoojax.cli.main import main
from zoojax.converters.sources import from_trials
from zoojax.converters.verification import verify
from zoojax.text import is_printable

IMAGE = np.zeros((1, 28, 28, 1), np.float32)
FILES = ("params.json", "result.json", "progress.csv")
KEYS = (
    *config(1, "mp"), "prune::amount", "training::init_checkpoint_path", "config", "epoch",
    "training_iteration", "train_loss", "train_acc", "test_acc", "val_acc", "ggap",
    "sparsity_ratio", "k\x1b[31m\n", "x" * 10_000,
)  # fmt: skip
VALUES = (
    None, True, -1, 0, 1, 1.0, 0.5, 95.0, 1e39, 2**32, 2**64, 10**400, math.nan, math.inf,
    -math.inf, "", "1", "nan", "\ud800", "\x1b]0;title\x07", "=cmd()", "../../evil", "/tmp/evil",
    "\0", "tanh", "adam", [], [1], {}, {"a": {"b": [None]}}, "y" * 100_000,
)  # fmt: skip
NAMES = (
    "-x_trainable_", "=x_trainable_", "x_trainable_\x1b[31m", "x_trainable_\udcff",
    "x_trainable_\n", "x_trainable_ ", "CON_trainable_.", "$\\foo$_trainable_", "[b]_trainable_[i]",
)  # fmt: skip


def clear(path: Path) -> None:
    """Removes whatever is at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


@st.composite
def damages(draw: st.DrawFn):
    """A function that damages a trial folder."""
    edits = draw(
        st.lists(st.one_of(value_edits(), byte_edits(), entry_edits()), min_size=1, max_size=4)
    )

    def damage(folder: Path) -> None:
        for edit in edits:
            edit(folder)

    return damage


@st.composite
def value_edits(draw: st.DrawFn):
    """Replaces values or keys in a file, or its entire content."""
    name, key = draw(st.sampled_from(FILES)), draw(st.sampled_from(KEYS))
    value, replace_all = draw(st.sampled_from(VALUES)), draw(st.integers(0, 9)) == 0

    def edit(folder: Path) -> None:
        file = folder / name
        if file.is_symlink() or not file.is_file():
            return
        if name == "progress.csv":
            clear(folder / "result.json")
            cell = str(value).encode(errors="surrogatepass")
            file.write_bytes(b"training_iteration,%s\n0,%s\n" % (key.encode(), cell))
        elif replace_all:
            file.write_text(json.dumps(value))
        else:
            lines = file.read_text(errors="replace").splitlines()
            with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
                lines = [json.dumps({**json.loads(line), key: value}) for line in lines]
            file.write_text("\n".join(lines), errors="replace")

    return edit


@st.composite
def byte_edits(draw: st.DrawFn):
    """Truncates a file, changes or inserts bytes, repeats or nests its content."""
    name = draw(st.sampled_from(FILES))
    kind = draw(st.sampled_from(("cut", "flip", "insert", "double", "nest")))
    position, byte = draw(st.floats(0, 1)), draw(st.integers(0, 255))

    def edit(folder: Path) -> None:
        file = folder / name
        if file.is_symlink() or not file.is_file():
            return
        content = bytearray(file.read_bytes())
        place = int(position * max(len(content) - 1, 0))
        if kind == "cut":
            del content[place:]
        elif kind == "flip" and content:
            content[place] ^= byte
        elif kind == "insert":
            content[place:place] = bytes([byte]) * 3
        elif kind == "double":
            content = content + content
        elif kind == "nest":
            content[place:place] = b"[" * 100_000
        file.write_bytes(content)

    return edit


@st.composite
def entry_edits(draw: st.DrawFn):
    """Replaces files by other kinds of entries."""
    name = draw(
        st.sampled_from((*FILES, "checkpoint_-00001", "checkpoint_000007", "checkpoint_9" * 9))
    )
    kind = draw(st.sampled_from(("pipe", "folder", "circle", "out", "gone")))

    def edit(folder: Path) -> None:
        path = folder / name
        clear(path)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "circle":
            path.symlink_to(path.name)
        elif kind == "out":
            path.symlink_to(folder.parents[1] / "secret")

    return edit


def contents(folder: Path) -> dict[str, bytes]:
    """The content of all files in a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(*arguments: object) -> tuple[int, str]:
    """Exit status and standard error of `zoojax convert`."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        status = main(["convert", *map(str, arguments), "--quiet"])
    return status, errors.getvalue()


def assert_converted_or_refused(base: Path, kind: str, damage, name: str | None) -> None:
    """The zoo opens and can be exported, or the damage is refused; nothing else is written."""
    shutil.rmtree(base, ignore_errors=True)
    root = base / "root"
    for seed in (1, 2):
        changes = {"prune::amount": 0.5} if kind == "mp" else {}
        write_trial(root, seed, {0: state(seed, kind)}, config(seed, kind, **changes))
    secret = base / "secret"
    secret.write_text('{"seed": 77, "training_iteration": 0}')
    folder = trials(root)[1]
    (folder / "progress.csv").write_text("training_iteration,test_acc\n0,0.5\n")
    if name is not None:
        folder = folder.rename(root / name)
    damage(folder)
    status, errors = run("from-torch", root, "--out", base / "zoo")
    assert secret.read_text() == '{"seed": 77, "training_iteration": 0}'
    assert status in (0, 2)
    assert all(is_printable(line) and len(line) < 1500 for line in errors.splitlines())
    if status == 2:
        assert errors.startswith("zoojax: ") and len(errors.splitlines()) == 1
        assert sorted(p.name for p in base.iterdir()) == ["root", "secret"]
        return
    zoo = open_zoo(base / "zoo")
    assert 77 not in zoo.members_table["seed"].to_list()
    assert zoo.members_table["notes"].str.len_chars().max() < 5000  # pyright: ignore
    for column in zoo.metrics_history:
        values = column.drop_nulls().to_numpy()
        assert np.isfinite(values).all()
        if column.name.endswith("_acc") or column.name.startswith("sparsity"):
            assert ((values >= 0) & (values <= 1)).all()
    before = contents(base)
    status, errors = run("to-torch", zoo.path, "--out", base / "back")
    assert status == 0, errors
    after = contents(base)
    assert {k: v for k, v in after.items() if not k.startswith("back/")} == before
    assert sum(k.endswith("/checkpoints") for k in after if k.startswith("back/")) == 2
    result = verify(zoo, from_trials(root), IMAGE, sample=None)
    assert (result.states, result.unequal) == (2, [])


def fuzz(examples: int):
    """Runs a test with this many examples."""

    def decorate(function):
        health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        limits = settings(max_examples=examples, deadline=None, suppress_health_check=health)
        names = st.one_of(st.none(), st.sampled_from(NAMES))
        cases = given(kind=st.sampled_from(("dense", "mp", "vd")), damage=damages(), name=names)
        return limits(cases(function))

    return decorate


@fuzz(40)
def test_damaged_trials(tmp_path, kind, damage, name):
    assert_converted_or_refused(tmp_path / "case", kind, damage, name)


@pytest.mark.slow
@fuzz(300)
def test_many_damaged_trials(tmp_path, kind, damage, name):
    assert_converted_or_refused(tmp_path / "case", kind, damage, name)
