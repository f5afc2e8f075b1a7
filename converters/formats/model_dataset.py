"""Pickled datasets of models: the preprocessed .pt files of model zoos."""

from pathlib import Path
from typing import ClassVar

from zoojax.converters import sources
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.base import Listing, SourceFormat

_MARKS = (b"ModelDatasetBase", b"trainset")
_PROBED_BYTES = 2**20


class ModelDataset(SourceFormat):
    """A file with splits of state dicts or vectors."""

    name: ClassVar = "dataset"
    label: ClassVar = "a pickled dataset of models"

    def recognize(self, path: Path) -> str | None:
        """A file whose pickle names the class of such datasets."""
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                start = file.read(_PROBED_BYTES)
        except OSError:
            return None
        names_dataset = _MARKS[1] in start and b"data_in" in start
        return "it has splits of checkpoints" if _MARKS[0] in start or names_dataset else None

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """One member per trial folder that the dataset names."""
        return Listing(sources.from_dataset(path))
