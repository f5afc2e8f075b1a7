"""The command line from end to end, on tiny images."""

import dataclasses
import json
import re
import subprocess

import numpy as np
import polars as pl
import pytest

from tests.support import ROOT, zoo_fixtures
from zoojax import Zoo, ZoojaxError, open_zoo, prune_zoo, train_variational_dropout
from zoojax.architectures.base import architecture
from zoojax.cli.analyze import Analyse
from zoojax.cli.bench import Bench
from zoojax.cli.convert import ConvertOptions, FromDataset, FromTorch, ToTorch, Verify
from zoojax.cli.evaluate import Evaluate
from zoojax.cli.info import Info
from zoojax.cli.list_presets import Presets
from zoojax.cli.main import main
from zoojax.cli.options import Processes, RunOptions
from zoojax.cli.reproduce import Reproduce
from zoojax.cli.sparsify import Magnitude, VariationalDropout
from zoojax.cli.train import Train
from zoojax.experiments.bench import growth
from zoojax.experiments.bench.members import Case, flops
from zoojax.ops import kernel
from zoojax.presets import PRESETS
from zoojax.storage.zoo_images import load_images

METRICS = {"train_acc", "val_acc", "test_acc", "ggap", "sparsity"}
LAYERS = {f"sparsity_{layer}" for layer in ("conv1", "conv2", "conv3", "fc1", "fc2")}
COMMANDS = {
    "presets": Presets,
    "train": Train,
    "sparsify magnitude": Magnitude,
    "sparsify variational-dropout": VariationalDropout,
    "analyse": Analyse,
    "reproduce": Reproduce,
    "evaluate": Evaluate,
    "info": Info,
    "bench": Bench,
    "convert from-torch": FromTorch,
    "convert from-dataset": FromDataset,
    "convert to-torch": ToTorch,
    "convert verify": Verify,
}
SHARED = {"running": RunOptions, "conversion": ConvertOptions, "processes": Processes}
POSITIONAL = {"preset", "zoo", "twins", "root", "file", "source"}


@pytest.fixture
def zoojax(tmp_path_factory):
    """Runs a command."""
    return lambda *arguments: zoo_fixtures.cli(tmp_path_factory, *arguments)


@pytest.fixture
def zoojax_json(tmp_path_factory):
    """Runs a command with --json."""
    return lambda *arguments: zoo_fixtures.cli_json(tmp_path_factory, *arguments)


@zoo_fixtures.once
def trained(factory: pytest.TempPathFactory) -> tuple[Zoo, dict]:
    """A dense zoo of the command line, and what it printed."""
    out = factory.mktemp("cli") / "dense"
    options = (
        "--members",
        3,
        "--epochs",
        2,
        "--chunk",
        zoo_fixtures.CHUNK,
        "--learning-rate",
        1e-2,
    )
    data = zoo_fixtures.images(factory)
    printed = zoo_fixtures.cli_json(
        factory, "train", "digits-s-seed", "--data", data, *options, "--out", out
    )
    return open_zoo(out), printed


