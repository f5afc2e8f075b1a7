"""Writes a zoo and its twins as a dataset; see `zoojax.storage.published` for its files."""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import check_new, make_folder, os_errors, write_table
from zoojax.filesystem.paths import output_folder
from zoojax.filesystem.reading import entries
from zoojax.hyperparameters.declaration import check_whole
from zoojax.publishing.about import About
from zoojax.publishing.card import data_card
from zoojax.publishing.croissant import croissant
from zoojax.publishing.upload import check_repo_id, upload
from zoojax.storage.checkpoints import file_digest
from zoojax.storage.opening import as_zoo
from zoojax.storage.parent import is_version
from zoojax.storage.published import (
    CHECKSUMS,
    FORMAT,
    SCHEMA,
    PublishedStore,
    damaged_files,
    flat_arrays,
    is_published,
    weights_file,
)
from zoojax.storage.states import pack
from zoojax.storage.stores import CONFIG, IMAGES, MEMBERS, METRICS
from zoojax.storage.zoo import Zoo, open_zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.text import printable

CARD, METADATA, TWINS = "README.md", "croissant.json", "twins"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
Report = Callable[[str], None]


def publish(
    zoo: Zoo | str | Path,
    *twins: Zoo | str | Path,
    out: str | Path,
    epochs: Sequence[int] | None = None,
    title: str | None = None,
    license: str | None = None,
    creator: str | None = None,
    citation: str | None = None,
    with_images: bool = False,
    repo_id: str | None = None,
    private: bool = False,
    report: Report | None = None,
) -> Path:
    """Publishes a zoo and its twins as a dataset in a folder, and uploads it if requested.

    The folder has the weights as safetensors, the tables as Parquet, a dataset card, Croissant
    metadata and checksums. `open_zoo` opens it, or the address "hf://OWNER/NAME" after an upload.

    Args:
        zoo: The zoo, or its folder. A twin can also be published alone.
        *twins: Its twins, of any sparsifiers.
        out: Folder of the dataset: new, empty, or of the same dataset to upload it.
        epochs: Epochs whose weights are published; None for all. Metrics of all are published.
        title: Title of the dataset; None for the name of the zoo.
        license: License, as the Hub names it, such as "cc-by-4.0"; None for "unknown".
        creator: Person or organization that publishes the zoo.
        citation: How to cite the zoo, as text or BibTeX.
        with_images: Whether to publish the images that the zoo stores (`keep_data`). Otherwise
            they are identified by their name and hash only.
        repo_id: OWNER/NAME of a dataset on the Hugging Face Hub to upload to; created if it does
            not exist. Needs the extra `hub`.
        private: Whether a new repository is private.
        report: Called with the name of each step.

    Returns:
        The folder.

    Raises:
        ZoojaxError: A zoo is damaged or has no epochs, a twin belongs to another zoo, the folder
            contains other files, or writing or uploading failed.

    Example:
        >>> folder = zoojax.publish(zoo, out="published", license="cc-by-4.0")
        >>> published = zoojax.open_zoo(folder)
        >>> published.epochs == zoo.epochs, published.fingerprint == zoo.fingerprint
        (True, True)
    """
    opened = [as_zoo(zoo), *(as_zoo(twin, "a twin") for twin in twins)]
    folder, say = output_folder(out), report or (lambda step: None)
    if repo_id is not None:
        check_repo_id(repo_id)
    _check(opened)
    chosen = None if epochs is None else _checked_epochs(opened[0], epochs)
    about = About.of(title, license, creator, citation, opened[0])
    if not _is_same(folder, opened):
        check_new(folder)
        if entries(folder):
            raise ZoojaxError(f"{folder} is not empty; give --out a new folder")
        _write(folder, opened, chosen, about, with_images, say)
    if repo_id is not None:
        say(f"uploading to {repo_id}")
        upload(folder, repo_id, private)
    return folder


def _check(zoos: list[Zoo]) -> None:
    """Raises a ZoojaxError if the zoos cannot be published together."""
    zoo, *twins = zoos
    for each in zoos:
        _ = each.newest_epoch
    fingerprints = [each.fingerprint for each in zoos]
    is_view = not zoo.store.identity().equals(zoo.members_table)
    if is_view and twins:
        raise ZoojaxError(f"{zoo.path} is a view of some members; publish the whole zoo with twins")
    for twin in twins:
        parent = twin.config.parent
        if parent is None or not is_version(zoo, parent.fingerprint):
            raise ZoojaxError(f"{twin.path} is not a twin of {zoo.path}; publish it separately")
        if fingerprints.count(twin.fingerprint) > 1:
            raise ZoojaxError(f"{twin.path} is given twice")


def _checked_epochs(zoo: Zoo, epochs: Sequence[int]) -> list[int]:
    if isinstance(epochs, str | bytes) or not hasattr(epochs, "__iter__"):
        raise ZoojaxError(f"epochs is {printable(epochs, 60)}; give a list of epochs")
    chosen = sorted({check_whole("an epoch", epoch) for epoch in epochs})
    for epoch in chosen or [-1]:
        if epoch not in zoo.epochs:
            last = zoo.newest_epoch
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch} to publish; its last one is {last}")
    return chosen


