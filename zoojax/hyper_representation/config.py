"""The provenance of a hyper-representation: the schema of representation.json."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zoojax.architectures.base import Architecture
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.dataset import Split
from zoojax.hyper_representation.settings import Settings
from zoojax.json_fields import (
    ArchitectureName,
    Classes,
    Count,
    FilePath,
    MemberId,
    Name,
    Sha256,
    check_names,
)
from zoojax.text import is_printable, printable

SCHEMA = 2
FORMAT = "zoojax-representation"

# Bounds within which float32 can represent a value and its square.
_MAX_VALUE, _MIN_STD = 1e15, 1e-15
_HEADER = {"format", "schema"}


@dataclass(frozen=True)
class _SplitJson:
    """`Split` as a JSON object."""

    train: list[MemberId]
    val: list[MemberId]
    test: list[MemberId]


@dataclass(frozen=True)
class RepresentationConfig:
    """The settings and training data of a hyper-representation.

    Attributes:
        settings: Settings of the autoencoder and its training.
        zoo: Path of the training zoo, relative to the folder of the hyper-representation.
        fingerprint: Fingerprint of the training zoo.
        architecture: Name of the members' architecture.
        channels: Channels of the members' input images.
        classes: Number of classes.
        members: Member ids in each split.
        left_out: Number of members excluded from all splits because they have NaN.
        epochs: Epochs of the zoo whose states are the samples.
        alphas_of: Epoch whose log alphas are the targets of every sample; None for the log
            alphas of the sample's own epoch.
        mean: Mean of each layer's parameters over the training samples.
        deviation: Standard deviation of each layer's parameters over the training samples.
        variational: Names of the leaves that have a log alpha, by layer; empty if only weights
            are reconstructed.
        versions: Versions of the libraries at the start of training.
    """

    settings: Settings
    zoo: FilePath
    fingerprint: Sha256
    architecture: ArchitectureName
    channels: int
    classes: Classes
    members: Split
    left_out: MemberId
    epochs: list[Count]
    alphas_of: Count | None
    mean: dict[str, float]
    deviation: dict[str, float]
    variational: dict[str, list[str]]
    versions: dict[Name, Name] = field(default_factory=dict)

    @property
    def shape(self) -> Architecture:
        """The members' architecture."""
        return architecture(self.architecture, self.channels, self.classes)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of representation.json."""
        content = {"format": FORMAT, "schema": SCHEMA, **asdict(self)}
        return content | {"members": self.members._asdict()}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "RepresentationConfig":
        """Inverts `to_json`.

        Raises:
            ValueError: If a field is missing, unknown, of the wrong type, out of range, or
                inconsistent with another field.
            ZoojaxError: If a setting is out of range.
        """
        fields = {k: v for k, v in content.items() if k not in _HEADER}
        for inner, kind, where in (
            (fields, RepresentationConfig, "the hyper-representation"),
            (fields.get("settings"), Settings, "settings"),
            (fields.get("members"), _SplitJson, "members"),
        ):
            check_names(inner, set(kind.__dataclass_fields__), set(), where)
        parts = msgspec.convert(fields["members"], _SplitJson)
        # msgspec converts named tuples from arrays only.
        fields["members"] = [parts.train, parts.val, parts.test]
        config = msgspec.convert(fields, RepresentationConfig)
        config.settings.validate()
        for error in _errors(config):
            raise ValueError(error)
        return config


def _errors(config: RepresentationConfig) -> Iterator[str]:
    """Yields the inconsistencies of a config whose fields have the right types."""
    texts = [config.zoo, *config.versions, *config.versions.values()]
    for text in texts:
        if not is_printable(text):
            yield f"{printable(text, 60)} contains unprintable characters"
    if Path(config.zoo).is_absolute():
        yield f"zoo path {printable(config.zoo, 100)} is not relative"
    if config.channels not in (1, 3):
        yield f"channels is {config.channels}, not 1 or 3"
    members = [member for part in config.members for member in part]
    if not all(config.members) or len(config.members.train) < 2:
        yield "members: a split has too few members"
    if len(set(members)) < len(members):
        yield "members: duplicate ids"
    if not config.epochs or len(set(config.epochs)) < len(config.epochs):
        yield "epochs: none, or duplicates"
    if config.settings.task == "sparsify" and config.alphas_of is None:
        yield "the task sparsify requires alphas_of"
    shapes = config.shape.parameter_shapes()
    for name, values in (("mean", config.mean), ("deviation", config.deviation)):
        if set(values) != set(shapes):
            yield f"{name} must have one value for each of the layers {', '.join(shapes)}"
        if not all(math.isfinite(x) and abs(x) <= _MAX_VALUE for x in values.values()):
            yield f"{name} contains values that are not finite or too large"
    if not all(x >= _MIN_STD for x in config.deviation.values()):
        yield "deviation contains values that are not positive"
    variational = config.variational
    if variational and set(variational) != set(shapes):
        yield f"variational must name parameters of each of the layers {', '.join(shapes)}"
    for layer, leaves in shapes.items():
        names = variational.get(layer, ["kernel"])
        if "kernel" not in names or not set(names) <= set(leaves) or len(set(names)) < len(names):
            yield (
                f"variational: {layer} must list its kernel, and only parameters of the layer "
                f"({', '.join(leaves)}), each once"
            )
    if config.settings.task == "sparsify" and not config.variational:
        yield "the task sparsify requires log alphas"


def check_config(config: RepresentationConfig) -> None:
    """Checks that a config can be read back after it is written.

    Raises:
        ZoojaxError: If it cannot.
    """
    try:
        RepresentationConfig.from_json(msgspec.to_builtins(config.to_json()))
    except ValueError as error:
        raise ZoojaxError(f"cannot create the hyper-representation: {error}") from error
