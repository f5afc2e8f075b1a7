"""Writes tiny torch zoos in the layout of Ray Tune and the zoos' original code."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from zoojax.architectures.chain import Chain
from zoojax.architectures.cnn import small_cnn
from zoojax.converters.layouts.torch_models import TorchChain

torch.set_num_threads(1)

SMALL = small_cnn(1, 10)
ROWS = {"train_loss": 0.5, "train_acc": 0.9, "test_loss": 0.6, "test_acc": 0.8}


def network(kind: str = "dense", net: Chain = SMALL, dropout: float = 0.0) -> nn.Module:
    """A torch network of a kind: "dense", "mp", "vd" (released variant) or "corrected"."""
    variational = kind in ("vd", "corrected")
    model = TorchChain(net, "tanh", dropout, variational)
    layers: list[Any] = [m for m in model.module_list if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers if variational else ():
        noise = 0.1 * torch.randn_like(layer.weight) - 6
        layer.log_sigma2 = nn.Parameter(noise)
        if kind == "corrected":
            if hasattr(layer, "log_sigma2_bias"):
                del layer.log_sigma2_bias
        elif isinstance(layer, nn.Linear):
            # Uninitialized memory in the original code.
            layer.log_sigma2_bias = nn.Parameter(torch.randn(layer.out_features) * 1e30)
    if kind == "mp":
        weights = [(layer, "weight") for layer in layers]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=0.5)
    return model


def state(
    seed: int, kind: str = "dense", net: Chain = SMALL, dropout: float = 0.0
) -> "OrderedDict[str, torch.Tensor]":
    """A state dict of `network` in the names and order of the original code."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return OrderedDict(network(kind, net, dropout).state_dict())


def config(number: int, kind: str = "dense", **changes: object) -> dict[str, object]:
    """The content of params.json; changes to None remove keys."""
    content = {
        "model::type": "CNN_ARD" if kind in ("vd", "corrected") else "CNN",
        "model::channels_in": 1,
        "model::o_dim": 10,
        "model::nlin": "tanh",
        "model::dropout": 0.0,
        "model::init_type": "uniform",
        "model::use_bias": False,
        "optim::optimizer": "adam",
        "optim::lr": 0.0003,
        "optim::wd": 0.001,
        "training::batchsize": 10,
        "seed": number,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None}


def trial_name(seed: int) -> str:
    """The name of a trial folder."""
    return f"NN_tune_trainable_a1b2c_{seed:05d}_seed={seed}"


def rows(epochs: Iterable[int], content: Mapping[str, object]) -> str:
    """The content of result.json; the test accuracy is 0.1 * epoch."""
    lines = (
        {**ROWS, "test_acc": 0.1 * e, "config": content, "training_iteration": e} for e in epochs
    )
    return "".join(json.dumps(line) + "\n" for line in lines)


def write_trial(
    root: Path,
    seed: int,
    states: Mapping[int, Mapping[str, torch.Tensor]],
    content: Mapping[str, object] | None = None,
    name: str | None = None,
) -> Path:
    """Writes a trial folder with a report for each of its states."""
    folder = root / (name or trial_name(seed))
    folder.mkdir(parents=True)
    content = config(seed) if content is None else content
    (folder / "params.json").write_text(json.dumps(content))
    (folder / "result.json").write_text(rows(states, content))
    for epoch, tensors in states.items():
        file = checkpoint(folder, epoch)
        file.parent.mkdir()
        torch.save(tensors, file)
    return folder


def checkpoint(folder: Path, epoch: int) -> Path:
    """The file of the state at an epoch."""
    return folder / f"checkpoint_{epoch:06d}" / "checkpoints"


def write_zoo(
    root: Path,
    *,
    members: int = 2,
    epochs: Iterable[int] = (0, 1),
    kind: str = "dense",
    net: Chain = SMALL,
    dropouts: tuple[float, ...] = (0.0,),
) -> Path:
    """Writes trial folders with seeds 1, 2, ... and alternating dropout rates."""
    epochs = list(epochs)
    for seed in range(1, members + 1):
        dropout = dropouts[(seed - 1) % len(dropouts)]
        states = {e: state(100 * seed + e, kind, net, dropout) for e in epochs}
        changes: dict[str, object] = {"model::dropout": dropout}
        if kind == "mp":
            changes["prune::amount"] = 0.5
        write_trial(root, seed, states, config(seed, kind, **changes))
    return root


def trials(root: Path) -> list[Path]:
    """The trial folders in a root, sorted."""
    return sorted(p for p in root.iterdir() if "_trainable_" in p.name and p.is_dir())