@pytest.fixture
def dense(tmp_path_factory) -> Zoo:
    return trained(tmp_path_factory)[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_mentions_every_option(zoojax, command):
    done = zoojax(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    fields = {field.name for field in dataclasses.fields(COMMANDS[command])}
    for shared in fields & SHARED.keys():
        fields |= {field.name for field in dataclasses.fields(SHARED[shared])}
    positional = fields & POSITIONAL
    for name in fields - positional - SHARED.keys():
        assert re.search(rf"--{name.replace('_', '-')}\b", done.stdout), name
    assert ("positional arguments" in done.stdout) == bool(positional)


def test_help_lists_commands(tmp_path_factory):
    for command in COMMANDS:
        *group, last = command.split()
        done = zoo_fixtures.cli_process(tmp_path_factory, *group, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(rf"│[ •]+{last}\b", done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("dance",),
        ("train",),
        ("train", "usps-s-seed"),
        ("train", "usps-s-seed", "--out", "x", "--epochs", "many"),
        ("train", "usps-s-seed", "--out", "x", "--data-order", "random"),
        ("sparsify", "magnitude", "x", "--out", "y", "--scope", "channel"),
        ("info", "x", "--jsn"),
    ],
)
def test_what_cannot_be_parsed(zoojax, arguments):
    zoo_fixtures.assert_refused(zoojax(*arguments), "--help`)")


def test_presets(zoojax, zoojax_json):
    printed = zoojax_json("presets")
    assert list(printed) == list(PRESETS)
    assert printed["usps-s-seed"]["data"]["name"] == "usps"
    assert printed["usps-s-seed"]["grid"]["learning_rates"] == [3e-4]
    table = zoojax("presets")
    assert (table.returncode, table.stderr) == (0, "")
    for name in PRESETS:
        assert name in table.stdout


def test_train(tmp_path_factory, dense):
    """The same zoo as the library's, bit for bit; the printed means are those on disk."""
    _, printed = trained(tmp_path_factory)
    library = zoo_fixtures.dense(tmp_path_factory)
    assert dense.epochs == [0, 1, 2]
    for epoch in dense.epochs:
        assert zoo_fixtures.same_bits(dense.state(epoch), library.state(epoch))
    assert zoo_fixtures.same_bits(
        zoo_fixtures.bits(dense.metrics), zoo_fixtures.bits(library.metrics)
    )
    assert (dense.config.name, dense.config.preset) == ("digits-s-seed-custom", None)
    assert printed["zoo"] == str(dense.path)
    (row,) = printed["rows"]
    assert (row["epoch"], row["members"], row["diverged"]) == (2, 3, 0)
    last = dense.metrics.filter(epoch=2)
    for name in METRICS | LAYERS:
        assert row[f"{name}_mean"] == pytest.approx(last[name].mean(), rel=1e-5, abs=1e-7)
        assert row[f"{name}_std"] == pytest.approx(last[name].std(ddof=0), rel=1e-4, abs=1e-6)


def test_train_reports_progress_and_a_table(zoojax, tmp_path_factory, tmp_path):
    """A line an epoch on standard error where there is no terminal; none if quiet."""
    command = ["train", "digits-s-seed", "--data", zoo_fixtures.images(tmp_path_factory)]
    command += ["--members", 3, "--epochs", 2, "--chunk", zoo_fixtures.CHUNK]
    done = zoojax(*command, "--out", tmp_path / "a")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"train digits-s-seed: epoch {e}/2" for e in (1, 2)
    ]
    assert "test_acc" in done.stdout
    quiet = zoojax(*command, "--quiet", "--out", tmp_path / "b")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout.replace("/b", "/a") == done.stdout


@zoo_fixtures.once
def sparsified(factory: pytest.TempPathFactory) -> dict[str, tuple[Zoo, dict]]:
    """The twins of `trained`, and what was printed."""
    parent, result = trained(factory)[0].path, {}
    for kind, method, options in (
        ("mp", "magnitude", ("--ratios", 0, 0.5, 0.9)),
        ("vd", "variational-dropout", ()),
    ):
        out = parent.with_name(kind)
        options = (*options, "--epochs", 2, "--chunk", zoo_fixtures.CHUNK, "--learning-rate", 1e-2)
        printed = zoo_fixtures.cli_json(factory, "sparsify", method, parent, *options, "--out", out)
        result[kind] = open_zoo(out), printed
    return result


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_sparsify(tmp_path_factory, dense, kind):
    """The same twin as the library's, bit for bit."""
    twin, printed = sparsified(tmp_path_factory)[kind]
    library = zoo_fixtures.KINDS[kind](tmp_path_factory)
    assert twin.config.parent is not None
    assert twin.config.parent.fingerprint == dense.fingerprint
    for epoch in (0, 1, 2):
        assert zoo_fixtures.same_bits(twin.state(epoch), library.state(epoch))
    assert zoo_fixtures.same_bits(
        zoo_fixtures.bits(twin.metrics), zoo_fixtures.bits(library.metrics)
    )
    assert [row["members"] for row in printed["rows"]] == ([3, 3, 3] if kind == "mp" else [3])
    if kind == "mp":
        assert [row["ratio"] for row in printed["rows"]] == [0, 0.5, 0.9]
        sparsities = [row["sparsity_mean"] for row in printed["rows"]]
        assert sparsities == pytest.approx([0, 1208 / 2416, 2174 / 2416], abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "named", "preset"),
    [
        ((), "digits-s-seed", "digits-s-seed"),
        (("--data", "digits", "--batch-size", 10), "digits-s-seed", "digits-s-seed"),
        (("--name", "mine", "--first-seed", 5), "mine", "digits-s-seed"),
        (("--batch-size", 11), "digits-s-seed-custom", None),
        (("--learning-rate", 0.1), "digits-s-seed-custom", None),
        (("--weight-decay", 0.1), "digits-s-seed-custom", None),
        (("--data-order", "shared"), "digits-s-seed-custom", None),
        (("--name", "mine", "--data-order", "shared"), "mine", None),
    ],
    ids=str,
)
def test_a_zoo_of_other_settings_is_not_the_presets(tmp_path, monkeypatch, asked, named, preset):
    """Only the number of members, their seeds and the name may differ."""
    called = {}

    def make_dense(out, name, *rest, **options):
        called.update(options, name=name)
        raise ZoojaxError("enough")

    monkeypatch.setattr("zoojax.api.dense.train_zoo", make_dense)
    epochs = () if preset else ("--epochs", 1)
    words = ["train", "digits-s-seed", *asked, *epochs, "--members", 2, "--out", tmp_path / "zoo"]
    assert main(list(map(str, words))) == 2
    assert (called["name"], called["preset"]) == (named, preset)


