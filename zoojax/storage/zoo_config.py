"""Configuration of a zoo: `ZooConfig` and the schema of zoo.json."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import msgspec
import polars as pl

from zoojax.architectures.base import Architecture
from zoojax.architectures.definitions import Definition, definition, difference
from zoojax.architectures.registry import architecture, is_own
from zoojax.datasets.specs import DataSpec
from zoojax.errors import UnregisteredError, ZoojaxError
from zoojax.json_fields import (
    ArchitectureName,
    Classes,
    Count,
    FilePath,
    MemberId,
    Name,
    Note,
    Positive,
    Sha256,
    check_names,
)
from zoojax.sparsifiers.base import Sparsifier
from zoojax.sparsifiers.dense import Dense
from zoojax.sparsifiers.registry import sparsifier_from_json, sparsifier_to_json
from zoojax.storage import schema1
from zoojax.text import is_printable, printable

SCHEMA = 2
FORMAT = "zoojax"

_Order = Annotated[str, msgspec.Meta(pattern="^(member|shared)\\Z")]
# Fields that zoo.json may omit, and omits when they are None, so that fingerprints of older zoos,
# which twins refer to, stay valid.
_OPTIONAL_FIELDS = {"origin", "steps_per_epoch", "earlier", "definition"}


@dataclass(frozen=True)
class Parent:
    """The dense zoo that a twin is derived from.

    Attributes:
        path: Folder of the parent, relative to the twin's folder if possible.
        name: Name of the parent.
        fingerprint: `Zoo.fingerprint` of the parent.
        epoch: Epoch of the parent whose states the twin starts from.
    """

    path: FilePath
    name: Name
    fingerprint: Sha256
    epoch: Count


@dataclass(frozen=True)
class Earlier:
    """Identity of a zoo before it was extended; its twins may still refer to it.

    Attributes:
        fingerprint: `Zoo.fingerprint` that the zoo had.
        ids: (id then, id now) of each member that it had; None if the ids are the same.
    """

    fingerprint: Sha256
    ids: tuple[tuple[MemberId, MemberId], ...] | None = None


@dataclass(frozen=True)
class ZooConfig:
    """Settings that all members of a zoo share.

    Attributes:
        name: Name of the zoo.
        architecture: Name of a registered architecture, such as "small".
        channels: Channels of the input images.
        classes: Number of classes.
        data: The image set; None if the zoo stores its images itself, or was converted
            without images.
        data_hash: SHA-256 of the images and labels after splitting and transforming; None
            for a zoo without images.
        epochs: Number of epochs to train.
        batch_size: Images per training step.
        data_order: "member" (each member shuffles with its own seed) or "shared".
        chunk: Members that one device trains at once.
        preset: Name of the preset, if any.
        sparsifier: How the zoo is trained: its options that all members share; `Dense` for a
            dense zoo.
        parent: The dense zoo that a twin is derived from; None if it is unknown.
        versions: Versions of the libraries that the zoo was created with.
        origin: Description of any other source of the initial members, such as a
            hyper-representation; None if there is none.
        steps_per_epoch: Steps per epoch of members that learn one image each, with all pixels in
            each step; None for members that classify.
        earlier: Identities before each extension, oldest first; None if it was not extended.
        definition: What the network computes, if zoojax does not define it; see
            `zoojax.architectures.definitions`. None otherwise, and for older zoos.
    """

    name: Name
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
    sparsifier: Sparsifier = field(default_factory=Dense)
    parent: Parent | None = None
    versions: dict[Name, Name] = field(default_factory=dict)
    origin: Note | None = None
    steps_per_epoch: Positive | None = None
    earlier: tuple[Earlier, ...] | None = None
    definition: Definition | None = None

    @property
    def shape(self) -> Architecture:
        """Architecture of the members.

        Raises:
            UnregisteredError: If it is not registered, or another one is under its name.
        """
        arch = architecture(self.architecture, self.channels, self.classes)
        differs = None if self.definition is None else difference(arch, self.definition)
        if differs is not None:
            raise UnregisteredError(
                f"architecture {printable(self.architecture, 200)} is registered with another "
                f"network than that of zoo {printable(self.name, 60)}: {differs}; register that of "
                "the zoo, and this one under another name"
            )
        return arch

    def defined(self) -> "ZooConfig":
        """Returns the config of a new zoo, with the definition of its network."""
        if is_own(self.architecture):
            return self
        return replace(self, definition=definition(self.shape))

    @property
    def is_dense(self) -> bool:
        """Whether the zoo is dense: not a twin."""
        return isinstance(self.sparsifier, Dense)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of zoo.json."""
        content = {
            "format": FORMAT,
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in _field_names(ZooConfig)},
            "sparsifier": sparsifier_to_json(self.sparsifier),
            "parent": None if self.parent is None else asdict(self.parent),
            "data": None if self.data is None else asdict(self.data),
            "earlier": None if self.earlier is None else [asdict(each) for each in self.earlier],
            "definition": None if self.definition is None else _given(asdict(self.definition)),
        }
        return {k: v for k, v in content.items() if k not in _OPTIONAL_FIELDS or v is not None}

    @staticmethod
    def from_json(content: dict[str, Any]) -> "ZooConfig":
        """Parses the content of zoo.json, of this schema or an older one.

        Args:
            content: The parsed JSON.

        Returns:
            The config.

        Raises:
            ValueError: If a field is missing, unknown, of the wrong type, out of range, or
                inconsistent with another field.
            ZoojaxError: If a field of the image set is out of range, or no sparsifier of that
                name is registered.
        """
        if content.get("schema") == 1:
            content = schema1.upgrade(content)
        fields = {k: v for k, v in content.items() if k not in ("format", "schema")}
        check_names(fields, set(_field_names(ZooConfig)), _OPTIONAL_FIELDS, "the zoo")
        for part, kind in (("parent", Parent), ("data", DataSpec)):
            if fields[part] is not None:
                check_names(fields[part], set(_field_names(kind)), set(), part)
        if fields.get("definition") is not None:
            names = set(_field_names(Definition))
            check_names(fields["definition"], names, names, "definition")
        sparsifier = sparsifier_from_json(fields.pop("sparsifier"))
        config = replace(msgspec.convert(fields, ZooConfig), sparsifier=sparsifier)
        for problem in _problems(config):
            raise ValueError(problem)
        return config


