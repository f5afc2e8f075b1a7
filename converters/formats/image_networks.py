"""Folders of networks that learned one image each (INRs), such as SIRENs: one file per member.

The class and the number of the image are in the names of the published sets:

    mnist_png_training_2_23089/checkpoints/model_final.pth     DWSNets, MNIST
    train/model_20814.pth                                      DWSNets, Fashion-MNIST
    randinit_smaller_3s/net123.pth                             NFN; its splits are by number
    03/000123_0000042.ckpt                                     Implicit-Zoo: class, image, seed
    model_5.pth                                                DWSNets, sine waves: the seed
"""

import functools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.formats.checkpoint_folders import checkpoint_files, stem
from zoojax.converters.formats.tables import read_config
from zoojax.converters.ray_trials import unique_name
from zoojax.converters.reported import parse_number
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import infer_network
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import entries
from zoojax.text import printable

_END = r"\.[a-z0-9.]+"
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:^|.*/)(?P<name>\w*?_png_(?P<split>train|test)\w*_(?P<label>\d+)_(?P<image>\d+))/.*",
        rf"(?:^|.*/)(?P<name>\w*_(?P<label>\d+)s/net(?P<nfn>\d+)){_END}",
        rf"(?:^|.*/)(?P<name>(?P<label>\d{{2,4}})/(?P<image>\d{{6}})_(?P<seed>\d{{7}})){_END}",
        rf"(?:^|.*/)(?P<name>(?P<split>train|val|test)\w*/model_(?P<image>\d+)){_END}",
        rf"(?:^|.*/)(?P<name>model_(?P<seed>\d+)){_END}",
    )
)
# NFN's splits: numbers of images below these are for training and validation.
_NFN_SPLITS = (("train", 45_000), ("val", 50_000))
_COPY = re.compile(r"_aug(\d+)_")
_ERRORS = re.compile(r"\d+_\d+\.json")
_MAX_PROBED, _MAX_TABLES = 3, 1000


class ImageNetworks(SourceFormat):
    """Folders with one file per network, each of which learned one image."""

    name: ClassVar = "inrs"
    label: ClassVar = "networks of one image each (INRs)"

    def recognize(self, path: Path) -> str | None:
        """A folder in which one of the first files holds such a network."""
        if not path.is_dir():
            return None
        files = checkpoint_files(path, [])
        for file in [file for _, file in zip(range(_MAX_PROBED), files, strict=False)]:
            if _holds_inr(file):
                return f"{printable(file.relative_to(path), 100)} holds a SIREN"
        return None

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per file; tensors of no layer, such as inputs, are left out."""
        notes: list[str] = []
        options = replace(options, drop_extra=True)
        errors = dict(_errors(path))
        taken: set[str] = set()
        sources = []
        for file in checkpoint_files(path, notes):
            source = _member(path, file, taken, options)
            if str(source.image) in errors:
                source.rows[0] = {"psnr": errors[str(source.image)]}
            sources.append(source)
        if not sources:
            raise ZoojaxError(f"{printable(path)} has no checkpoint files; give --format")
        notes.append("they have no epochs; epoch 0 is assumed")
        return Listing(sources, notes)


def _holds_inr(file: Path) -> bool:
    try:
        state = read_state(file, options=DialectOptions(drop_extra=True))
        # Its input "image" is a pair of coordinates, or one coordinate.
        return infer_network(state).architecture.size == 1
    except ZoojaxError:
        return False


def _member(root: Path, file: Path, taken: set[str], options: DialectOptions) -> Source:
    """Creates the member of a file, with the facts in its path."""
    path = file.relative_to(root)
    # A folder such as "train" may be the one that the user gave.
    start = f"{root.name}/"
    match = _match(start + path.as_posix())
    facts: dict[str, Any] = {} if match is None else match.groupdict()
    folder = "" if len(path.parts) == 1 else f"{path.parent.as_posix()}/"
    if match is not None and match.string[match.end("name")] == "/":
        folder = match.string[len(start) : match.end("name") + 1]
    name = facts.get("name") or stem(path.as_posix())
    source = Source(
        unique_name(name.replace("/", "-"), taken),
        config={"seed": facts["seed"]} if facts.get("seed") else {},
        split=facts.get("split"),
        label=_number(facts.get("label")),
        image=_number(facts.get("image") or facts.get("nfn")),
        folder=folder,
    )
    if facts.get("nfn"):
        assert source.image is not None
        source.split = next((name for name, end in _NFN_SPLITS if source.image < end), "test")
        copy = _COPY.search(name)
        if copy is not None:
            source.notes.append(f"augmented copy {copy[1]}")
    place = printable(path, 300)
    source.places[0] = place
    source.states[0] = functools.partial(read_state, file, options=options)
    return source


def _match(path: str) -> re.Match[str] | None:
    matches = (pattern.fullmatch(path) for pattern in _PATTERNS)
    return next((match for match in matches if match is not None), None)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and len(text) <= 9 else None


def _errors(root: Path) -> Iterator[tuple[str, float]]:
    """Yields the PSNR in dB by number of the image, from Implicit-Zoo's tables."""
    names = sorted(name for name in entries(root) if _ERRORS.fullmatch(name))
    for name in names[:_MAX_TABLES]:
        file = root / name
        if file.is_symlink() or not file.is_file():
            continue
        try:
            content = read_config(file)
        except ZoojaxError:
            continue
        for image, value in content.items():
            number = parse_number(value)
            if number is not None:
                yield image, number
