"""Alignments, and the file `alignment.npz` in the folder of an aligned zoo."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from zoojax.datasets.readers import read_arrays
from zoojax.errors import ZoojaxError
from zoojax.filesystem.atomic import atomic_write
from zoojax.geometry.transforms import Transform
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

FILE = "alignment.npz"


@dataclass(frozen=True)
class Alignment:
    """An aligned zoo, and how it was aligned.

    Attributes:
        zoo: The aligned zoo.
        transform: Orders and factors of the units of each member, in the order of `Zoo.members`.
        distances: One row per member: its id, and the distances of its parameters to those of the
            reference before and after the alignment; null for members that are not finite.
        source: Fingerprint of the zoo that was aligned.

    Example:
        >>> aligned = zoojax.geometry.align(zoo, to=0)
        >>> aligned.transform.orders[0].shape, aligned.source == zoo.fingerprint
        ((3, 8), True)
    """

    zoo: Zoo
    transform: Transform
    distances: pl.DataFrame
    source: str


def save_alignment(alignment: Alignment, folder: Path) -> None:
    """Writes an alignment to the folder of its zoo.

    Args:
        alignment: The alignment.
        folder: The folder.
    """
    transform = alignment.transform
    arrays = {f"order_{i}": x for i, x in enumerate(transform.orders)}
    arrays |= {f"factor_{i}": x for i, x in enumerate(transform.factors)}
    arrays |= {name: alignment.distances[name].to_numpy() for name in ("before", "after")}
    arrays["source"] = np.array(alignment.source)

    def write(file: Path) -> None:
        with file.open("wb") as opened:
            np.savez(opened, allow_pickle=False, **arrays)

    atomic_write(folder / FILE, write)


def open_alignment(zoo: Zoo | str | Path) -> Alignment:
    """Opens the alignment of an aligned zoo.

    Args:
        zoo: The aligned zoo in a folder, or the folder.

    Returns:
        The alignment.

    Raises:
        ZoojaxError: If the folder is not an aligned zoo, or its alignment is damaged.

    Example:
        >>> aligned = zoojax.geometry.align(zoo, "aligned", to=0)
        >>> zoojax.geometry.open_alignment("aligned").zoo.path == aligned.zoo.path
        True
    """
    zoo = as_zoo(zoo)
    file = zoo.path / FILE
    if not file.is_file():
        raise ZoojaxError(f"{zoo.path} has no {FILE}; give a zoo that `geometry align` has written")
    arrays = read_arrays(file)
    try:
        units = zoo.config.shape.permuted_units()
        orders = tuple(_order(arrays[f"order_{i}"], len(zoo), n) for i, n in enumerate(units))
        factors = tuple(_factor(arrays[f"factor_{i}"], len(zoo), n) for i, n in enumerate(units))
        before, after = (_distance(arrays[name], len(zoo)) for name in ("before", "after"))
        source = printable(arrays["source"], 64)
    except (KeyError, ValueError, TypeError) as error:
        raise ZoojaxError(f"{file} is damaged: {printable(error)}") from error
    ids = zoo.members_table["id"]
    distances = pl.DataFrame({"member": ids, "before": before, "after": after})
    return Alignment(zoo, Transform(orders, factors), distances.fill_nan(None), source)


def _order(array: np.ndarray, members: int, units: int) -> np.ndarray:
    if array.shape != (members, units) or array.dtype != np.int64:
        raise ValueError(f"an order is {array.dtype} {array.shape}")
    if not np.array_equal(np.sort(array, axis=1), np.tile(np.arange(units), (members, 1))):
        raise ValueError("an order is not a permutation")
    return array


def _factor(array: np.ndarray, members: int, units: int) -> np.ndarray:
    if array.shape != (members, units) or array.dtype != np.float32:
        raise ValueError(f"a factor is {array.dtype} {array.shape}")
    if not (np.isfinite(array) & (array != 0)).all():
        raise ValueError("a factor is 0 or not finite")
    return array


def _distance(array: np.ndarray, members: int) -> np.ndarray:
    if array.shape != (members,) or array.dtype != np.float64:
        raise ValueError(f"distances are {array.dtype} {array.shape}")
    return array
