"""The Python of docs/publishing.md runs as it is printed, with stand-ins for services.

A local server takes the place of the Hugging Face Hub; modules with the few functions that the page
calls take the places of Weights & Biases and Aim, which zoojax does not depend on.
"""

import os
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, blocks
from tests.support import ROOT, zoo_fixtures
from tests.support.local_hub import serving

(PAGE,) = (page for page in PAGES if page.stem == "publishing")
# The zoos that the page opens; its preset trains two members on small images.
PRELUDE = """
import sys
from dataclasses import replace

import zoojax
from zoojax.presets import PRESETS

small = {"data": zoojax.DataSpec(sys.argv[1]), "grid": zoojax.Grid(seeds=2)}
PRESETS["usps-s-seed"] = replace(PRESETS["usps-s-seed"], **small)
trained = zoojax.train_zoo("usps-s-seed", "zoos/usps", quiet=True)
pruned = zoojax.sparsify(trained, "magnitude_pruning", "zoos/usps-mp", epochs=0, quiet=True)
zoojax.publish(trained, pruned, out="published/usps")

"""
# What the page has made, one fact per line.
EPILOGUE = """
print("zoo", zoo.fingerprint == trained.fingerprint, twin.fingerprint == pruned.fingerprint)
print("old", old.metrics.equals(trained.metrics), len(metrics) == len(trained.metrics))
print("weights", weights["params/conv1/kernel"].shape == (2, 5, 5, 1, 8))
print("logged", [*wandb.run.logged] == [*aim.runs[0].logged] == [*range(51)])
"""
STUBS = {
    "wandb": """
run = None

class Run:
    def __init__(self):
        self.logged = {}

    def log(self, data, step=None):
        self.logged[step] = float(data["test_acc"])

def init(*, project):
    global run
    run = Run()
    return run
""",
    "aim": """
runs = []

class Run:
    def __init__(self, *, experiment):
        self.logged = {}
        runs.append(self)

    def track(self, value, name, step=None):
        self.logged[step] = float(value)
""",
}


@pytest.mark.slow
def test_python_of_the_page(tmp_path_factory, tmp_path):
    for extra in ("datasets", "huggingface_hub", "tensorboardX"):
        pytest.importorskip(extra)
    for name, text in STUBS.items():
        (tmp_path / f"{name}.py").write_text(text)
    images, folder = zoo_fixtures.images(tmp_path_factory), tmp_path / "published/usps"
    code = tmp_path / "page.py"
    code.write_text("\n".join([PRELUDE, "import zoojax", *blocks(PAGE, "python"), EPILOGUE]))
    with serving("owner/usps", folder, tmp_path / "hub") as (variables, downloaded):
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        done = subprocess.run(
            [sys.executable, code, images],
            env=zoo_fixtures.environment(tmp_path_factory) | variables | {"PYTHONPATH": path},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert [line.split()[0] for line in shown[:51]] == [str(epoch) for epoch in range(51)]
    assert [line.split()[1:] for line in shown[-4:]] == [["True"] * n for n in (2, 2, 1, 1)]
    assert "twins/usps-mp/zoo.json" in downloaded
    assert [*(tmp_path / "zoos/usps/logs/tensorboard").rglob("events.*")]
