"""Zoos trained with the command line, each once per session."""

import pytest

from tests.support import zoo_fixtures
from zoojax import Zoo, open_zoo


@zoo_fixtures.once
def trained(factory: pytest.TempPathFactory) -> tuple[Zoo, dict]:
    """A dense zoo, and the JSON that the command printed."""
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


@zoo_fixtures.once
def sparsified(factory: pytest.TempPathFactory) -> dict[str, tuple[Zoo, dict]]:
    """The twins of `trained` by kind, each with the JSON that the command printed."""
    parent, result = trained(factory)[0].path, {}
    for kind, method, options in (
        ("mp", "magnitude-pruning", ("--ratios", 0, 0.5, 0.9)),
        ("vd", "variational-dropout", ()),
    ):
        out = parent.with_name(kind)
        options = (*options, "--epochs", 2, "--chunk", zoo_fixtures.CHUNK, "--learning-rate", 1e-2)
        printed = zoo_fixtures.cli_json(factory, "sparsify", method, parent, *options, "--out", out)
        result[kind] = open_zoo(out), printed
    return result
