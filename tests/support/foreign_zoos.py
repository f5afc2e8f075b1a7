"""Small zoos in foreign formats, for tests of their readers."""

import csv
import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import torch

from tests.support.torch_zoos import config, state, write_zoo

KERAS = (("conv2d", (3, 3, 1, 16)), ("conv2d_1", (3, 3, 16, 16)), ("conv2d_2", (3, 3, 16, 16)),
         ("dense", (16, 10)))  # fmt: skip


def function_trials(root: Path) -> Path:
    """Trials of Ray 2's function interface: folder 0 is iteration 1; one trial has failed."""
    root.mkdir(parents=True)
    (root / "tuner.pkl").write_bytes(b"not opened")
    for i in range(2):
        trial = root / f"train_a9d6a_{i:05d}_{i}_lr=0.1000"
        rows = []
        for k in range(2):
            folder = trial / f"checkpoint_{k:06d}"
            folder.mkdir(parents=True)
            torch.save(state(10 * i + k), folder / "model.pt")
            row = {"training_iteration": k + 1, "test_acc": 0.5 + 0.1 * k, "loss": 1.0}
            rows.append({**row, "checkpoint_dir_name": folder.name})
        write_tables(trial, {"lr": 0.1, "model": {"nlin": "ReLU"}, "seed": 3.0}, rows)
    failed = root / "train_a9d6a_00002_2_lr=0.1000"
    write_tables(failed, {"lr": 0.1}, [])
    (failed / "error.txt").write_text("boom")
    (failed / "checkpoint_tmp").mkdir()
    return root


