"""Reads image sets that tensorflow-datasets (TFDS) has prepared, or prepares them."""

import contextlib
import importlib.util
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoojax.datasets.network import require_network
from zoojax.datasets.readers import RawPart, SourceParts
from zoojax.errors import ZoojaxError
from zoojax.text import first_line


def read(name: str, directory: Path, url: str, other_files: str = "") -> SourceParts:
    """Reads a set of tensorflow-datasets, and prepares it first if necessary.

    Reading needs no TensorFlow (array_record), but preparing does. Images come in the order of
    TFDS, which is fixed but differs from that of the original files.

    Args:
        name: Name of the set in TFDS.
        directory: The data directory.
        url: A file of the download.
        other_files: Other files from which the set could have been read, for error messages.

    Raises:
        ZoojaxError: If the set is damaged, or is not prepared and cannot be prepared.
    """
    if not prepared_folders(name, directory):
        _prepare(name, directory, url, other_files)
    import tensorflow_datasets as tfds

    # Opened by folder, whatever its version: given the name, TFDS would search for the version
    # that it has code for and access the network.
    folder = max(prepared_folders(name, directory))
    try:
        with _quiet_absl():
            builder = tfds.builder_from_directory(str(folder))
            return SourceParts(folder, _decode(builder, "train"), _decode(builder, "test"))
    except ImportError:  # a missing decoder does not mean that the folder is damaged
        raise
    # TFDS and array_record raise many types on a damaged or partial folder.
    except Exception as error:
        raise ZoojaxError(
            f"{folder}: not a dataset that tensorflow-datasets reads as array_record "
            f"({first_line(error)}); delete it and prepare it again: "
            f"{_build_command(name, directory)}"
        ) from error


def prepared_folders(name: str, directory: Path) -> list[Path]:
    """Returns the folders of all versions of a set that TFDS has prepared.

    Args:
        name: Name of the set in TFDS.
        directory: The data directory.
    """
    return [path.parent for path in (directory / name).glob("*/dataset_info.json")]


def _decode(builder, split: str) -> RawPart:
    source = builder.as_data_source(split=split)
    images = np.empty((len(source), *builder.info.features["image"].shape), dtype=np.uint8)
    labels = np.empty(len(source), dtype=np.int32)
    for index, example in enumerate(source):
        images[index], labels[index] = example["image"], example["label"]
    return RawPart(images, labels)


def _build_command(name: str, directory: Path) -> str:
    return f"tfds build {name} --file_format=array_record --data_dir={shlex.quote(str(directory))}"


def _prepare(name: str, directory: Path, url: str, other_files: str) -> None:
    """Downloads a set and writes it as array_record.

    Raises:
        ZoojaxError: If TensorFlow or the network is missing (within seconds), or the download
            fails.
    """
    missing = f"{name} is not prepared in {directory}"
    if other_files:
        missing += f", nor are {other_files} there,"
    command = _build_command(name, directory)
    if importlib.util.find_spec("tensorflow") is None:
        raise ZoojaxError(
            f"{missing} and preparing needs TensorFlow: pip install 'zoojax[tfds]', then: {command}"
        )
    require_network(url, f"{missing}; on a machine with network access, run: {command}")
    import tensorflow_datasets as tfds

    try:
        tfds.builder(
            name, data_dir=str(directory), file_format="array_record"
        ).download_and_prepare()
    # Downloads raise many types, none of which is a bug in zoojax.
    except Exception as error:
        raise ZoojaxError(
            f"{name} could not be prepared in {directory} ({first_line(error)}); try: {command}"
        ) from error


@contextlib.contextmanager
def _quiet_absl() -> Iterator[None]:
    """Suppresses TFDS's warnings about its own defaults."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
