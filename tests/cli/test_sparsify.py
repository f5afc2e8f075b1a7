"""`zoojax sparsify` with sparsifiers of a user, and modules that --plugin imports."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support import ROOT, interruptions, zoo_fixtures
from zoojax import open_zoo
from zoojax.cli import main
from zoojax.sparsifiers import registry

MODULE = "tests.support.plugins.moving_mask"
FILE = ROOT / "tests/support/plugins/moving_mask.py"
EPOCHS = 20


@pytest.fixture
def sandbox(monkeypatch):
    """Sparsifiers and folders that a command of this process adds are forgotten after the test."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def moving_mask(sandbox):
    """The sparsifier, registered in this process."""
    from tests.support.plugins.moving_mask import MovingMask

    return registry.register_sparsifier(MovingMask)


def arguments(dense, out: Path, *options: object) -> list[object]:
    return [
        *("sparsify", f"{MODULE}:MovingMask", dense.path, "--ratios", 0.5, 0.9, "--epochs", EPOCHS),
        *("--chunk", zoo_fixtures.CHUNK, "--quiet", "--out", out, *options),
    ]


@zoo_fixtures.once
def trained(factory):
    """A twin with moving masks, trained without interruption."""
    out = factory.mktemp("moving") / "twin"
    dense = zoo_fixtures.dense(factory)
    done = zoo_fixtures.cli_process(factory, *arguments(dense, out))
    assert (done.returncode, done.stderr) == (0, "")
    return out


def as_user(factory, folder: Path, *words: object, **variables: str):
    """Runs the command line as installed: without the current folder in `sys.path`."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "zoojax", *map(str, words)],
        env={**zoo_fixtures.environment(factory), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_file_of_a_user_is_short():
    assert len(FILE.read_text().splitlines()) <= 60


def test_mask_moves_every_epoch(tmp_path_factory, moving_mask):
    twin = open_zoo(trained(tmp_path_factory))
    assert twin.config.sparsifier == moving_mask().shared()
    assert twin.config.name.endswith("-mm")
    assert twin.members_table["ratio"].to_list() == [0.5, 0.9] * 3
    previous = None
    for epoch in twin.epochs:
        state = twin.state(epoch)
        for layer, mask in state["mask"].items():
            weights = state["params"][layer]["kernel"]
            assert (weights[~mask] == 0).all() and (weights[mask] != 0).mean() > 0.9
            size = mask[0].size
            counts = mask.reshape(len(mask), -1).sum(axis=1)
            assert counts == pytest.approx(size * np.array([0.5, 0.1] * 3), abs=1)
            if previous is not None:
                moved = (mask & ~previous[layer]).reshape(len(mask), -1).sum(axis=1)
                assert (moved <= 0.3 * counts).all()
        if previous is not None:
            moved = state["mask"]["fc1"] & ~previous["fc1"]
            assert moved.reshape(len(moved), -1).any(axis=1).all()
            # Random: each member by its own seed.
            assert not np.array_equal(moved[0], moved[2])
        previous = state["mask"]


def test_resume_after_kill_gives_the_same_bits(tmp_path_factory, tmp_path, moving_mask):
    expected = open_zoo(trained(tmp_path_factory))
    out = tmp_path / "twin"
    words = arguments(zoo_fixtures.dense(tmp_path_factory), out)
    ended = interruptions.interrupt(tmp_path_factory, words, out, signal.SIGKILL, first="states/3")
    assert ended.sent and open_zoo(out).newest_epoch < EPOCHS
    done = zoo_fixtures.cli(tmp_path_factory, *words)
    assert done.returncode == 0, done.stderr
    zoo_fixtures.assert_same_zoo(open_zoo(out), expected)


@pytest.mark.parametrize("chunk", [2, 6])
def test_members_do_not_depend_on_the_chunk(tmp_path_factory, tmp_path, moving_mask, chunk):
    """The masks are the same, and the weights up to rounding."""
    expected = open_zoo(trained(tmp_path_factory))
    dense = zoo_fixtures.dense(tmp_path_factory)
    words = arguments(dense, tmp_path / "twin", "--epochs", 2, "--chunk", chunk)
    assert zoo_fixtures.cli(tmp_path_factory, *words).returncode == 0
    twin = open_zoo(tmp_path / "twin")
    for epoch in (0, 1, 2):
        ours, theirs = twin.state(epoch), expected.state(epoch)
        assert zoo_fixtures.same_bits(ours["mask"], theirs["mask"])
        for layer, leaves in ours["params"].items():
            for name, values in leaves.items():
                np.testing.assert_allclose(values, theirs["params"][layer][name], atol=1e-5)


def test_module_in_the_current_folder(tmp_path_factory, tmp_path):
    """Each command names the module; nothing that a zoo names is imported."""
    shutil.copy(FILE, tmp_path / "my_masks.py")
    dense = zoo_fixtures.dense(tmp_path_factory).path
    words = ("sparsify", "my_masks:MovingMask", dense, "--ratios", 0.8, "--moved", 0.1)
    done = as_user(tmp_path_factory, tmp_path, *words, "--epochs", 1, "--quiet", "--out", "twin")
    assert (done.returncode, done.stderr) == (0, "")
    content = json.loads((tmp_path / "twin/zoo.json").read_text())
    assert content["sparsifier"] == {"name": "moving_mask", "moved": 0.1}
    for plugin, variables in (
        (("--plugin", "my_masks"), {}),
        ((), {"ZOOJAX_PLUGINS": "json, my_masks"}),
    ):
        done = as_user(tmp_path_factory, tmp_path, *plugin, "info", "twin", **variables)
        assert (done.returncode, done.stderr) == (0, "")
        facts = [" ".join(line.split()) for line in done.stdout.splitlines()]
        assert {"sparsifier moving mask", "options moved 0.1", "ratio 0.8"} <= set(facts)
    done = as_user(tmp_path_factory, tmp_path, "info", "twin")
    zoo_fixtures.assert_refused(done, "'moving_mask'", "--plugin")


def test_options_are_the_fields_of_the_sparsifier(run_cli, sandbox):
    done = run_cli("sparsify", f"{MODULE}:MovingMask", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.replace("│", " ").split())
    assert "Train sparse networks whose masks move" in text
    assert "--ratios RATIO ... Fractions of the weights of each layer that are zero" in text
    assert "--moved MOVED Fraction of the other weights that are replaced" in text
    assert "(default: 0.5 0.9)" in text and "(default: 0.3)" in text
    assert "--epochs N Number of epochs. (default: 3)" in text


def test_plugin_anywhere_in_the_command_line(run_cli, moving_mask):
    for words in (
        ("--plugin", MODULE, "sparsify", "--help"),
        ("sparsify", "--help", f"--plugin={MODULE}"),
    ):
        assert "moving-mask" in run_cli(*words).stdout


def test_old_name_of_magnitude_pruning(run_cli):
    assert run_cli("sparsify", "magnitude", "--help").stdout == (
        run_cli("sparsify", "magnitude-pruning", "--help").stdout
    )
    listed = run_cli("sparsify", "--help").stdout.replace("-magnitude,", "")
    assert "magnitude," not in listed


def test_other_commands_do_not_load_sparsifiers(monkeypatch, capsys):
    def refuse():
        raise AssertionError

    monkeypatch.setattr(main, "sparsify_command", refuse)
    assert main.main(["presets"]) == 0
    with pytest.raises(SystemExit):
        main.main(["--help"])
    assert "sparsify" in capsys.readouterr().out


MODULES = {
    "broken": "x = (",
    "raises": "1 / 0",
    "leaves": "raise SystemExit(3)",
    "no_dataclass": """
