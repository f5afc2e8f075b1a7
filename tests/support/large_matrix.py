"""Writes a matrix of flat weights of the Small CNN Zoo's size, or smaller, in little memory.

python -m tests.support.large_matrix FOLDER [--runs 30000] [--steps 9]
"""

import argparse
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

STEPS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
_LAYERS = (
    ("conv2d", (3, 3, 1, 16)),
    ("conv2d_1", (3, 3, 16, 16)),
    ("conv2d_2", (3, 3, 16, 16)),
    ("dense", (16, 10)),
)
_BLOCK = 4096


def layout() -> list[tuple[str, int, int, str]]:
    """The lines of layout.csv: by layer the bias, then the kernel."""
    lines, begin = [], 0
    for name, shape in _LAYERS:
        for leaf, size in (("bias:0", shape[-1:]), ("kernel:0", shape)):
            end = begin + int(np.prod(size))
            lines.append((f"sequential/{name}/{leaf}", begin, end, str(tuple(size))))
            begin = end
    return lines


def write_matrix(
    folder: Path, runs: int, steps: tuple[int, ...] = STEPS, nan_rows: tuple[int, ...] = ()
) -> Path:
    """Writes weights.npy, layout.csv and metrics.csv.gz.

    Args:
        folder: A new folder.
        runs: Number of runs.
        steps: Epochs of each run.
        nan_rows: Rows with a NaN.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    lines = layout()
    columns, rows = lines[-1][2], runs * len(steps)
    with (folder / "layout.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("varname", "start_idx", "end_idx", "shape"), *lines])
    with (folder / "weights.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, _BLOCK):
            values = _weights(start, min(_BLOCK, rows - start), columns)
            for row in nan_rows:
                if start <= row < start + len(values):
                    values[row - start, 7] = np.nan
            file.write(values.data)
    with gzip.open(folder / "metrics.csv.gz", "wt", compresslevel=1, newline="") as file:
        csv.writer(file).writerows(_table(runs, steps))
    return folder


def _weights(start: int, count: int, columns: int) -> np.ndarray:
    """Different values in every row."""
    generator = np.random.Generator(np.random.SFC64(start))
    return generator.random((count, columns), np.float32) - np.float32(0.5)


def _table(runs: int, steps: tuple[int, ...]) -> Iterator[tuple]:
    yield (
        "config.activation", "config.b_init", "config.dataset", "config.dnn_architecture",
        "config.dropout", "config.epochs", "config.epochs_between_checkpoints", "config.init_std",
        "config.l2reg", "config.learning_rate", "config.num_layers", "config.num_units",
        "config.optimizer", "config.random_seed", "config.train_fraction", "config.w_init",
        "modeldir", "step", "test_accuracy", "test_loss", "train_accuracy", "train_loss",
    )  # fmt: skip
    generator = np.random.default_rng(0)
    for run in range(runs):
        dropout, std, l2, rate = generator.random(4).tolist()
        config = (
            ("relu", "tanh")[run % 2], "zeros", "mnist", "cnn", dropout / 2, 86, 20, std,
            l2 / 100, rate / 10 + 1e-6, 3, 16, ("rmsprop", "sgd", "adam")[run % 3], 42,
            (0.1, 0.25, 0.5, 1.0)[run % 4], ("he_normal", "orthogonal", "glorot_normal")[run % 3],
            f"/zoo/mnist/{run + 1}",
        )  # fmt: skip
        for step, values in zip(steps, generator.random((len(steps), 4)).tolist(), strict=True):
            yield (*config, step, *values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=30_000)
    parser.add_argument("--steps", type=int, default=9, help="states of each run, from 1 to 9")
    options = parser.parse_args()
    write_matrix(options.folder, options.runs, STEPS[: options.steps])