def test_reproducing_with_other_epochs_is_not_the_preset(tmp_path, monkeypatch):
    called = {}

    def make_dense(out, name, *rest, **options):
        called.update(options, name=name)
        raise ZoojaxError("enough")

    monkeypatch.setattr("zoojax.api.dense.train_zoo", make_dense)
    words = ["reproduce", "digits-s-seed", "--out", str(tmp_path / "run")]
    assert main([*words, "--epochs", "1"]) == 2
    assert (called["name"], called["preset"]) == ("digits-s-seed-custom", None)
    assert main([*words, "--members", "3"]) == 2
    assert (called["name"], called["preset"]) == ("digits-s-seed", "digits-s-seed")


def test_twins_take_the_presets_learning_rate(tmp_path_factory, zoojax_json, tmp_path):
    """Unless one is given: on digits-s-seed 1e-3 for pruning, 3e-3 for variational dropout.

    The library and the command line make the same twin, so that one continues the other's.
    """
    zoo = zoo_fixtures.train(tmp_path_factory, tmp_path / "zoo", epochs=0, preset="digits-s-seed")
    python = {
        "magnitude": prune_zoo(tmp_path / "mp", zoo, [0.5], epochs=0),
        "variational-dropout": train_variational_dropout(tmp_path / "vd", zoo, epochs=0),
    }
    options = {"magnitude": ("--ratios", 0.5), "variational-dropout": ()}
    for method, rate in (("magnitude", 1e-3), ("variational-dropout", 3e-3)):
        out = tmp_path / method
        zoojax_json("sparsify", method, zoo.path, *options[method], "--epochs", 0, "--out", out)
        assert set(open_zoo(out).members_table["learning_rate"]) == {rate}
        assert open_zoo(out).fingerprint == python[method].fingerprint
    asked = prune_zoo(tmp_path / "asked", zoo, [0.5], epochs=0, learning_rate=0.5)
    assert set(asked.members_table["learning_rate"]) == {0.5}


def test_twins_of_other_zoos_keep_each_members_learning_rate(zoojax_json, tmp_path, dense):
    for method in ("magnitude", "variational-dropout"):
        out = tmp_path / method
        zoojax_json("sparsify", method, dense.path, "--epochs", 0, "--chunk", 1, "--out", out)
        assert set(open_zoo(out).members_table["learning_rate"]) == {1e-2}


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_evaluate_tells_what_the_zoo_tells(tmp_path_factory, zoojax_json, dense, kind):
    """Member by member; train accuracy differs, being running in training."""
    zoo = dense if kind == "dense" else sparsified(tmp_path_factory)[kind][0]
    printed = zoojax_json("evaluate", zoo.path, "--members")
    assert printed["zoo"] == str(zoo.path)
    rows, last = pl.DataFrame(printed["rows"]), zoo.metrics.filter(epoch=2)
    assert rows["id"].to_list() == last["member"].to_list()
    assert rows["seed"].to_list() == zoo.members_table["seed"].to_list()
    for name in ("test_acc", "val_acc", "sparsity", *LAYERS):
        assert rows[name].to_list() == pytest.approx(last[name].to_list(), abs=1e-6)
    for name in ("test_loss", "val_loss"):
        assert rows[name].to_list() == pytest.approx(last[name].to_list(), rel=1e-4)


