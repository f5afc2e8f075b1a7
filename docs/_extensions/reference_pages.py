"""Writes the reference: one page per group of public names, and one per group of commands.

The pages are written to reference/ before Sphinx reads the sources; they are not in the repository.
"""

import dataclasses
import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import docstring_parser
import tyro
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

from zoojax import (
    analysis,
    converters,
    functional,
    geometry,
    hyper_representation,
    presets,
    weight_datasets,
)
from zoojax.cli import main
from zoojax.cli.parsing import subcommands
from zoojax.cli.sparsify import sparsify_command

# Public names by page: (file, title, introduction, names).
PAGES = (
    (
        "zoos",
        "Zoos",
        "Train zoos, create their twins, and read them.",
        (
            *("train_zoo", "sparsify", "open_zoo", "apply", "predict", "evaluate", "info"),
            *("Zoo", "concat", "publish", "TensorBoard", "RunLog", "initialize", "ZoojaxError"),
        ),
    ),
    (
        "populations",
        "Images and hyperparameters",
        "What members are trained on, and what they differ in.",
        ("DataSpec", "ImageSet", "Grid", "LogUniform", "Uniform", "Choice"),
    ),
    (
        "sparsifiers",
        "Sparsifiers",
        "All sparsifiers are frozen dataclasses of their options. [Sparsifiers](../sparsifiers.md) "
        "compares them.",
        (
            *("MagnitudePruning", "VariationalDropout", "RandomPruning", "SNIP", "GraSP"),
            *("SynFlow", "TaylorPruning", "FisherPruning", "Wanda", "OBS", "GradualMagnitude"),
            *("IterativeMagnitude", "StaticSparse", "SET", "RigL", "StraightThrough", "TopKAST"),
            *("L0", "StructuredPruning", "NMPruning"),
        ),
    ),
    (
        "extending",
        "Networks and sparsifiers of your own",
        "Interfaces and registries.",
        (
            *("Architecture", "register_architecture", "Sparsifier"),
            *("sparsifiers.declared.Declared", "sparsifiers.compared.Compared", "ScorePruning"),
            *("Needs", "register_sparsifier"),
        ),
    ),
    (
        "functional",
        "zoojax.functional",
        "Pure functions of one member, for `jax.vmap` and for training loops of your own.",
        tuple(f"functional.{name}" for name in functional.__all__),
    ),
    (
        "analysis",
        "Analysis",
        "`analyze` computes all tables of a zoo and its twins; `zoojax.analysis` has each as a "
        "function.",
        (
            *("analyze", "reproduce"),
            *(f"analysis.{name}" for name in analysis.__all__ if name != "analyze"),
        ),
    ),
    (
        "weight_datasets",
        "Weights as data",
        "States of zoos as datasets, for any training loop.",
        (
            "WeightDataset",
            *(
                f"weight_datasets.{name}"
                for name in weight_datasets.__all__
                if name != "WeightDataset"
            ),
        ),
    ),
    (
        "geometry",
        "Geometry",
        "Alignment, connectivity, merging, curvature and similarity of whole populations.",
        tuple(f"geometry.{name}" for name in geometry.__all__),
    ),
    (
        "hyper_representations",
        "Hyper-representations",
        "Autoencoders of weights.",
        (
            *("train_representation", "open_representation"),
            *(
                f"hyper_representation.{name}"
                for name in hyper_representation.__all__
                if name not in ("train_representation", "open_representation")
            ),
        ),
    ),
    (
        "converters",
        "Converters",
        "PyTorch zoos to zoojax and back; they need the extra `torch`.",
        tuple(f"converters.{name}" for name in converters.__all__),
    ),
    (
        "presets",
        "Presets",
        "Settings of published zoos.",
        tuple(f"presets.{name}" for name in presets.__all__),
    ),
)
_FOLDER = "reference"


def setup(app: Sphinx) -> dict[str, Any]:
    """Connects the generator to Sphinx."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / _FOLDER))
    app.connect("autodoc-process-docstring", _escape, priority=1000)
    # The diagram of CONTRIBUTING.md is drawn by GitHub; here it is text.
    app.add_lexer("mermaid", TextLexer)
    return {"parallel_read_safe": True}


# Code in backticks, which is not changed, or characters with a meaning in reStructuredText.
_MARKUP = re.compile(r"(`[^`]*`)|([|*])|(?<=\w)_(?!\w)")


def _escape(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Escapes formulas and names such as |w| and "prefix_" in a docstring."""
    in_example = False
    for i, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example and not line.lstrip().startswith((":", "..", "*")):
            lines[i] = _MARKUP.sub(lambda m: m[1] or rf"\{m[0]}", line)


