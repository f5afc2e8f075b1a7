"""What a zoo's members have in common: `ZooConfig`, and the schema of zoo.json."""

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import msgspec
import polars as pl

from zoojax.architectures.base import Architecture, architecture
from zoojax.datasets.specs import DataSpec
from zoojax.json_fields import (
    ArchitectureName,
    Classes,
    Count,
    FilePath,
    Name,
    Note,
    Positive,
    Sha256,
    check_names,
)
from zoojax.text import is_printable, printable

SCHEMA = 1
FORMAT = "zoojax"

_Kind = Annotated[str, msgspec.Meta(pattern="^(dense|mp|vd)\\Z")]
_Order = Annotated[str, msgspec.Meta(pattern="^(member|shared)\\Z")]
_Scope = Annotated[str, msgspec.Meta(pattern="^(global|layer)\\Z")]
_Variant = Annotated[str, msgspec.Meta(pattern="^(released|corrected)\\Z")]
# Zoos of schema 1 without one do not name it.
_OPTIONAL = {"origin"}


@dataclass(frozen=True)
class Parent:
    """The dense zoo that a twin was made from.

    Attributes:
        path: where it was, relative to the twin's folder where that is possible.
        name: its name.
        fingerprint: `ZooConfig.fingerprint` of it.
        epoch: the epoch whose states the twin began with.
    """

    path: FilePath
    name: Name
    fingerprint: Sha256
    epoch: Count


@dataclass(frozen=True)
class ZooConfig:
    """All that a zoo's members have in common.

    Attributes:
        name: the zoo's name.
        kind: "dense", "mp" (magnitude pruning) or "vd" (variational dropout).
        architecture: "small" or "large".
        channels: channels of its input images.
        classes: number of classes.
        data: the image set; None if the zoo keeps its images itself, or none are known.
        data_hash: SHA-256 of the images and labels after split and transform; None if
            none are known.
        epochs: epochs to train.
        batch_size: images per step.
        data_order: "member" or "shared".
        chunk: members that a device trains at once.
        preset: the preset it was made from, if any.
        scope: of pruning, "global" or "layer" (kind mp).
        variant: of variational dropout, "released" or "corrected" (kind vd).
        parent: the dense zoo (kinds mp and vd); None if it is not known.
        versions: of the libraries that it was begun with.
        origin: what else decided the members it began with, such as a
            hyper-representation; None if nothing did.
    """

    name: Name
    kind: _Kind
    architecture: ArchitectureName
    channels: Positive
    classes: Classes
    data: DataSpec | None
    data_hash: Sha256 | None
    epochs: Count
    batch_size: Positive
    data_order: _Order
    chunk: Positive
    preset: Name | None = None
    scope: _Scope | None = None
    variant: _Variant | None = None
    parent: Parent | None = None
    versions: dict[Name, Name] = field(default_factory=dict)
    origin: Note | None = None

    @property
    def shape(self) -> Architecture:
        """The architecture of its members."""
        return architecture(self.architecture, self.channels, self.classes)

    def to_json(self) -> dict[str, Any]:
        """As zoo.json holds it."""
        content = {"format": FORMAT, "schema": SCHEMA, **asdict(self)}
        # So that zoos without one keep the fingerprint that their twins know them by.
        if self.origin is None:
            del content["origin"]
        return content

    @staticmethod
    def from_json(content: dict[str, Any]) -> "ZooConfig":
        """The inverse of `to_json`.

        Raises:
            ValueError: a field is missing, unknown, of another type or out of its range, or
                contradicts another.
            ZoojaxError: the image set's numbers are those of no image set.
        """
        fields = {k: v for k, v in content.items() if k not in ("format", "schema")}
        check_names(fields, _names(ZooConfig), _OPTIONAL, "the zoo")
        for part, kind in (("parent", Parent), ("data", DataSpec)):
            if fields[part] is not None:
                check_names(fields[part], _names(kind), set(), part)
        config = msgspec.convert(fields, ZooConfig)
        for problem in _problems(config):
            raise ValueError(problem)
        return config


def fingerprint(config: ZooConfig, members: pl.DataFrame) -> str:
    """Identifies a zoo by what decides its members: SHA-256 over config and members table."""
    content = config.to_json()
    # The images are known by their hash, wherever they are.
    for circumstance in ("versions", "chunk", "name", "data"):
        del content[circumstance]
    if content["parent"] is not None:
        content["parent"] = content["parent"]["fingerprint"]
    text = json.dumps([content, members.to_dicts()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _names(kind: type) -> set[str]:
    return set(kind.__dataclass_fields__)


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from (key, *_strings(value))


def _problems(config: ZooConfig) -> Iterator[str]:
    """What is wrong with a config whose fields have the right types."""
    for text in _strings(asdict(config)):
        if not is_printable(text):
            yield f"{printable(text, 60)} holds characters that cannot be shown"
    if config.channels not in (1, 3):
        yield f"images with {config.channels} channels"
    if (config.scope is not None) != (config.kind == "mp"):
        yield f"scope {config.scope} with kind {config.kind}"
    if (config.variant is not None) != (config.kind == "vd"):
        yield f"variant {config.variant} with kind {config.kind}"
    if config.kind == "dense" and config.parent is not None:
        yield "a dense zoo with a parent"
    if config.data is not None:
        spec, net = config.data, config.shape
        if (spec.size, spec.channels) != (net.size, net.channels):
            shape = f"{spec.size} pixels and {spec.channels} channels"
            yield f"images of {shape} for the {net.name} CNN"
        if config.data_hash is None:
            yield "an image set without data_hash"
        if not (math.isfinite(spec.mean) and math.isfinite(spec.std)):
            yield "images normalised by numbers that are not finite"