def test_evaluate_an_epoch_and_its_means(zoojax_json, dense):
    (row,) = zoojax_json("evaluate", dense.path, "--epoch", 0)["rows"]
    first = dense.metrics.filter(epoch=0)
    assert (row["epoch"], row["members"]) == (0, 3)
    for name in ("train_acc", "val_acc", "test_acc"):
        assert row[f"{name}_mean"] == pytest.approx(first[name].mean(), abs=1e-6)


def test_evaluate_on_other_images(zoojax, zoojax_json, tmp_path_factory, dense):
    other = zoo_fixtures.other_images(tmp_path_factory)
    (row,) = zoojax_json("evaluate", dense.path, "--data", other)["rows"]
    (own,) = zoojax_json("evaluate", dense.path)["rows"]
    assert row["sparsity_mean"] == own["sparsity_mean"]
    rows = zoojax_json("evaluate", dense.path, "--data", other, "--members")["rows"]
    own_rows = zoojax_json("evaluate", dense.path, "--members")["rows"]
    assert [r["test_loss"] for r in rows] != [r["test_loss"] for r in own_rows]
    text = zoojax("evaluate", dense.path, "--data", other, "--members")
    assert (text.returncode, text.stderr) == (0, "")


def test_evaluate_refuses_more_classes(zoojax, dense, tmp_path):
    data = tmp_path / "eleven.npz"
    np.savez(data, images=np.zeros((22, 8, 8), np.uint8), labels=np.arange(22) % 11)
    zoo_fixtures.assert_refused(zoojax("evaluate", dense.path, "--data", data), "11 classes", "10")


@pytest.mark.parametrize("kind", zoo_fixtures.KINDS)
def test_info(tmp_path_factory, zoojax, zoojax_json, dense, kind):
    zoo = dense if kind == "dense" else sparsified(tmp_path_factory)[kind][0]
    facts = zoojax_json("info", zoo.path)
    assert facts["kind"] == kind
    assert facts["members"] == len(zoo)
    assert (facts["newest_epoch"], facts["epochs"], facts["epochs_saved"]) == (2, 2, 3)
    assert facts["diverged_members"] == 0
    assert facts["batch_size"] == facts["config"]["batch_size"] == 10
    assert facts["preset"] is None
    for name, values in (
        ("optimizer", ["adam"]),
        ("learning_rate", [1e-2]),
        ("activation", ["tanh"]),
        ("init", ["kaiming_uniform"]),
    ):
        assert facts[name] == values
    assert facts.get("ratio") == ([0.0, 0.5, 0.9] if kind == "mp" else None)
    assert zoo.fingerprint.startswith(facts["fingerprint"])
    assert ("parent_path" in facts) == (kind != "dense")
    if kind != "dense":
        assert facts["parent_path"] == str(dense.path.resolve())
    text = zoojax("info", zoo.path)
    assert (text.returncode, text.stderr) == (0, "")
    assert str(zoo.path) in text.stdout
    assert "test_acc" in text.stdout
    lines = [line.strip() for line in text.stdout.splitlines()]
    for line in ("optimizer  adam", "learning rate  0.01", "batch size  10", "preset  none"):
        assert line in lines


def test_diverged_members_are_counted_and_leave_json_valid(tmp_path_factory, zoojax, zoojax_json):
    """NaN is not JSON: what is not finite becomes null."""
    out = tmp_path_factory.mktemp("cli") / "diverged"
    grid = dataclasses.replace(zoo_fixtures.GRID, learning_rates=(1e-2, 3e38))
    zoo = zoo_fixtures.train(tmp_path_factory, out, grid)
    assert zoojax_json("info", zoo.path)["diverged_members"] == 3
    (row,) = zoojax_json("evaluate", zoo.path)["rows"]
    assert (row["members"], row["diverged"]) == (6, 3)
    sound = zoo.metrics.filter(epoch=2).filter("finite")["test_acc"].mean()
    assert row["test_acc_mean"] == pytest.approx(sound, abs=1e-6)
    assert "3 member states diverged" in zoojax("evaluate", zoo.path).stdout
    rows = zoojax_json("evaluate", zoo.path, "--members")["rows"]
    assert [r["test_loss"] is None for r in rows] == [False] * 3 + [True] * 3