def _is_same(folder: Path, zoos: list[Zoo]) -> bool:
    """Whether a folder is the complete dataset of these zoos.

    Raises:
        ZoojaxError: It is the dataset of other zoos, or damaged.
    """
    if not is_published(folder):
        return False
    names = _folder_names(zoos)
    published = [open_zoo(folder / name) for name in names if is_published(folder / name)]
    if [each.fingerprint for each in published] != [each.fingerprint for each in zoos]:
        raise ZoojaxError(f"{folder} is the dataset of other zoos; give --out a new folder")
    store = published[0].store
    assert isinstance(store, PublishedStore)
    for problem in damaged_files(store):
        raise ZoojaxError(f"{problem}; remove the folder and publish again")
    return True


def _folder_names(zoos: list[Zoo]) -> list[str]:
    """Returns the folder of each zoo in the dataset; "" for the first."""
    names: list[str] = []
    for twin in zoos[1:]:
        name = _UNSAFE.sub("-", twin.path.name if not twin.store.in_memory else twin.config.name)
        name = name.strip("-") or "twin"
        taken = {f"{TWINS}/{name}", f"{TWINS}/{name}-{len(names) + 1}"} & set(names)
        names.append(f"{TWINS}/{name}-{len(names) + 1}" if taken else f"{TWINS}/{name}")
    return ["", *names]


def _write(
    folder: Path,
    zoos: list[Zoo],
    epochs: list[int] | None,
    about: About,
    with_images: bool,
    say: Report,
) -> None:
    """Writes a dataset next to its folder, then renames it."""
    make_folder(folder.parent, folder)
    prefix = f".{folder.name}.tmp-"
    for name in entries(folder.parent):
        if name.startswith(prefix) and name.removeprefix(prefix).isdecimal():
            shutil.rmtree(folder.parent / name, ignore_errors=True)
    temporary = folder.with_name(f"{prefix}{os.getpid()}")
    names = _folder_names(zoos)
    try:
        for zoo, name in reversed([*zip(zoos, names, strict=True)]):
            own = epochs if zoo is zoos[0] else None
            _write_zoo(temporary / name, zoo, name, own, with_images, say)
            if zoo is not zoos[0]:
                _write_checksums(temporary / name)
        with os_errors(folder):
            parts = {
                name: Zoo(zoo.store, _portable(zoo, name))
                for name, zoo in zip(names, zoos, strict=True)
            }
            (temporary / CARD).write_text(data_card(temporary, parts, about), "utf-8")
            metadata = croissant(temporary, parts, about)
            (temporary / METADATA).write_text(json.dumps(metadata, indent=2) + "\n", "utf-8")
        _write_checksums(temporary)
        with os_errors(folder):
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_zoo(
    folder: Path, zoo: Zoo, name: str, epochs: list[int] | None, with_images: bool, say: Report
) -> None:
    """Writes the config, tables and weights of one zoo."""
    make_folder(folder / "weights")
    content = _portable(zoo, name).to_json()
    with os_errors(folder):
        (folder / CONFIG).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    write_table(folder / MEMBERS, zoo.members_table, durable=False)
    write_table(folder / METRICS, zoo.metrics_history, durable=False)
    images = zoo.store.images() if with_images and zoo.store.has_images and not name else None
    if images is not None:
        with os_errors(folder):
            loading.save(images, folder / IMAGES)
    for epoch in zoo.epochs if epochs is None else epochs:
        say(f"{name or zoo.config.name}, epoch {epoch}")
        state = pack(zoo.config, zoo.state(epoch, raw=True))
        _write_arrays(folder / weights_file(epoch), state)


def _portable(zoo: Zoo, name: str) -> ZooConfig:
    """Returns the config of a zoo without folders of this machine."""
    config = zoo.config
    if not zoo.store.identity().equals(zoo.members_table):
        config = replace(config, earlier=None)
    if config.data is not None and config.data.name.endswith(".npz"):
        file = re.split(r"[/\\]", config.data.name)[-1]
        config = replace(config, data=replace(config.data, name=file))
    if config.parent is not None:
        parent = "/".join([".."] * (name.count("/") + 1)) if name else "unknown"
        config = replace(config, parent=replace(config.parent, path=parent))
    return config


def _write_arrays(file: Path, state: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in flat_arrays(state).items()}
    if len(arrays) != len(jax.tree.leaves(state)):
        raise ZoojaxError("two layers have the same name with slashes, which cannot be published")
    try:
        save_file(arrays, file)
    except Exception as error:  # The library wraps errors of the file system.
        raise ZoojaxError(f"cannot write {file}: {printable(error, 200)}") from error


def _write_checksums(folder: Path) -> None:
    """Writes the checksums of all files in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = {
        "format": FORMAT,
        "schema": SCHEMA,
        "files": {
            path.relative_to(folder).as_posix(): {
                "sha256": file_digest(path),
                "bytes": path.stat().st_size,
            }
            for path in files
        },
    }
    with os_errors(folder):
        (folder / CHECKSUMS).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
