"""The examples of docs/architectures.md, run as users run them."""

import re
import subprocess
import sys

import numpy as np
import pytest

from tests.support import ROOT, zoo_fixtures
from zoojax import VariationalDropout, ZoojaxError, functional, open_zoo
from zoojax.architectures import LinenArchitecture, registry
from zoojax.architectures.registry import architecture
from zoojax.cli.plugins import load_architecture

PAGE = (ROOT / "docs" / "architectures.md").read_text()
CHAIN, MODULE, REPLACEABLE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with the module of the page in nets.py."""
    (tmp_path / "nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    yield tmp_path
    sys.modules.pop("nets", None)


def test_chain(folder):
    exec(CHAIN.partition("zoo = ")[0], {})
    assert architecture("tiny", 1).permuted_units() == (4, 8)


def test_module_is_short():
    lines = [line for line in MODULE.splitlines() if line.strip()]
    assert len(lines) <= 30


def test_module_is_trained_sparsified_and_opened(tmp_path_factory, folder):
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*zoo_fixtures.COMMAND, *map(str, words)],
            env=zoo_fixtures.environment(tmp_path_factory),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    images = zoo_fixtures.images(tmp_path_factory)
    words = "train", "digits-s-seed", "--architecture", "nets:net", "--data", images
    done = run(*words, "--members", 2, "--epochs", 2, "--chunk", 2, "--quiet", "--out", "dense")
    assert (done.returncode, done.stderr) == (0, "")
    # Nothing that a zoo names is imported.
    zoo_fixtures.assert_refused(run("info", "dense"), "nets:net", "--plugin nets:net")
    plugin = ("--plugin", "nets:net")
    twin = ("dense", "--epochs", 1, "--quiet", "--chunk", 2, "--out", "twin")
    done = run(*plugin, "sparsify", "magnitude-pruning", *twin, "--ratios", 0.5)
    assert (done.returncode, done.stderr) == (0, "")
    done = run(*plugin, "sparsify", "variational-dropout", *twin[:-1], "vd")
    zoo_fixtures.assert_refused(done, "does not build conv, head with the `layers`")
    assert not (folder / "vd").exists()

    load_architecture("nets:net")
    pruned = open_zoo(folder / "twin")
    assert pruned.config.shape.permuted_units() == (6,)
    np.testing.assert_allclose(pruned.metrics["sparsity"], 0.5, atol=0.01)


def test_module_with_replaceable_layers():
    names = {}
    exec(REPLACEABLE, names)
    arch = LinenArchitecture("replaceable", 28, 1, 10, names["ReplaceableNet"](10))
    dense = functional.init(arch, 1)
    images, labels = np.ones((12, 28, 28, 1), np.float32), np.arange(12, dtype=np.int32) % 10
    member = functional.sparsify(dense, VariationalDropout())
    trained, metrics = functional.train_epoch(member, images, labels, 1e-3)
    assert np.isfinite(metrics["train_loss"])
    before, after = member.params["conv"]["kernel"], trained.params["conv"]["kernel"]
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nets:UNITS", r"nets:UNITS is not a function \(channels, classes\)"),
        ("nets:Net", "nets:Net is not a function"),
        ("nets:other", "has no object 'other'"),
        ("no_such_module:net", "module no_such_module cannot be imported"),
    ],
)
def test_objects_that_are_no_architectures(folder, reference, message):
    with pytest.raises(ZoojaxError, match=message):
        load_architecture(reference)
