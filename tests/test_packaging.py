"""The wheel holds all files, and an installed wheel behaves like the checkout."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import ROOT
from zoojax import open_zoo

SOURCES = (".py", ".cc", ".h", ".html", ".css", ".js", ".csv")
PARTS = ("zoojax", "converters", "experiments", "pyproject.toml", "README.md", "LICENSE")


class Installed(NamedTuple):
    """A virtual environment with the wheel: its folder of commands and environment variables."""

    bin: Path
    environment: dict[str, str]


def run(command: list, **options) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the checkout to keep build files out of it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, source / part, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / part, source / part)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    run(build, cwd=out)
    (built,) = out.iterdir()
    return built


def install(wheel: Path, folder: Path, *options: str) -> Path:
    """Installs the wheel into a new environment; returns its folder of commands."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run([sys.executable, "-m", "pip", "--python", python, "install", "-q", *options, wheel])
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel) -> Installed:
    """The installed wheel, with the dependencies of this environment.

    They are on PYTHONPATH, which ignores .pth files: an editable install of the checkout is
    not importable.
    """
    bin = install(wheel, tmp_path_factory.mktemp("venv"), "--no-deps")
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    dependencies = sysconfig.get_path("purelib")
    return Installed(bin, {**environment, "PYTHONPATH": dependencies, "JAX_PLATFORMS": "cpu"})


def test_wheel_holds_one_package(wheel):
    import zipfile

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    version = importlib.metadata.version("zoojax")
    assert {name.split("/")[0] for name in names} == {"zoojax", f"zoojax-{version}.dist-info"}
    folders = {"zoojax": "zoojax"} | {n: f"zoojax/{n}" for n in ("converters", "experiments")}
    modules = {
        str(Path(target, path.relative_to(ROOT / folder)))
        for folder, target in folders.items()
        for path in (ROOT / folder).rglob("*.*")
        if path.suffix in SOURCES
    }
    assert modules == {name for name in names if Path(name).suffix in SOURCES}
    assert "zoojax/py.typed" in names
    assert {"zoojax/report/plotly/LICENSE", "zoojax/report/plotly/plotly-gl2d.min.js"} <= set(names)
    licenses = [name for name in names if ".dist-info/licenses/" in name]
    assert len(licenses) == 2


MODULES = (
    "zoojax",
    "zoojax.cli.main",
    "zoojax.converters.layouts.networks",
    "zoojax.experiments.bench",
)


def test_modules_come_from_the_wheel(installed, tmp_path):
    code = (
        f"import importlib, json; names = {MODULES};"
        "print(json.dumps([importlib.import_module(n).__file__ for n in names]))"
    )
    python = [installed.bin / "python", "-c", code]
    files = json.loads(run(python, cwd=tmp_path, env=installed.environment).stdout)
    for file in files:
        assert Path(file).is_relative_to(installed.bin.parent)


@pytest.mark.parametrize(
    "command", [["-m", "zoojax"], ["-c", "from zoojax.cli.main import main; main()"]]
)
@pytest.mark.parametrize("where", ["wheel", "checkout"])
def test_folders_with_the_names_of_packages_do_no_harm(request, tmp_path, command, where):
    for name in ("experiments", "converters", "cli", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')")
    if where == "wheel":
        python, environment = installed_of(request)
    else:
        python, environment = sys.executable, {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run([python, *command, "presets", "--json"], cwd=tmp_path, env=environment)
    assert "usps-s-seed" in json.loads(done.stdout)


def installed_of(request) -> tuple[Path, dict[str, str]]:
    installed = request.getfixturevalue("installed")
    return installed.bin / "python", installed.environment


def test_presets_equal_those_of_the_checkout(installed, tmp_path):
    from_wheel = run(
        [installed.bin / "zoojax", "presets", "--json"], cwd=tmp_path, env=installed.environment
    )
    from_checkout = run([sys.executable, "-m", "zoojax", "presets", "--json"], cwd=ROOT)
    assert from_wheel.stdout == from_checkout.stdout
    assert "usps-s-seed" in json.loads(from_wheel.stdout)


def train(bin: Path, folder: Path, environment: dict[str, str]) -> None:
    command = [bin / "zoojax", "train", "digits-s-seed", "--members", 2, "--epochs", 1]
    done = run([*command, "--json", "--out", "zoo"], cwd=folder, env=environment)
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["members"], row["epoch"], row["diverged"]) == (2, 1, 0)
    zoo = open_zoo(folder / "zoo")
    assert zoo.epochs == [0, 1]
    assert zoo.metrics.filter(epoch=1)["test_acc"].min() > 0.1  # pyright: ignore[reportOptionalOperand, reportOperatorIssue]


def test_installed_command_trains(installed, tmp_path):
    train(installed.bin, tmp_path, installed.environment)


@pytest.mark.slow
def test_install_brings_all_dependencies(wheel, tmp_path):
    """From the package index, with the constraints of the checkout."""
    bin = install(wheel, tmp_path / "venv", "-c", str(ROOT / "constraints.txt"))
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    run([bin / "zoojax", "presets", "--json"], cwd=tmp_path, env=environment)
    train(bin, tmp_path, {**environment, "JAX_PLATFORMS": "cpu"})
