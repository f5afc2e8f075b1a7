"""Conversion of torch zoos in tests, and comparisons of its results."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.torch_zoos import trial_name
from tests.support.zoo_fixtures import bits, same_bits
from zoojax.converters.members import Selection
from zoojax.converters.sources import from_trials
from zoojax.converters.targets.base import Request
from zoojax.converters.targets.registry import TARGETS
from zoojax.converters.torch_to_zoo import REJECTS, Conversion, convert
from zoojax.converters.verification import verify
from zoojax.converters.zoo_to_torch import write_trials
from zoojax.storage.zoo import Zoo

NOISE = np.random.default_rng(0).standard_normal((4, 28, 28, 1), np.float32)


def converted(root: Path, out: Path, **options: Any) -> Conversion:
    """Converts trial folders; `select` are arguments of `Selection`."""
    selection = Selection(**options.pop("select", {}))
    return convert(from_trials(root), out, name="zoo", selection=selection, **options)


def read_rejects(zoo: Zoo) -> dict[str, str]:
    """Reasons by place in rejects.csv."""
    with (zoo.path / REJECTS).open(newline="") as file:
        return {row["state"]: row["reason"] for row in csv.DictReader(file)}


def place(seed: int, epoch: int) -> str:
    """The place of a state in messages."""
    return f"{trial_name(seed)}/checkpoint_{epoch:06d}/checkpoints"


def write_report(folder: Path, *lines: dict) -> None:
    """Writes result.json."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "result.json").write_text(text)


def assert_verified(zoo: Zoo, root: Path, images: np.ndarray = NOISE) -> None:
    """The zoo has every state of the root, bit for bit."""
    result = verify(zoo, from_trials(root), images, sample=None)
    assert (result.unequal, result.missing) == ([], [])
    assert result.difference <= 1e-5


def load_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Reads a state dict with plain torch."""
    return torch.load(file, weights_only=True)


def assert_round_trip(
    zoo: Zoo,
    root: Path,
    to: Path,
    keep_masks: bool = False,
    epochs: tuple[int, ...] | list[int] | None = None,
) -> int:
    """Exported states equal the originals in names, order and bits; returns their number."""
    write_trials(zoo, to, epochs=epochs, keep_masks=keep_masks)
    files = sorted(f.relative_to(to) for f in to.glob("*/checkpoint_*/checkpoints"))
    for file in files:
        ours, original = load_tensors(to / file), load_tensors(root / file)
        assert list(ours) == list(original), file
        for name, tensor in original.items():
            assert ours[name].dtype == tensor.dtype
            assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), (file, name)
    return len(files)


def same_zoo(a: Zoo, b: Zoo) -> bool:
    """Whether two converted zoos are equal bit for bit."""
    return (
        a.epochs == b.epochs
        and all(same_bits(a.state(e, raw=True), b.state(e, raw=True)) for e in a.epochs)
        and same_bits(bits(a.metrics), bits(b.metrics))
        and a.members.equals(b.members)
        and a.fingerprint == b.fingerprint
        and read_rejects(a) == read_rejects(b)
    )


def write_safetensors(zoo: Zoo, out: Path, **options) -> int:
    """Writes stacked safetensors files."""
    return TARGETS["safetensors"].write(zoo, out, Request(**options))