def test_relative_paths_of_images_hold_from_elsewhere(tmp_path_factory, zoojax_json, tmp_path):
    """The folder that a command runs in, another than this process's, is no part of a zoo."""
    relative = zoo_fixtures.images(tmp_path_factory).relative_to(tmp_path_factory.getbasetemp())
    command = ("train", "digits-s-seed", "--data", relative, "--members", 3, "--epochs", 0)
    zoojax_json(*command, "--chunk", zoo_fixtures.CHUNK, "--out", tmp_path / "zoo")
    zoo = open_zoo(tmp_path / "zoo")
    assert load_images(zoo, None).hash == zoo.config.data_hash


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("train", "usps-seed"), ["'usps-seed'", "did you mean 'usps-s-seed'"]),
        (("train", "digits-s-seed", "--data", "mnits"), ["'mnits'", "did you mean 'mnist'"]),
        (("train", "digits-s-seed", "--data", "none.npz"), ["none.npz is missing"]),
        (("train", "digits-s-seed", "--members", "0"), ["0 members"]),
        (("train", "digits-s-seed", "--epochs", "-1"), ["-1 epochs"]),
        (("train", "digits-s-seed", "--chunk", "0"), ["chunk 0"]),
        (("train", "digits-s-seed", "--batch-size", "0"), ["batch size 0"]),
        (("train", "digits-s-seed", "--learning-rate", "0"), ["learning rate 0"]),
        (("sparsify", "magnitude", "ZOO", "--ratios", "1.0"), ["pruning ratio 1 "]),
        (("sparsify", "magnitude", "ZOO", "--ratios", "-0.1"), ["pruning ratio -0.1"]),
        (("sparsify", "magnitude", "ZOO", "--ratios", "0.5", "0.5"), ["each once"]),
        (
            ("sparsify", "magnitude", "ZOO", "--epochs", "0", "--learning-rate", "0"),
            ["learning rate 0"],
        ),
        (("sparsify", "magnitude", "ZOO", "--epoch", "9"), ["no epoch 9"]),
        (("sparsify", "magnitude", "none"), ["none is not a folder"]),
        (("sparsify", "variational-dropout", "none"), ["none is not a folder"]),
        (
            ("sparsify", "variational-dropout", "ZOO", "--epochs", "0", "--learning-rate", "0"),
            ["learning rate 0"],
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_mistakes_of_making(zoojax, dense, tmp_path, arguments, named):
    """One line on standard error, status 2, and nothing made."""
    words = [dense.path if word == "ZOO" else word for word in arguments]
    zoo_fixtures.assert_refused(zoojax(*words, "--out", tmp_path / "out"), *named)
    assert not list(tmp_path.iterdir())


def test_mistakes_of_reading(zoojax, tmp_path, dense):
    for command in ("info", "evaluate"):
        zoo_fixtures.assert_refused(zoojax(command, tmp_path / "none"), tmp_path / "none")
        zoo_fixtures.assert_refused(zoojax(command, tmp_path), f"{tmp_path} is not a zoo")
    zoo_fixtures.assert_refused(
        zoojax("evaluate", dense.path, "--epoch", 9), "no epoch 9; it has 0 to 2"
    )


def test_damage_is_one_line_too(zoojax, tmp_path, dense):
    """Whatever Orbax and its threads have to say."""
    path = zoo_fixtures.copied(dense, tmp_path / "zoo")
    files = (f for f in (path / "states" / "2").rglob("*") if f.is_file())
    largest = max(files, key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:1000])
    zoo_fixtures.assert_refused(zoojax("evaluate", path), path / "states" / "2")
    content = json.loads((path / "zoo.json").read_text())
    (path / "zoo.json").write_text(json.dumps({**content, "schema": 99}))
    zoo_fixtures.assert_refused(zoojax("info", path), "schema 99")


def test_a_twin_of_a_twin(zoojax, tmp_path_factory, tmp_path):
    twin = sparsified(tmp_path_factory)["vd"][0].path
    done = zoojax("sparsify", "magnitude", twin, "--out", tmp_path / "out")
    zoo_fixtures.assert_refused(done, twin, "is itself a twin")


