"""Every public name has an example, and all examples run.

Examples run in an empty folder, with these names:

    zoojax, jax, jnp, np, pl   the modules
    zoo                        three members of the small CNN, trained for two epochs on 65 digits
    folder                     path of the folder of that zoo
    images, labels             those digits: [65, 28, 28, 1] float32 in [0, 1], and [65] int32
    representation             an autoencoder of the weights of small CNNs, with 8 dimensions
    representation_folder      path of its folder
"""

import doctest
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest

import zoojax
import zoojax.functional
from tests.support import representations, zoo_fixtures
from zoojax.architectures import registry as architecture_registry
from zoojax.hyper_representation import trainer
from zoojax.sparsifiers import registry as sparsifier_registry
from zoojax.storage import zoo_images

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def documented(qualified: str, value: Any) -> Iterator[tuple[str, list[str]]]:
    """Yields the names of an object and its public methods, with their docstrings.

    A method that overrides another has both docstrings; one of them needs an example.
    """
    if inspect.ismodule(value):
        yield qualified, [inspect.getdoc(value) or ""]
        for name in public_names(value):
            yield from documented(f"{qualified}.{name}", getattr(value, name))
        return
    yield qualified, [inspect.cleandoc(value.__doc__ or "")]
    for owner in our_classes(value):
        for name, method in vars(owner).items():
            if not name.startswith("_") and is_method(method):
                owners = [each for each in our_classes(owner) if name in vars(each)]
                texts = [inspect.getdoc(vars(each)[name]) or "" for each in owners]
                yield f"{owner.__module__}.{owner.__name__}.{name}", texts


def our_classes(value: Any) -> list[type]:
    """A class and its base classes, without those of other libraries."""
    classes = value.__mro__ if inspect.isclass(value) else ()
    return [each for each in classes if each.__module__.split(".")[0] == "zoojax"]


def is_method(attribute: Any) -> bool:
    """Whether an attribute of a class is a method rather than a property or a constant."""
    return inspect.isfunction(attribute) or isinstance(attribute, classmethod | staticmethod)


def public_names(module: types.ModuleType) -> list[str]:
    """`__all__`, or the functions and classes that a module defines."""
    defined = (
        name
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    )
    return list(getattr(module, "__all__", defined))


def collected() -> dict[str, list[str]]:
    """Docstrings by name, each name once, of `zoojax` and the modules that it exports."""
    names = dict(documented("zoojax.functional", zoojax.functional))
    for name, docstrings in documented("zoojax", zoojax):
        names.setdefault(name, docstrings)
    return names


DOCSTRINGS = collected()


@pytest.fixture
def provided(tmp_path_factory, tmp_path, monkeypatch) -> dict[str, Callable[[], Any]]:
    """The names that examples can use. What they register is forgotten."""
    for registry in (architecture_registry, sparsifier_registry):
        monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    for name, stub in representations.STUBS.items():
        monkeypatch.setattr(trainer, name, stub)
    monkeypatch.chdir(tmp_path)

    def zoo():
        return zoo_fixtures.dense(tmp_path_factory)

    def train():
        return zoo_images.load_images(zoo(), None).train

    modules = {"zoojax": zoojax, "jax": jax, "jnp": jnp, "np": np, "pl": pl}
    return {
        **{name: functools.partial(lambda module: module, m) for name, m in modules.items()},
        "zoo": zoo,
        "folder": lambda: str(zoo().path),
        "images": lambda: (train().images + 1) / 2,
        "labels": lambda: train().labels,
        "representation": lambda: representations.without_alphas(tmp_path_factory),
        "representation_folder": lambda: str(representations.without_alphas(tmp_path_factory).path),
    }


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_example(name, provided):
    examples = [text for text in DOCSTRINGS[name] if ">>>" in text]
    assert examples, f"the docstring of {name} has no example"
    # An overridden method's example is that of its base class, which has a test of its own.
    text, report = examples[0], []
    used = set(re.findall(r"\w+", text)) & provided.keys()
    namespace = {"__name__": "example", **{name: provided[name]() for name in used}}
    test = doctest.DocTestParser().get_doctest(text, namespace, name, None, None)
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert not report, "".join(report)


def test_names_are_found():
    """Those of the library and of modules, classes and methods."""
    names = {"zoojax", "zoojax.functional.init", "zoojax.sparsifiers.declared.Declared.members"}
    assert names < DOCSTRINGS.keys()
