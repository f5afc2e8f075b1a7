"""Samples of published formats: what make_samples.py writes, and what must come out of it."""

import json
from pathlib import Path

import jax
import numpy as np

from zoojax import Zoo
from zoojax.storage.states import COLLECTIONS


def given(folder: Path) -> list[tuple[Path, dict]]:
    """What to convert, and the expected outcome."""
    expected = json.loads((folder / "expected.json").read_text())
    paths = expected["give"] if isinstance(expected["give"], list) else [expected["give"]]
    expected["zoo"] = str(folder / "zoo")
    return [(folder / path, expected) for path in paths]


def check_logits(zoo: Zoo, sample: Path, expected: dict, tolerance: float) -> int:
    """Compares the outputs of members with those of the sample's torch networks.

    Returns:
        The number of states compared.
    """
    arrays = np.load(sample / "expected.npz")
    table, count = zoo.members_table, 0
    inputs = arrays["inputs"].astype(np.float32)
    images = inputs.transpose(0, 2, 3, 1) if inputs.ndim == 4 else inputs[:, None, None, :]
    # DWSNets adds 0.5 to the outputs of its networks.
    shift = 0.5 if "x + 0.5" in expected["architecture"].get("output", "") else 0.0
    for member in expected["members"]:
        rows = [i for i, trial in enumerate(table["trial"]) if is_of(trial, member["id"])]
        for epoch, state in member["states"].items():
            if not rows or "logits" not in state:
                continue
            model = zoo.config.shape.module(table["activation"][rows[0]], "uniform")
            tree, params = zoo.state(int(epoch), raw=True), zoo.sparse_params(int(epoch))
            variables = {"params": params, **tree.get(COLLECTIONS, {})}
            own = jax.tree.map(lambda x, row=rows[0]: x[row], variables)
            outputs = np.asarray(model.apply(own, images)) + shift
            logits = arrays[state["logits"]]
            difference = np.abs(outputs - logits).max()
            assert difference <= tolerance * np.abs(logits).max(), state["place"]
            count += 1
    return count


def is_of(trial: str, identity: str) -> bool:
    """Whether a trial is the member with this id, which may be a path."""
    return identity.replace("/", "-").endswith(trial.replace("/", "-"))