def test_a_reader_that_has_seen_enough():
    """As `zoojax presets | head -1`: no traceback."""
    with subprocess.Popen(
        [*zoo_fixtures.COMMAND, "presets", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_info_on_the_system(zoojax, zoojax_json):
    facts = zoojax_json("info", "--system")
    assert facts["devices"]["count"] >= 1 and set(facts["versions"]) >= {"zoojax", "jax"}
    reason = kernel.unavailable_reason(architecture("small", 1))
    assert facts["engine"] == (f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel")
    assert {"devices", "data", "kernels", "programs", "versions"} < set(facts)
    assert facts["engine"] in zoojax("info", "--system").stdout


@pytest.mark.parametrize("arguments", [(), ("zoo", "--system")])
def test_info_on_one_thing(zoojax, arguments):
    zoo_fixtures.assert_refused(zoojax("info", *arguments), "--system")


@pytest.mark.parametrize(
    "kinds",
    [("evaluate",), pytest.param(("evaluate", "dense", "mp", "vd"), marks=pytest.mark.slow)],
)
def test_bench_measures_every_backend(tmp_path_factory, tmp_path, kinds):
    """Their numbers are the machine's; that they are all there is ours."""
    file = tmp_path / "benchmarks.md"
    options = ("--members", 4, "--repetitions", 1, "--seconds", 0.1, "--chunk", 4)
    options += ("--kinds", *kinds)
    done = zoo_fixtures.cli_process(tmp_path_factory, "bench", *options, "--out", file, "--json")
    printed = json.loads(done.stdout)
    rows = printed["rows"]
    assert printed["growth"] == []
    if "dense" in kinds:
        assert {
            *("zoojax", "one torch process per core"),
            *("torch.func.vmap, 4 members", "jax.vmap of lax.conv, 4 members"),
        } <= {row["backend"] for row in rows if row["kind"] == "dense"}
    assert {row["kind"] for row in rows if row["backend"] == "zoojax"} == set(kinds)
    assert all(row["median"] > 0 for row in rows)
    mine = {row["backend"]: row for row in rows if row["kind"] == kinds[-1]}
    ours, torch = mine["zoojax"], mine["one torch process per core"]
    assert ours["times_torch"] == pytest.approx(ours["median"] / torch["median"])
    table = [line for line in file.read_text().splitlines() if line.startswith("| small")]
    assert len(table) == len(rows)


@pytest.mark.slow
def test_growth_of_a_small_zoo():
    """In a process of its own: what it takes there, not what this one has taken."""
    measured = growth.measured(3, 100)
    assert measured["members"] == 3 and measured["saving_seconds"] < measured["epoch_seconds"]
    assert 50e6 < measured["memory_bytes"] < 2 * 2**30 + 3 * 20e3


def test_half_written_programs_keep_no_other_from_being_kept(tmp_path_factory, tmp_path):
    """JAX keeps nothing new beside a program whose time of use an interruption left out."""
    environment = {**zoo_fixtures.environment(tmp_path_factory), "XDG_CACHE_HOME": str(tmp_path)}
    environment |= {"ZOOJAX_KERNEL": "off"}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    command = [*zoo_fixtures.COMMAND, "evaluate", str(zoo_fixtures.dense(tmp_path_factory).path)]

    def kept() -> dict[str, int]:
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True)
        return {f.name: f.stat().st_size for f in tmp_path.glob("zoojax/programs/*/*-cache")}

    first = kept()
    largest = max(first, key=lambda name: first[name])
    (half,) = tmp_path.glob(f"zoojax/programs/*/{largest}")
    half.write_bytes(half.read_bytes()[:100])
    half.with_name(half.name.removesuffix("cache") + "atime").unlink()
    again = kept()
    assert again.keys() == first.keys() and again[largest] > 100


def test_flops_of_a_sample():
    """By hand: 24^2 x 25 x 8 products of the first layer, and so on."""
    forward = [576 * 25 * 8, 64 * 25 * 8 * 6, 9 * 4 * 6 * 4, 36 * 20, 200]
    assert flops(Case("dense", "small", 10)) == 6 * sum(forward) - 2 * forward[0]
    assert flops(Case("evaluate", "small", 10)) == 2 * sum(forward)
