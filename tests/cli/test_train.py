"""`zoojax train`, `sparsify` and `presets`."""

import json

import pytest

from tests.support import cli_zoos, zoo_fixtures
from zoojax import ZoojaxError, open_zoo
from zoojax.cli.main import main
from zoojax.presets import PRESETS
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images

METRICS = {"train_acc", "val_acc", "test_acc", "ggap", "sparsity"}
LAYERS = {f"sparsity_{layer}" for layer in ("conv1", "conv2", "conv3", "fc1", "fc2")}


def test_presets(run_cli, run_json):
    printed = run_json("presets")
    assert list(printed) == list(PRESETS)
    assert printed["usps-s-seed"]["data"]["name"] == "usps"
    assert printed["usps-s-seed"]["grid"]["learning_rates"] == [3e-4]
    table = run_cli("presets")
    assert (table.returncode, table.stderr) == (0, "")
    for name in PRESETS:
        assert name in table.stdout


def test_train_equals_the_library(tmp_path_factory, dense):
    """Bit for bit; the printed means are those on disk."""
    _, printed = cli_zoos.trained(tmp_path_factory)
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


def test_train_prints_progress_and_a_table(run_cli, tmp_path_factory, tmp_path):
    """One line per epoch on standard error without a terminal; none with --quiet."""
    command = ["train", "digits-s-seed", "--data", zoo_fixtures.images(tmp_path_factory)]
    command += ["--members", 3, "--epochs", 2, "--chunk", zoo_fixtures.CHUNK]
    done = run_cli(*command, "--out", tmp_path / "a")
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"train digits-s-seed: epoch {e}/2" for e in (1, 2)
    ]
    assert "test_acc" in done.stdout
    quiet = run_cli(*command, "--quiet", "--out", tmp_path / "b")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout.replace("/b", "/a") == done.stdout


def test_optimizers_and_schedules(tmp_path_factory, run_json, tmp_path):
    """Every combination is trained; the options are columns of the members table."""
    command = ("train", "digits-s-seed", "--data", zoo_fixtures.images(tmp_path_factory))
    run_json(
        *(*command, "--members", 1, "--epochs", 0, "--out", tmp_path / "zoo"),
        *("--optimizer", "adamw", "sgd", "--momentum", 0.5, 0.9, "--schedule", "cosine"),
        *("--warmup", 0.1),
    )
    table = open_zoo(tmp_path / "zoo").members_table
    assert table.select("optimizer", "momentum", "schedule", "warmup").rows() == [
        ("adamw", 0.9, "cosine", 0.1),
        ("sgd", 0.5, "cosine", 0.1),
        ("sgd", 0.9, "cosine", 0.1),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--schedule", "linear"), "no schedule named 'linear'; there are: constant, cosine, one"),
        (("--momentum", 0.5), "momentum has no effect here; it is used with optimizer sgd or nest"),
        (("--step-interval", 2.5), "--step-interval expects whole numbers, not '2.5'"),
        (("--warmup", "x"), "--warmup expects numbers, not 'x'"),
    ],
)
def test_invalid_hyperparameters(run_cli, tmp_path, words, message):
    done = run_cli("train", "digits-s-seed", *words, "--out", tmp_path / "zoo")
    zoo_fixtures.assert_refused(done, message)
    assert not (tmp_path / "zoo").exists()


def test_relative_path_of_images(tmp_path_factory, run_json, tmp_path):
    """Is resolved by the command, which runs in another folder than this process."""
    relative = zoo_fixtures.images(tmp_path_factory).relative_to(tmp_path_factory.getbasetemp())
    command = ("train", "digits-s-seed", "--data", relative, "--members", 3, "--epochs", 0)
    run_json(*command, "--chunk", zoo_fixtures.CHUNK, "--out", tmp_path / "zoo")
    zoo = open_zoo(tmp_path / "zoo")
    assert load_images(zoo, None).hash == zoo.config.data_hash


