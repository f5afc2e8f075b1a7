"""Config files: every command is the same from its printed config; mistakes are one line."""

import contextlib
import dataclasses
import io
import shlex
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.test_help import COMMANDS as ALL
from tests.support import zoo_fixtures
from zoojax import open_zoo
from zoojax.cli import main as command_line
from zoojax.cli.config_files import FILE_NAME, arguments, read_config, split_config, to_yaml
from zoojax.cli.main import main

# Commands with options of each kind.
COMMANDS = [
    "presets --json",
    "train usps-s-seed --out zoos/a --members 3 --learning-rate 1e-3 0.01 --optimizer adam sgd "
    "--draw dropout=uniform:0:0.5 --keep-data --data-order shared --first-seed 7",
    "sparsify list --json",
    "sparsify magnitude-pruning zoos/a --out zoos/b --ratios 0.5 0.9 --scope layer --epochs 2",
    "sparsify variational-dropout zoos/a --out zoos/b --quiet --chunk 3",
    "convert from zoo.zip --out zoos/a --assume activation=relu dropout=0.1 --cast",
    "convert from-torch root --out zoos/a --epochs 0,25,40-50 --where \"seed = 1 AND init = 'x'\"",
    "convert from-dataset file.pt --out zoos/a --max-abs-weight 1e3",
    "convert to-torch zoos/a --out exported",
    "convert verify zoos/a source",
    "analyze zoos/a zoos/b zoos/c --out tables",
    "reproduce usps-s-seed --out run --ratios 0.1 0.2",
    "represent train zoos/a --out rep",
    "represent evaluate rep",
    "represent sparsify rep zoos/a --out zoos/b",
    "represent sample rep --members 2 --out zoos/b",
    "publish zoos/a zoos/b --out data --epochs 0 5 --license mit --citation 'two: [words]'",
    "evaluate zoos/a --epoch 3",
    "info zoos/a --check",
    "info --system",
    "bench --architectures small large --seconds 0.5",
]


def parsed(words: list[str]) -> tuple[object, list[str]]:
    """Parses a command line like `main`."""
    others, file, _ = split_config(words)
    config = None if file is None else read_config(file)
    return command_line._parse(others, [], config)


@pytest.mark.parametrize("text", COMMANDS)
def test_command_from_its_printed_config_is_the_same(tmp_path, text):
    command, names = parsed(shlex.split(text))
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(command, names, []))
    again, same_names = parsed(["--config", str(file)])
    assert (repr(again), same_names) == (repr(command), names)
    # An option of the command line replaces that of the file.
    assert repr(parsed([*shlex.split(text), "--config", str(file)])[0]) == repr(command)


# All commands of sparsifiers are made by one function.
SPARSIFIERS = [name for name in ALL if name.startswith("sparsify ")]


@pytest.mark.parametrize("name", [*sorted({*ALL} - {*SPARSIFIERS}), *SPARSIFIERS[1::10]])
def test_every_command_with_its_required_arguments(tmp_path, name):
    words, options = name.split(), []
    for each in arguments(ALL[name]):
        if each.default is dataclasses.MISSING:
            words += ["1"] if each.is_positional else []
            options += [] if each.is_positional else [each.option, "1"]
    command, names = parsed([*words, *options])
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(command, names, []))
    assert repr(parsed(["--config", str(file)])[0]) == repr(command)