def config_of(content: Any, file: str) -> ZooConfig:
    """Returns the config in the content of zoo.json, which is validated.

    Args:
        content: The parsed JSON.
        file: The file, for messages.

    Raises:
        ZoojaxError: If it is damaged, is not the config of a zoo, or has a newer schema.
    """
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(content, dict) or content.get("format") != FORMAT or type(schema) is not int:
        raise ZoojaxError(f"{file} is damaged or is not the config of a zoo")
    if not 1 <= schema <= SCHEMA:
        raise ZoojaxError(
            f"{file} has schema {schema}, but this version of zoojax reads 1 to {SCHEMA}; "
            "upgrade with: pip install -U zoojax"
        )
    try:
        return ZooConfig.from_json(content)
    except UnregisteredError as error:
        raise UnregisteredError(f"{file}: {error}") from error
    except (ValueError, ZoojaxError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error


def fingerprint(config: ZooConfig, members: pl.DataFrame) -> str:
    """Identifies a zoo by everything that determines its members.

    Args:
        config: Config of the zoo.
        members: Members table.

    Returns:
        SHA-256 over the config and the members table, in hexadecimal.
    """
    content = config.to_json()
    known_to_schema1 = schema1.fields_of(config.sparsifier)
    if known_to_schema1 is not None:
        del content["sparsifier"]
        content |= known_to_schema1
    # Images are identified by their hash (data_hash), not by their location (data).
    # Definitions are measured logits, whose last digits depend on the machine.
    for irrelevant in ("versions", "chunk", "name", "data", "earlier", "definition"):
        content.pop(irrelevant, None)
    if content["parent"] is not None:
        content["parent"] = content["parent"]["fingerprint"]
    # The text of json.dumps([content, members.to_dicts()], sort_keys=True), row by row: there may
    # be hundreds of thousands.
    digest = hashlib.sha256(f"[{json.dumps(content, sort_keys=True)}, [".encode())
    for index, row in enumerate(members.iter_rows(named=True)):
        digest.update(f"{', ' if index else ''}{json.dumps(row, sort_keys=True)}".encode())
    digest.update(b"]]")
    return digest.hexdigest()


def _field_names(kind: type) -> list[str]:
    return list(kind.__dataclass_fields__)


def _given(content: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if value is not None}


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from (key, *_strings(value))


def _problems(config: ZooConfig) -> Iterator[str]:
    """Describes inconsistencies in a config whose fields have valid types."""
    for text in _strings(config.to_json()):
        if not is_printable(text):
            yield f"{printable(text, 60)} contains characters that cannot be printed"
    if config.channels not in (1, 3):
        yield f"images with {config.channels} channels; 1 and 3 are supported"
    if config.is_dense and config.parent is not None:
        yield "a dense zoo cannot have a parent"
    if config.definition is not None and len(_given(asdict(config.definition))) != 1:
        yield "its definition has not one of layers and logits"
    # Raises if the architecture is unknown or too large.
    net = config.shape
    if net.task.has_own_images != (config.steps_per_epoch is not None):
        verb = "needs" if net.task.has_own_images else "has no"
        yield f"the {net.label} {verb} steps_per_epoch"
    if config.data is not None:
        spec = config.data
        if not net.fits(spec.size, spec.channels):
            size = f"{spec.size} pixels and {spec.channels} channels"
            yield f"images of {size} do not fit the {net.label}"
        if config.data_hash is None:
            yield "the hash of its images (data_hash) is missing"
