"""Imports run one way, and the command line answers without waiting for JAX."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import zoojax

ROOT = Path(__file__).parents[1]
# Each imports only from what stands before it. Names may be planned ones.
ORDER = (
    *(
        "errors",
        "text",
        "fields",
        "reading",
        "files",
        "interrupts",
        "machine",
        "locks",
        "architectures",
    ),
    "paths",
    *("ops.conv", "ops.noise", "ops.pool", "ops"),
    *("ops.kernel.build", "ops.kernel.operands", "ops.kernel.cnn", "ops.kernel", "keys"),
    *(
        "image_files",
        "image_sources",
        "data",
        "inputs",
        "models",
        "variational_layers",
        "network",
        "train",
    ),
    *(
        "magnitude_pruning",
        "variational_dropout",
        "evaluate",
        "population",
        "processes",
        "programs",
    ),
    *("zoo_config", "zoo_tables", "steps", "zoo", "check", "zoo_writer", "zoo_images"),
    *("blocks", "inference", "run", "grid", "making"),
    *("presets", "make", "make_twins", "table_files", "weight_statistics"),
    *("analysis.twins", "analysis.trajectories", "analysis.agreements", "analysis.correlations"),
    *("analysis.friendly", "analysis.methods", "analysis.paper", "analysis.found"),
    "analysis.folder",
    *("analysis.beside", "analysis.suite"),
    *("analysis.written", "analysis"),
    *("figures.style", "figures.populations", "figures.weights", "figures.agreement"),
    *(
        "figures.fates",
        "figures.zero_shot",
        "figures.representation",
        "figures",
        "report.summary",
        "report.tables",
        "report.representation",
        "report.data",
        "report",
    ),
    *(
        "hyper_representation." + name
        for name in (
            *("tokens", "settings", "augmentation", "losses", "samples", "config"),
            *("autoencoder", "codec"),
            *("training", "representation", "learning", "properties", "reconstruction"),
            *("zero_shot", "sampling", "evaluated", "evaluation"),
        )
    ),
    "hyper_representation",
)
FORBIDDEN = {"converters", "experiments", "tests", "torch", "tyro", "rich"}


def sources() -> dict[str, Path]:
    """Modules of zoojax by dotted name without the package; all but its __init__."""
    package = ROOT / "zoojax"
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        if name:
            found[name] = path
    return found


def imported(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it; `from a import b` is a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def fresh(code: str) -> list[str]:
    """What a line of Python prints, as JSON, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(done.stdout)


def test_the_walk_sees_imports_wherever_they_are(tmp_path):
    """In functions, under TYPE_CHECKING, and in all forms."""
    path = tmp_path / "module.py"
    path.write_text("import a.b\nif x:\n    from c import d\ndef f():\n    import e as g\n")
    assert imported(path) == {"a.b", "c", "c.d", "e"}


def test_every_module_has_a_place():
    assert set(sources()) <= set(ORDER), "give the new module its place in ORDER"


@pytest.mark.parametrize("module", sorted(sources()))
def test_a_module_imports_only_what_is_below_it(module):
    below = ORDER[: ORDER.index(module)]
    names = imported(sources()[module])
    own = {n.removeprefix("zoojax.") for n in names if n.startswith("zoojax.")}
    assert {n for n in own if n in ORDER} <= set(below)


@pytest.mark.parametrize("module", sorted(sources()))
def test_the_library_knows_nothing_of_torch_or_command_lines(module):
    tops = {name.split(".")[0] for name in imported(sources()[module])}
    assert not tops & FORBIDDEN


def test_the_command_line_starts_light():
    heavy = {"jax", "jaxlib", "polars", "torch", "tensorflow", "sklearn", "orbax", "flax"}
    loaded = fresh("import sys, json, experiments.cli; print(json.dumps(list(sys.modules)))")
    assert "tyro" in loaded
    assert not heavy & set(loaded)


def test_importing_zoojax_is_light_until_something_is_used():
    code = "import sys, json, zoojax; {}; print(json.dumps(list(sys.modules)))"
    assert "jax" not in fresh(code.format("zoojax.ZoojaxError"))
    assert "jax" in fresh(code.format("zoojax.make_dense"))


def test_the_public_surface_resolves():
    assert len(zoojax.__all__) == len(set(zoojax.__all__))
    for name in zoojax.__all__:
        assert getattr(zoojax, name).__name__ == name
    assert set(zoojax._PUBLIC) < set(zoojax.__all__)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = zoojax.no_such_thing


def test_every_module_can_be_imported():
    for package in ("zoojax", "experiments", "converters"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert importlib.util.find_spec(name.removesuffix(".__init__")) is not None