@pytest.mark.parametrize(
    ("options", "name", "preset"),
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
def test_name_and_preset_with_changed_settings(tmp_path, monkeypatch, options, name, preset):
    """Only --members, --first-seed and --name keep the preset."""
    called = _stop_before_training(monkeypatch)
    epochs = () if preset else ("--epochs", 1)
    words = ["train", "digits-s-seed", *options, *epochs, "--members", 2, "--out", tmp_path / "zoo"]
    assert main(list(map(str, words))) == 2
    assert (called[-1].name, called[-1].preset) == (name, preset)


def _stop_before_training(monkeypatch) -> list[ZooConfig]:
    """Makes training fail before it writes; returns the list of the configs it would have."""
    configs = []

    def train_or_extend(out, config, *rest):
        configs.append(config)
        raise ZoojaxError("enough")

    monkeypatch.setattr("zoojax.api.dense.train_or_extend", train_or_extend)
    return configs


def test_name_and_preset_of_reproduce(tmp_path, monkeypatch):
    called = _stop_before_training(monkeypatch)
    words = ["reproduce", "digits-s-seed", "--out", str(tmp_path / "run")]
    assert main([*words, "--epochs", "1"]) == 2
    assert (called[-1].name, called[-1].preset) == ("digits-s-seed-custom", None)
    assert main([*words, "--members", "3"]) == 2
    assert (called[-1].name, called[-1].preset) == ("digits-s-seed", "digits-s-seed")


@pytest.mark.parametrize("kind", ["mp", "vd"])
def test_sparsify_equals_the_library(tmp_path_factory, dense, kind):
    """Bit for bit."""
    twin, printed = cli_zoos.sparsified(tmp_path_factory)[kind]
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


def test_twins_use_the_learning_rate_of_the_preset(dense, run_json, tmp_path):
    """Unless one is given: with digits-s-seed 1e-3 for pruning, 3e-3 for variational dropout.

    The library and the command line train the same twin, so that one can resume the other's.
    """
    path = zoo_fixtures.copied(dense, tmp_path / "zoo")
    config = json.loads((path / "zoo.json").read_text())
    (path / "zoo.json").write_text(json.dumps({**config, "preset": "digits-s-seed"}))
    zoo = open_zoo(path)
    python = {
        "magnitude-pruning": zoo_fixtures.prune(tmp_path / "mp", zoo, [0.5], epochs=0),
        "variational-dropout": zoo_fixtures.train_variational(tmp_path / "vd", zoo, epochs=0),
    }
    options = {"magnitude-pruning": ("--ratios", 0.5), "variational-dropout": ()}
    for method, rate in (("magnitude-pruning", 1e-3), ("variational-dropout", 3e-3)):
        out = tmp_path / method
        run_json("sparsify", method, zoo.path, *options[method], "--epochs", 0, "--out", out)
        assert set(open_zoo(out).members_table["learning_rate"]) == {rate}
        assert open_zoo(out).fingerprint == python[method].fingerprint
    explicit = zoo_fixtures.prune(tmp_path / "explicit", zoo, [0.5], epochs=0, learning_rate=0.5)
    assert set(explicit.members_table["learning_rate"]) == {0.5}


def test_twins_without_a_preset_keep_the_learning_rate(run_json, tmp_path, dense):
    for method in ("magnitude-pruning", "variational-dropout"):
        out = tmp_path / method
        run_json("sparsify", method, dense.path, "--epochs", 0, "--chunk", 1, "--out", out)
        assert set(open_zoo(out).members_table["learning_rate"]) == {1e-2}


def test_twin_of_a_twin_is_refused(run_cli, tmp_path_factory, tmp_path):
    twin = cli_zoos.sparsified(tmp_path_factory)["vd"][0].path
    done = run_cli("sparsify", "magnitude-pruning", twin, "--out", tmp_path / "out")
    zoo_fixtures.assert_refused(done, twin, "is itself a twin")


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("train", "usps-seed"), ["'usps-seed'", "did you mean 'usps-s-seed'"]),
        (("train", "digits-s-seed", "--data", "mnits"), ["'mnits'", "did you mean 'mnist'"]),
        (("train", "digits-s-seed", "--data", "none.npz"), ["none.npz is missing"]),
        (("train", "digits-s-seed", "--members", "0"), ["0 members"]),
        (("train", "digits-s-seed", "--epochs", "-1"), ["-1 epochs"]),
        (("train", "digits-s-seed", "--chunk", "0"), ["chunk 0"]),
        (("train", "digits-s-seed", "--batch-size", "0"), ["batch size 0"]),
        (("train", "digits-s-seed", "--learning-rate", "0"), ["learning rate 0"]),
        (("sparsify", "magnitude-pruning", "ZOO", "--ratios", "1.0"), ["pruning ratio 1 "]),
        (("sparsify", "magnitude-pruning", "ZOO", "--ratios", "-0.1"), ["pruning ratio -0.1"]),
        (("sparsify", "magnitude-pruning", "ZOO", "--ratios", "0.5", "0.5"), ["each once"]),
        (
            ("sparsify", "magnitude-pruning", "ZOO", "--epochs", "0", "--learning-rate", "0"),
            ["learning rate 0"],
        ),
        (("sparsify", "magnitude-pruning", "ZOO", "--epoch", "9"), ["no epoch 9"]),
        (("sparsify", "magnitude-pruning", "none"), ["none is not a folder"]),
        (("sparsify", "variational-dropout", "none"), ["none is not a folder"]),
        (
            ("sparsify", "variational-dropout", "ZOO", "--epochs", "0", "--learning-rate", "0"),
            ["learning rate 0"],
        ),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else "",
)
def test_invalid_arguments(run_cli, dense, tmp_path, arguments, messages):
    """One line on standard error, status 2, and nothing is written."""
    words = [dense.path if word == "ZOO" else word for word in arguments]
    zoo_fixtures.assert_refused(run_cli(*words, "--out", tmp_path / "out"), *messages)
    assert not list(tmp_path.iterdir())