def class_trials(root: Path) -> Path:
    """Trials of Ray 2's class interface: as many folders as rows, whose iterations start at 1."""
    write_zoo(root, members=2, epochs=[0, 1])
    (root / ".validate_storage_marker").touch()
    for trial in root.glob("*_trainable_*"):
        rows = [{"training_iteration": k + 1, "test_acc": 0.5, "config": {}} for k in range(2)]
        (trial / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def write_tables(folder: Path, params: dict, rows: list[dict]) -> None:
    """Writes params.json and result.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def lightning_runs(root: Path) -> Path:
    """Two runs with files `epoch=E-step=S.ckpt`, hparams.yaml and metrics.csv with empty cells."""
    for i in range(2):
        folder = root / f"version_{i}" / "checkpoints"
        folder.mkdir(parents=True)
        for epoch in range(2):
            named = {f"model.{name}": tensor for name, tensor in state(10 * i + epoch).items()}
            content = {"epoch": epoch, "state_dict": named, "hyper_parameters": {"lr": 0.1}}
            torch.save(content, folder / f"epoch={epoch}-step={9 * epoch}.ckpt")
        run = folder.parent
        (run / "hparams.yaml").write_text(f"lr: 0.001\nseed: {i}\nactivation: relu\n")
        (run / "metrics.csv").write_text(
            "epoch,step,test_acc,train_loss\n0,1,0.31,\n0,1,,2.1\n1,3,0.42,\n1,3,,1.7\n"
        )
    return root


def flat_matrix(
    root: Path, runs: int = 2, steps: tuple[int, ...] = (0, 20), dataset: str | None = None
) -> Path:
    """A matrix of flat weights with its tables, as the Small CNN Zoo."""
    root.mkdir(parents=True)
    generator = np.random.default_rng(0)
    names, begin, layout = [], 0, []
    for name, shape in KERAS:
        for leaf, size in (("bias:0", shape[-1:]), ("kernel:0", shape)):
            end = begin + int(np.prod(size))
            layout.append((f"sequential/{name}/{leaf}", begin, end, str(tuple(size))))
            begin = end
    rows = [
        {"config.activation": "relu", "config.optimizer": "rmsprop", "config.dropout": 0.25,
         "config.learning_rate": 0.01, "config.l2reg": 0.001, "config.w_init": "he_normal",
         "config.random_seed": 42, "modeldir": f"/zoo/{run}", "step": step,
         "test_accuracy": 0.5, "train_loss": 1.5,
         **({} if dataset is None else {"config.dataset": dataset})}
        for run in range(runs) for step in steps
    ]  # fmt: skip
    np.save(root / "weights.npy", generator.normal(size=(len(rows), begin)).astype(np.float32))
    with (root / "layout.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerows([("varname", "start_idx", "end_idx", "shape"), *layout])
    names = list(rows[0])
    with gzip.open(root / "metrics.csv.gz", "wt", newline="") as file:
        out = csv.DictWriter(file, names)
        out.writeheader()
        out.writerows(rows)
    return root


def member_file(path: Path, members: int = 2) -> Path:
    """One file with a state dict per member, by name."""
    torch.save({f"run {i}": state(i) for i in range(members)}, path)
    return path


def params() -> dict:
    """A config of the zoos' original code."""
    return config(1, "dense")


def haiku_runs(root: Path, last: int = 36, prefix: str = "cnn/") -> Path:
    """Two runs of model-zoo-jax with one step; `last` are the inputs of the first linear layer."""
    shapes = {
        "conv2_d": (5, 5, 1, 8), "conv2_d_1": (5, 5, 8, 6), "conv2_d_2": (2, 2, 6, 4),
        "linear": (last, 20), "linear_1": (20, 9),
    }  # fmt: skip
    for i in range(2):
        generator = np.random.default_rng(i)
        run = root / f"seed_42_iter_{i}"
        step = run / "100"
        step.mkdir(parents=True)
        about = {"seed": ["1", "2"], "activation": "silu", "init": "TN", "lr": 0.1, "dropout": 0.2}
        (run / "config.json").write_text(json.dumps({**about, "class_dropped": i}))
        (step / "metrics.json").write_text(json.dumps({"test/acc": 0.5, "train/loss": 1.0}))
        tree = {f"{prefix}{name}": {"w": 0, "b": 0} for name in shapes}
        (step / "tree.pkl").write_bytes(pickle.dumps(tree, protocol=4))
        with (step / "arrays.npy").open("wb") as file:
            for shape in (shapes[name] for name in sorted(shapes)):
                for size in (shape[-1:], shape):
                    np.save(file, generator.normal(size=size).astype(np.float32))
    return root


def siren_state(seed: int, inputs: int = 2, width: int = 8) -> dict[str, torch.Tensor]:
    """A SIREN of one hidden layer under the names of DWSNets."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "seq.0.weight": (width, inputs), "seq.0.bias": (width,),
        "seq.1.weight": (1, width), "seq.1.bias": (1,),
    }  # fmt: skip
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def inrs(root: Path) -> Path:
    """SIRENs with labels in the files, and splits by the paths of another machine."""
    splits: dict[str, list[str]] = {"train": [], "test": []}
    for i, split in enumerate(("train", "train", "test")):
        (root / split).mkdir(parents=True, exist_ok=True)
        torch.save({**siren_state(i), "label": i + 3}, root / split / f"model_{i}.pth")
        splits[split].append(f"/home/user/{split}/model_{i}.pth")
    (root / "splits.json").write_text(json.dumps(splits))
    return root


def described_config(residual: tuple[int, ...] = (-1, 0), activations=("relu", "none")) -> dict:
    """The config of a network of CNN Wild Park with two convolutions."""
    return {
        "n_layers": 2, "n_classes": 10, "channels": [3, 4, 6], "kernel_size": [3, 5],
        "stride": [1, 1], "padding": [1, 2], "residual": list(residual),
        "activation": list(activations),
    }  # fmt: skip


def described_state(seed: int) -> dict[str, torch.Tensor]:
    """Weights of the networks of `described_config`."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"layers.0": (4, 3, 3, 3), "layers.1": (6, 4, 5, 5), "fc": (10, 6)}
    return {
        f"{name}.{leaf}": torch.randn(size, generator=generator)
        for name, shape in shapes.items()
        for leaf, size in (("weight", shape), ("bias", shape[:1]))
    }


def wild_park(root: Path, name: str = "trial", first: int = 0, configs=None) -> Path:
    """Members with a config and metrics in each file; folders count checkpoints from `first`."""
    configs = configs or [described_config(), described_config(residual=(-1, -1))]
    for i, described in enumerate(configs):
        for k in range(2):
            folder = root / "park" / f"{name}_{i}" / f"checkpoint_{first + k:06d}"
            folder.mkdir(parents=True)
            metrics = {"test/acc": 0.4 + 0.1 * k, "training_iteration": 10 * k}
            content = {
                "model": described_state(2 * i + k),
                "config": described,
                "iteration": 10 * k,
            }
            torch.save({**content, "last_result": metrics}, folder / "checkpoint.pt")
    return root
