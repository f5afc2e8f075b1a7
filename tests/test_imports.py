"""Packages import only from lower layers, and the command line starts without JAX."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import zoojax
from tests.support import ROOT

# From lower to higher layers. A package imports only from itself and from lower layers.
LAYERS = (
    ("errors", "text", "deprecation", "intervals"),
    ("json_fields", "filesystem", "hyperparameters"),
    ("runtime",),
    ("ops", "optimizers", "schedules", "augmentations", "tasks"),
    ("keys",),
    ("architectures", "datasets"),
    ("sparsifiers",),
    ("storage",),
    ("training",),
    ("logs",),
    ("functional", "progress"),
    ("presets",),
    ("api",),
    ("geometry",),
    ("analysis",),
    ("figures",),
    ("report",),
    ("converters", "publishing"),
    ("weight_datasets",),
    ("hyper_representation",),
    ("workflows",),
    ("experiments",),
    ("cli",),
)
PACKAGES = [package for layer in LAYERS for package in layer]
# Methods of `Zoo` for notebooks call functions of higher layers, which they import when called.
EXCEPTIONS = {
    "storage/zoo_functions.py": {"api"},
    "storage/zoo_access.py": {"weight_datasets"},
}
# Modules that only the given packages may import.
OUTER = {
    "torch": {"converters", "experiments"},
    "tyro": {"cli"},
    "rich": {"cli", "progress"},
    "tests": set(),
}


def sources() -> dict[str, list[Path]]:
    """Python files by package; a top-level module is a package of one file."""
    files: dict[str, list[Path]] = {}
    for folder in (ROOT / "zoojax", ROOT / "converters", ROOT / "experiments"):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            package = folder.name if folder.name != "zoojax" else parts[0]
            if package not in ("__init__", "__main__"):
                files.setdefault(package, []).append(path)
    return files


def imported(path: Path) -> set[str]:
    """All modules that a file imports anywhere; `from a import b` counts as a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module or ""} | {f"{node.module}.{a.name}" for a in node.names}
    return names


def run_python(code: str) -> list[str]:
    """Runs a line of Python in a new process and parses its output as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return json.loads(result.stdout)


def test_all_forms_of_imports_are_detected(tmp_path):
    """Also those in functions and under TYPE_CHECKING."""
    path = tmp_path / "module.py"
    path.write_text("import a.b\nif x:\n    from c import d\ndef f():\n    import e as g\n")
    assert imported(path) == {"a.b", "c", "c.d", "e"}


def test_every_package_has_a_layer():
    assert set(sources()) == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_package_imports_only_from_lower_layers(package):
    level = next(i for i, layer in enumerate(LAYERS) if package in layer)
    allowed = {package, *(name for layer in LAYERS[:level] for name in layer)}
    for path in sources()[package]:
        parts = [name.split(".") for name in imported(path)]
        used = {p[1] for p in parts if p[0] == "zoojax" and len(p) > 1}
        extra = EXCEPTIONS.get("/".join(path.parts[-2:]), set())
        assert used & set(PACKAGES) <= allowed | extra, path
        tops = {p[0] for p in parts}
        assert not tops & {name for name, users in OUTER.items() if package not in users}, path
        assert not tops & {"converters", "experiments"}, f"{path}: import them from zoojax"


def test_command_line_starts_without_heavy_imports():
    heavy = {"jax", "jaxlib", "polars", "torch", "tensorflow", "sklearn", "orbax", "flax"}
    loaded = run_python("import sys, json, zoojax.cli.main; print(json.dumps(list(sys.modules)))")
    assert "tyro" in loaded
    assert not heavy & set(loaded)


def test_import_of_zoojax_is_lazy():
    code = "import sys, json, zoojax; {}; print(json.dumps(list(sys.modules)))"
    assert "jax" not in run_python(code.format("zoojax.ZoojaxError"))
    assert "jax" in run_python(code.format("zoojax.train_zoo"))


def test_public_names_resolve():
    assert len(zoojax.__all__) == len(set(zoojax.__all__))
    for name in zoojax.__all__:
        assert getattr(zoojax, name).__name__.removeprefix("zoojax.") == name
    assert set(zoojax._PUBLIC) < set(zoojax.__all__)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = zoojax.no_such_thing


def test_every_module_can_be_imported_by_name():
    for path in (ROOT / "zoojax").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        assert importlib.util.find_spec(name.removesuffix(".__init__")) is not None