from zoojax import Sparsifier
class Mine(Sparsifier):
    name, label, short, color = "mine", "mine", "MI", "#000000"
""",
    "taken": """
from dataclasses import dataclass
from zoojax import Sparsifier
@dataclass(frozen=True)
class Mine(Sparsifier):
    name, label, short, color = "mine", "mine", "MP", "#000000"
""",
    "clash": """
from dataclasses import dataclass
from zoojax import Sparsifier
@dataclass(frozen=True)
class Mine(Sparsifier):
    name, label, short, color = "mine", "mine", "MI", "#000000"
    chunk: int = 3
""",
    "nothing": "Mine = 3",
}


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("no_such_module:Mine", ["no_such_module cannot be imported", "No module named"]),
        ("a-b:Mine", ["'a-b' is not the name of a module"]),
        (":Mine", ["'' is not the name of a module"]),
        ("{}broken:Mine", ["broken cannot be imported: SyntaxError"]),
        ("{}raises:Mine", ["raises cannot be imported: ZeroDivisionError"]),
        ("{}leaves:Mine", ["leaves cannot be imported: SystemExit: 3"]),
        ("{}nothing:Other", ["nothing.py) has no object 'Other'"]),
        ("{}nothing:Mine", ["3 is not a subclass of zoojax.Sparsifier"]),
        ("{}no_dataclass:Mine", ["Mine is not a frozen dataclass"]),
        ("{}taken:Mine", ["'magnitude_pruning' (MP) is already registered"]),
        ("{}clash:Mine", ["chunk is the name of an option of all sparsifiers"]),
        ("zoojax.sparsifiers.dense:Dense", ["trains without sparsification"]),
    ],
)
def test_invalid_module_or_object(run_cli, tmp_path_factory, tmp_path, sandbox, name, messages):
    """One line, and nothing is written."""
    folder = tmp_path_factory.getbasetemp()
    for module, text in MODULES.items():
        (folder / f"users_{module}.py").write_text(text)
    done = run_cli("sparsify", name.format("users_"), "zoo", "--out", tmp_path / "twin")
    zoo_fixtures.assert_refused(done, *messages)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["presets", "sparsify"])
def test_invalid_plugin(run_cli, monkeypatch, tmp_path_factory, command):
    done = run_cli(command, "--plugin", "no_such_module")
    zoo_fixtures.assert_refused(done, "no_such_module cannot be imported")
    monkeypatch.setitem(
        zoo_fixtures.environment(tmp_path_factory), "ZOOJAX_PLUGINS", "no.such, other"
    )
    zoo_fixtures.assert_refused(run_cli(command), "no.such cannot be imported")


def test_analysis_in_a_new_process(tmp_path_factory, tmp_path):
    """With its page, next to a twin of another sparsifier."""
    zoos = [zoo_fixtures.dense(tmp_path_factory).path, trained(tmp_path_factory)]
    zoos.append(zoo_fixtures.pruned(tmp_path_factory).path)
    words = ("analyze", *zoos, "--quiet", "--out", tmp_path / "analysis", "--plugin", MODULE)
    done = zoo_fixtures.cli_process(tmp_path_factory, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert "moving mask, 90%" in done.stdout and "magnitude pruning, 90%" in done.stdout
    assert "moving mask" in (tmp_path / "analysis/report.html").read_text()
    agreement = pl.read_parquet(tmp_path / "analysis/tables/agreement.parquet")
    assert {"mm", "mp"} == set(agreement["method"])
