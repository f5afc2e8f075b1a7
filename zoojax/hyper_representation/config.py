"""What a hyper-representation was made from, and the schema of representation.json."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zoojax.architectures.base import Architecture, architecture
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

# What float32 holds, with room for squares.
_LARGEST, _SMALLEST = 1e15, 1e-15
_CIRCUMSTANCES = {"format", "schema"}


@dataclass(frozen=True)
class _Parts:
    """`Split`, as JSON holds it."""

    train: list[MemberId]
    val: list[MemberId]
    test: list[MemberId]


@dataclass(frozen=True)
class RepresentationConfig:
    """What a hyper-representation was made from.

    Attributes:
        settings: of the autoencoder and its training.
        zoo: where the zoo was, relative to this folder.
        fingerprint: of the zoo.
        architecture, channels, classes: of its members.
        members: ids, by part of the split.
        left_out: members with NaN, which are in no part.
        epochs: of the zoo, whose states are the samples.
        alphas_of: the epoch whose log alphas are learned; None for that of each sample.
        mean, deviation: of each layer's parameters, over the training samples.
        variational: leaves with a log alpha by layer; empty for weights alone.
        versions: of the libraries that it was begun with.
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
        """The architecture of its members."""
        return architecture(self.architecture, self.channels, self.classes)

    def to_json(self) -> dict[str, Any]:
        """As representation.json holds it."""
        content = {"format": FORMAT, "schema": SCHEMA, **asdict(self)}
        return content | {"members": self.members._asdict()}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "RepresentationConfig":
        """The inverse of `to_json`.

        Raises:
            ValueError: a field is missing, unknown, of another type or out of its range, or
                contradicts another.
            ZoojaxError: a setting is out of its range.
        """
        fields = {k: v for k, v in content.items() if k not in _CIRCUMSTANCES}
        for inner, kind, where in (
            (fields, RepresentationConfig, "the hyper-representation"),
            (fields.get("settings"), Settings, "settings"),
            (fields.get("members"), _Parts, "members"),
        ):
            check_names(inner, set(kind.__dataclass_fields__), set(), where)
        parts = msgspec.convert(fields["members"], _Parts)
        # A named tuple would be an array.
        fields["members"] = [parts.train, parts.val, parts.test]
        config = msgspec.convert(fields, RepresentationConfig)
        config.settings.validate()
        for problem in _problems(config):
            raise ValueError(problem)
        return config


def _problems(config: RepresentationConfig) -> Iterator[str]:
    """What is wrong with a config whose fields have the right types."""
    texts = [config.zoo, *config.versions, *config.versions.values()]
    for text in texts:
        if not is_printable(text):
            yield f"{printable(text, 60)} holds characters that cannot be shown"
    if Path(config.zoo).is_absolute():
        yield f"zoo {printable(config.zoo, 100)} is not relative to its folder"
    if config.channels not in (1, 3):
        yield f"images with {config.channels} channels"
    members = [member for part in config.members for member in part]
    if not all(config.members) or len(config.members.train) < 2:
        yield "members: a part of the split has too few"
    if len(set(members)) < len(members):
        yield "members: one is there twice"
    if not config.epochs or len(set(config.epochs)) < len(config.epochs):
        yield "epochs: there is none, or one is there twice"
    if config.settings.task == "sparsify" and config.alphas_of is None:
        yield "the task sparsify without alphas_of"
    layers = config.shape.layers
    for name, numbers in (("mean", config.mean), ("deviation", config.deviation)):
        if set(numbers) != set(layers):
            yield f"{name} is not of the layers {', '.join(layers)}"
        if not all(math.isfinite(x) and abs(x) <= _LARGEST for x in numbers.values()):
            yield f"{name} holds numbers that no layer has"
    if not all(x >= _SMALLEST for x in config.deviation.values()):
        yield "deviation holds numbers that are not positive"
    leaves = {layer: sorted(names) for layer, names in config.variational.items()}
    if leaves and leaves not in _variational(layers):
        yield "variational is not what variational dropout has log alphas of"
    if config.settings.task == "sparsify" and not config.variational:
        yield "the task sparsify without log alphas"


def _variational(layers: tuple[str, ...]) -> list[dict[str, list[str]]]:
    """Leaves with a log alpha, of both variants of variational dropout."""
    corrected = {layer: ["kernel"] for layer in layers}
    convs = {layer: ["bias", "kernel"] for layer in layers if layer.startswith("conv")}
    return [corrected, corrected | convs]


def check_config(config: RepresentationConfig) -> None:
    """Checks that what is to be written can be opened again.

    Raises:
        ZoojaxError: it cannot.
    """
    try:
        RepresentationConfig.from_json(msgspec.to_builtins(config.to_json()))
    except ValueError as error:
        raise ZoojaxError(f"the hyper-representation cannot be made: {error}") from error