def write(folder: Path) -> None:
    """Writes all reference pages.

    Args:
        folder: Their folder, which is emptied first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "commands").mkdir(parents=True)
    for name, title, introduction, names in PAGES:
        (folder / f"{name}.md").write_text(_api_page(title, introduction, names), "utf-8")
    for name, page in command_pages():
        (folder / "commands" / f"{name}.md").write_text(page, "utf-8")


def _api_page(title: str, introduction: str, names: tuple[str, ...]) -> str:
    parts = [f"# {title}", introduction]
    for name in names:
        module, _, attribute = f"zoojax.{name}".rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        directive = "autofunction"
        options = ""
        if isinstance(value, type):
            directive = "autoexception" if issubclass(value, Exception) else "autoclass"
            options = f"\n   :members:\n   :inherited-members: {', '.join(_described_elsewhere())}"
        parts.append(f"```{{eval-rst}}\n.. {directive}:: zoojax.{name}{options}\n```")
    return "\n\n".join(parts) + "\n"


def _described_elsewhere() -> list[str]:
    """Names of classes whose methods are not repeated for the classes that are derived from them.

    Those with a description of their own, and those of Python.
    """
    names = [name.rpartition(".")[2] for *_, names in PAGES for name in names]
    return ["object", "BaseException", "Exception", "tuple", "dict", "Protocol", "Generic", *names]


def command_pages() -> Iterator[tuple[str, str]]:
    """Yields the name and the text of one page per command, or per group of subcommands."""
    for name, kind in subcommands(main._commands(sparsify_command(examples=True))).items():
        group = dict(_leaves(kind, f"{name} ")) or {name: kind}
        parts = [f"# zoojax {name}"]
        if set(group) != {name}:
            parts.append(_description(kind))
        for command, each in group.items():
            if command != name:
                parts.append(f"## zoojax {command}")
            parts += [_description(each), *_arguments(each)]
        yield name, "\n\n".join(part for part in parts if part) + "\n"


def _leaves(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, kind in subcommands(group).items():
        nested = dict(_leaves(kind, f"{prefix}{name} "))
        yield from nested.items() if nested else [(f"{prefix}{name}", kind)]


def _description(kind: Any) -> str:
    """The docstring of a command; its examples become code."""
    paragraphs = []
    for paragraph in (kind.__doc__ or "").strip().split("\n\n"):
        text = " ".join(paragraph.split())
        example, _, line = text.partition("Example: ")
        paragraphs.append(f"```\n{line}\n```" if line and not example else text)
    return "\n\n".join(paragraphs)


def _arguments(kind: Any) -> Iterator[str]:
    """Yields a table of the arguments and options of a command."""
    rows = list(_rows(kind))
    if rows:
        lines = ["| option | meaning |", "|---|---|"]
        lines += [f"| {name} | {text} |" for name, text in rows]
        yield "\n".join(lines)


def _rows(kind: Any) -> Iterator[tuple[str, str]]:
    texts = _field_texts(kind)
    for each in dataclasses.fields(kind):
        field_type, notes = each.type, ()
        if get_origin(field_type) is Annotated:
            field_type, *notes = get_args(field_type)
        if dataclasses.is_dataclass(field_type):
            yield from _rows(field_type)
            continue
        named = {
            attribute: getattr(note, attribute)
            for note in notes
            for attribute in ("name", "metavar", "help")
            if getattr(note, attribute, None)
        }
        positional = tyro.conf.Positional in notes
        name = named.get("name", each.name).replace("_", "-")
        metavar = named.get("metavar", "")
        shown = metavar if positional else f"--{name} {metavar}".strip()
        text = " ".join((named.get("help") or texts.get(each.name, "")).split())
        choices = _choices(field_type)
        if choices and not positional:
            text += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        default = _default(each)
        if default and "default" not in text:
            text += f" Default: `{default}`."
        yield f"`{shown}`", text.replace("|", "\\|")


def _field_texts(kind: Any) -> dict[str, str]:
    """Docstrings of the fields of a command and its base classes."""
    texts: dict[str, str] = {}
    for parent in reversed(kind.__mro__[:-1]):
        if parent.__module__.startswith("zoojax") and "SparsifyWithOptions" not in parent.__name__:
            for entry in docstring_parser.parse_from_object(parent).params:
                texts[entry.arg_name] = entry.description or ""
    return texts


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType, tuple):
        parts = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
        return _choices(parts[0]) if len(parts) == 1 else ()
    return ()


def _default(each: dataclasses.Field) -> str:
    value = each.default
    if each.default_factory is not dataclasses.MISSING:
        value = each.default_factory()
    if value in (None, dataclasses.MISSING, "", ()) or isinstance(value, bool):
        return ""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
