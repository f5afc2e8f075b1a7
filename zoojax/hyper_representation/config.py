"""The provenance of a hyper-representation: the schema of representation.json."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zoojax.architectures.base import Architecture
from zoojax.architectures.layers import ACTIVATIONS
from zoojax.architectures.registry import architecture
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.settings import Settings
from zoojax.hyper_representation.tokens import Tokenizer
from zoojax.hyper_representation.training_zoos import Split
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

SCHEMA = 4
FORMAT = "zoojax-representation"

# Bounds within which float32 can represent a value and its square.
_MAX_VALUE, _MIN_STD = 1e15, 1e-15
_HEADER = {"format", "schema"}


@dataclass(frozen=True)
class TrainingZoo:
    """The part of a zoo that a hyper-representation is trained on.

    Attributes:
        name: Name of the zoo.
        path: Path of the zoo, relative to the folder of the hyper-representation; "unknown" for
            a zoo in memory.
        fingerprint: Fingerprint of the zoo.
        members: Member ids in each split.
        left_out: Number of members excluded from all splits because they have NaN.
        epochs: Epochs of the zoo whose states are the samples.
    """

    name: Name
    path: FilePath
    fingerprint: Sha256
    members: Split
    left_out: MemberId
    epochs: list[Count]

    @property
    def all_members(self) -> list[int]:
        """Member ids of all splits: training, then validation, then test."""
        return [member for part in self.members for member in part]


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
        zoos: The training zoos. Members with the same dense parent are in the same split.
        architecture: Name of the members' architecture.
        channels: Channels of the members' input images.
        classes: Number of classes.
        activation: Activation of all members if the settings use their behavior; None otherwise.
        alphas_of: Epoch whose log alphas are the targets of every sample; None for the log
            alphas of the sample's own epoch.
        mean: Mean of each layer's parameters over the training samples.
        deviation: Standard deviation of each layer's parameters over the training samples.
        variational: Names of the leaves that have a log alpha, by layer; empty if only weights
            are reconstructed.
        slices: Dimensions of z per token, by group of tokens; 0 for tokens without their own.
        versions: Versions of the libraries at the start of training.
    """

    settings: Settings
    zoos: list[TrainingZoo]
    architecture: ArchitectureName
    channels: int
    classes: Classes
    activation: str | None
    alphas_of: Count | None
    mean: dict[str, float]
    deviation: dict[str, float]
    variational: dict[str, list[str]]
    slices: dict[str, Count]
    versions: dict[Name, Name] = field(default_factory=dict)

    @property
    def shape(self) -> Architecture:
        """The members' architecture."""
        return architecture(self.architecture, self.channels, self.classes)

    @property
    def labels(self) -> list[str]:
        """Distinct names of the zoos: their names, with a number if two are equal."""
        names = [zoo.name for zoo in self.zoos]
        return [
            name if names.count(name) == 1 else f"{name} ({position + 1})"
            for position, name in enumerate(names)
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns the content of representation.json."""
        zoos = [asdict(zoo) | {"members": zoo.members._asdict()} for zoo in self.zoos]
        return {"format": FORMAT, "schema": SCHEMA, **asdict(self), "zoos": zoos}

    def identity(self) -> dict[str, Any]:
        """Returns `to_json` without what may differ between equal trainings.

        These are versions of libraries, names and folders of zoos, and slices, which follow from
        the rest except for rounding errors.
        """
        content = self.to_json()
        del content["versions"], content["slices"]
        for zoo in content["zoos"]:
            del zoo["path"], zoo["name"]
        return content

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
        ):
            check_names(inner, set(kind.__dataclass_fields__), set(), where)
        fields["zoos"] = [_zoo_fields(each) for each in msgspec.convert(fields["zoos"], list)]
        config = msgspec.convert(fields, RepresentationConfig)
        config.settings.validate()
        for error in _errors(config):
            raise ValueError(error)
        return config


def _zoo_fields(content: Any) -> dict[str, Any]:
    """Returns the fields of a training zoo; msgspec converts named tuples from arrays only."""
    check_names(content, set(TrainingZoo.__dataclass_fields__), set(), "zoos")
    check_names(content["members"], set(_SplitJson.__dataclass_fields__), set(), "members")
    parts = msgspec.convert(content["members"], _SplitJson)
    return {**content, "members": [parts.train, parts.val, parts.test]}


def _zoo_errors(zoo: TrainingZoo) -> Iterator[str]:
    """Yields the inconsistencies of a training zoo."""
    if Path(zoo.path).is_absolute():
        yield f"zoo path {printable(zoo.path, 100)} is not relative"
    if not all(zoo.members) or len(zoo.members.train) < 2:
        yield "members: a split has too few members"
    if len(set(zoo.all_members)) < len(zoo.all_members):
        yield "members: duplicate ids"
    if not zoo.epochs or len(set(zoo.epochs)) < len(zoo.epochs):
        yield "epochs: none, or duplicates"


def _errors(config: RepresentationConfig) -> Iterator[str]:
    """Yields the inconsistencies of a config whose fields have the right types."""
    texts = [text for zoo in config.zoos for text in (zoo.name, zoo.path)]
    texts = [*texts, *config.versions, *config.versions.values()]
    for text in texts:
        if not is_printable(text):
            yield f"{printable(text, 60)} contains unprintable characters"
    if not config.zoos or len({zoo.fingerprint for zoo in config.zoos}) < len(config.zoos):
        yield "zoos: none, or duplicates"
    for zoo in config.zoos:
        yield from _zoo_errors(zoo)
    if config.channels not in (1, 3):
        yield f"channels is {config.channels}, not 1 or 3"
    if config.settings.task == "sparsify" and config.alphas_of is None:
        yield "the task sparsify requires alphas_of"
    known = (None,) if not config.settings.uses_behavior else tuple(ACTIVATIONS)
    if config.activation not in known:
        yield f"activation {printable(config.activation, 40)} is unknown, or is not used"
    shapes = config.shape.parameter_shapes()
    for name, values in (("mean", config.mean), ("deviation", config.deviation)):
        if set(values) != set(shapes):
            yield f"{name} must have one value for each of the layers {', '.join(shapes)}"
        if not all(math.isfinite(x) and abs(x) <= _MAX_VALUE for x in values.values()):
            yield f"{name} contains values that are not finite or too large"
    if not all(x >= _MIN_STD for x in config.deviation.values()):
        yield "deviation contains values that are not positive"
    variational = config.variational
    # Layers without a kernel, such as normalizations, have no log alphas.
    weighted = {layer: leaves for layer, leaves in shapes.items() if "kernel" in leaves}
    if variational and set(variational) != set(weighted):
        yield f"variational must name parameters of each of the layers {', '.join(weighted)}"
    for layer, leaves in weighted.items():
        names = variational.get(layer, ["kernel"])
        if "kernel" not in names or not set(names) <= set(leaves) or len(set(names)) < len(names):
            yield (
                f"variational: {layer} must list its kernel, and only parameters of the layer "
                f"({', '.join(leaves)}), each once"
            )
    if config.settings.task == "sparsify" and not config.variational:
        yield "the task sparsify requires log alphas"
    yield from _slice_errors(config)


def _slice_errors(config: RepresentationConfig) -> Iterator[str]:
    """Yields the inconsistencies of the dimensions of z per token."""
    s = config.settings
    groups = {g.name: g for g in Tokenizer(config.shape, s.tokens, s.chunk_length).groups}
    if set(config.slices) != set(groups):
        yield f"slices must have one number for each of {', '.join(groups)}"
    elif any(size > groups[name].width for name, size in config.slices.items()):
        yield "slices: a token has more dimensions than values"
    elif sum(groups[name].count * size for name, size in config.slices.items()) > s.local_latent:
        yield f"slices: more than {s.local_latent} dimensions in all"


def check_config(config: RepresentationConfig) -> None:
    """Checks that a config can be read back after it is written.

    Raises:
        ZoojaxError: If it cannot.
    """
    try:
        RepresentationConfig.from_json(msgspec.to_builtins(config.to_json()))
    except ValueError as error:
        raise ZoojaxError(f"cannot create the hyper-representation: {error}") from error