@settings(max_examples=15)
@given(
    st.text(
        st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\x85\u2028")
    ).filter(lambda text: text.strip("-") and not text.startswith("~"))
)
def test_any_text_survives(text):
    command, names = parsed(["train", "usps-s-seed", "--out", "a", f"--name={text}"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(to_yaml(command, names, []), "utf-8")
        assert repr(parsed(["--config", str(path)])[0]) == repr(command)


def run(*words: object) -> tuple[int, str, str]:
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = main(list(map(str, words)))
    return status, out.getvalue(), error.getvalue()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("command: train\nmembrs: 3", "train has no option membrs; did you mean members?"),
        (
            "command: train\npreset: a\nout: b\nmembers: x",
            "expects a whole number, not 'x'",
        ),
        ("command: train\nmembers: [1, 2]", "members takes one value, not a list"),
        ("command: train\nmembers: {a: 1}", "line 2: members is neither a value nor a list"),
        ("command: train\nmembers: 1\nmembers: 2", "line 3: members occurs twice"),
        ("command: train\nquiet: perhaps", "quiet is true or false, not perhaps"),
        ("command: tran", "zoojax has no command tran; did you mean train?"),
        ("command: sparsify", "names no command of sparsify"),
        ("members: 3", "names no command of zoojax; there are: presets, train,"),
        ("- a\n- b", "it has no lines such as"),
        ("", "it has no lines such as"),
        ("a: [", "is not YAML"),
        ("a: !!python/object/apply:os.system ['true']", "names no command"),
        ("[a]: 1", "not the name of an option"),
        ('command: train\nname: "a\\0b"', "null character"),
        ("\x00", "is not YAML"),
        pytest.param("[" * 2000, "is not a config", id="nested"),
        ("a: &a [x, x]\nb: [*a, *a]", "neither a value nor a list"),
    ],
    ids=str,
)
def test_invalid_files(tmp_path, content, named):
    file = tmp_path / "run.yaml"
    file.write_text(content)
    status, out, error = run("--config", file)
    assert (status, out, error.count("\n")) == (2, "", 1), error
    assert named in error


def test_missing_files_and_values(tmp_path):
    for words, named in [
        (["--config"], "--config needs a value: FILE"),
        (["--config", "--quiet"], "--config needs a value: FILE"),
        (["--config", tmp_path / "none.yaml"], "none.yaml is missing"),
        (["--config", tmp_path], "cannot be read"),
        (["--config=a", "--config=b"], "given 2 times"),
    ]:
        status, out, error = run(*words)
        assert (status, out, error.count("\n")) == (2, "", 1)
        assert named in error


def test_config_of_another_command(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("command: train\nmembers: 3")
    status, _, error = run("evaluate", "zoo", "--config", file)
    assert status == 2
    assert "is the config of `zoojax train`, not of `zoojax evaluate`" in error


def test_zoos_from_printed_configs_have_the_same_bits(tmp_path_factory, tmp_path):
    """A zoo keeps the config of its command; a zoo and a twin from it are the same."""
    data, options = (
        zoo_fixtures.images(tmp_path_factory),
        ["--chunk", zoo_fixtures.CHUNK, "--quiet"],
    )
    train = ["train", "digits-s-seed", "--data", data, "--members", 2, "--epochs", 1, *options]
    prune = ["sparsify", "magnitude-pruning", tmp_path / "a", "--ratios", 0.5, "--epochs", 0]
    for name, words in (("a", train), ("twin", [*prune, *options])):
        done = zoo_fixtures.cli(tmp_path_factory, *words, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
        shown = zoo_fixtures.cli(tmp_path_factory, "info", tmp_path / name, "--show-command")
        first, rest = shown.stdout.rstrip("\n").split("\n", 1)
        assert first == f"# zoojax {' '.join(words[: 1 + (name != 'a')])} --config {FILE_NAME}"
        printed = zoo_fixtures.cli(
            tmp_path_factory, *words, "--out", tmp_path / name, "--print-config"
        )
        assert printed.stdout.rstrip("\n") == rest
        file = tmp_path / f"{name}.yaml"
        file.write_text(printed.stdout)
        again = ["--config", file, "--out", tmp_path / f"{name}-again"]
        assert zoo_fixtures.cli(tmp_path_factory, *again).returncode == 0
        zoo_fixtures.assert_same_zoo(
            open_zoo(tmp_path / f"{name}-again"), open_zoo(tmp_path / name)
        )


def test_zoo_made_in_python_has_no_command(tmp_path_factory):
    path = zoo_fixtures.dense(tmp_path_factory).path
    status, _, error = run("info", path, "--show-command")
    assert status == 2
    assert "it was created in Python" in error


def test_plugins_are_part_of_the_config(tmp_path):
    words = ["train", "usps-s-seed", "--out", "a", "--plugin", "json", "--print-config"]
    status, printed, _ = run(*words)
    assert status == 0
    (tmp_path / "run.yaml").write_text(printed)
    assert read_config(tmp_path / "run.yaml").plugins == ("json",)
    assert run("--config", tmp_path / "run.yaml", "--print-config")[1] == printed
