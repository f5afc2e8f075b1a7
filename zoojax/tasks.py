"""Tasks: what the members of a zoo learn, with the loss and the metrics that are measured.

An architecture has a task (`Architecture.task`). Storage, analysis, figures and the report
derive the columns of metrics tables and their units from it; `zoojax.training.task_programs` has
the programs.
"""

import math
from dataclasses import dataclass

PERCENT, DECIBEL, NO_UNIT = "%", "dB", ""


@dataclass(frozen=True)
class Metric:
    """A column of the metrics table.

    Attributes:
        name: Name of the column.
        label: Name in figures and texts, such as "test accuracy".
        range: Lowest and highest value.
        unit: PERCENT (the values are fractions), DECIBEL or NO_UNIT.
    """

    name: str
    label: str
    range: tuple[float, float] = (-math.inf, math.inf)
    unit: str = NO_UNIT

    @property
    def scale(self) -> int:
        """Factor from the stored value to the shown value."""
        return 100 if self.unit == PERCENT else 1

    @property
    def axis(self) -> str:
        """Label of an axis, with the unit if there is one."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True)
class Task:
    """What the members of a zoo learn.

    Attributes:
        name: Name in texts.
        loss: A name of `zoojax.ops.kernel.lowering.LOSSES`.
        metrics: Columns of the metrics table besides sparsities, in order.
        score: Name of the metric by which members are compared.
        summarized: Names of the metrics in summaries.
        has_own_images: Whether each member learns one image of its own, which is identified by the
            columns IMAGE_COLUMNS of the members table; otherwise all members classify the same
            images.
    """

    name: str
    loss: str
    metrics: tuple[Metric, ...]
    score: str
    summarized: tuple[str, ...]
    has_own_images: bool = False

    def metric(self, name: str) -> Metric:
        """Returns the metric, or sparsity, in a column of the metrics table."""
        return next(each for each in (*self.metrics, SPARSITY) if each.name == name)


# Columns of the members table of zoos whose members have an image of their own: the part of the
# image set ("train", "val" or "test"), the position in it, and the class of the image.
IMAGE_COLUMNS = ("split", "image", "label")
SPARSITY = Metric("sparsity", "sparsity", (0, 1), PERCENT)
_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def _of_split(split: str, label: str) -> tuple[Metric, Metric]:
    accuracy = Metric(f"{split}_acc", f"{label} accuracy", (0, 1), PERCENT)
    return Metric(f"{split}_loss", f"{label} loss"), accuracy


CLASSIFICATION = Task(
    "classification",
    "cross_entropy",
    (
        *(metric for split, label in _SPLITS.items() for metric in _of_split(split, label)),
        Metric("ggap", "generalization gap", (-1, 1), PERCENT),
    ),
    "test_acc",
    ("train_acc", "val_acc", "test_acc", "ggap"),
)
# Members are functions from coordinates to the values of one image. PSNR is in dB, for pixels in
# [0, 1]; both metrics are measured after the epoch, without noise.
OWN_IMAGE = Task(
    "regression of an image",
    "squared_error",
    (Metric("loss", "mean squared error"), Metric("psnr", "PSNR", unit=DECIBEL)),
    "psnr",
    ("psnr",),
    has_own_images=True,
)
