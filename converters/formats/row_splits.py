"""NFN's split of the Small CNN Zoo: an order of the rows, in a CSV file next to the matrix.

    mnist_split.csv    numbers of rows, one per line, after a line 0

The split is that of `ZooDataset` in https://github.com/AllanYangZhou/nfn
(experiments/data_utils.py; Zhou et al., "Permutation Equivariant Neural Functionals", 2023): only
rows of step 86 count, in this order. The second half is for testing; of the first half, shuffled
with seed 0, 80 % are for training and the others for validation. The first line is a header, but
NFN reads it as row 0.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path

from zoojax.converters.batches import BatchState
from zoojax.converters.sources import Source
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import MIB, entries, read_bytes
from zoojax.text import printable

_NAME = re.compile(r"(?P<images>\w+)_split\.csv")
_STEP = 86
_TEST, _TRAIN = 0.5, 0.8
_MAX_BYTES, _MAX_DIGITS = 64 * MIB, 9


def add_row_splits(root: Path, sources: Sequence[Source], rows: int, images: str) -> list[str]:
    """Fills in the splits of the members of a matrix, if a file in its folder has an order.

    Args:
        root: The folder of the matrix.
        sources: The members; `split` is filled in.
        rows: Number of rows of the matrix.
        images: Name of the image set, which the name of the file starts with; "" if it is unknown.

    Returns:
        Remarks for the user: which file was used, for how many members.
    """
    files = [match for name in entries(root) if (match := _NAME.fullmatch(name))]
    if not files or any(source.split is not None for source in sources):
        return []
    # The image set of svhn_split.csv is svhn_cropped.
    found = [match for match in files if not images or images.startswith(match["images"])]
    if len(found) != 1:
        shown = ", ".join(printable(match.string, 60) for match in files[:4])
        of = printable(images, 60) or "the zoo's images"
        return [f"splits are not read: {shown} name {len(found)} orders for {of}"]
    name = found[0].string
    try:
        splits = _splits(_order(root / name, rows), _final_rows(sources))
    except ZoojaxError as error:
        return [f"splits cannot be read: {printable(error, 300)}"]
    for position, row in _final_rows(sources).items():
        sources[position].split = splits.get(row)
    count = sum(source.split is not None for source in sources)
    return [
        f"the splits of {count} members are those of NFN, by the order in {printable(name, 100)}"
    ]


def _final_rows(sources: Sequence[Source]) -> dict[int, int]:
    """Rows of the states of step 86, by the position of the member."""
    states = ((i, source.states.get(_STEP)) for i, source in enumerate(sources))
    return {i: state.index for i, state in states if isinstance(state, BatchState)}


def _order(file: Path, rows: int) -> list[int]:
    """Reads the order of the rows, with the header.

    Raises:
        ZoojaxError: If it cannot be read, or does not list each row once.
    """
    if file.is_symlink():
        raise ZoojaxError(f"{printable(file.name, 100)} is a link, which is not followed")
    lines = read_bytes(file, _MAX_BYTES).split()
    if not all(line.isdigit() and len(line) <= _MAX_DIGITS for line in lines):
        raise ZoojaxError(f"{printable(file.name, 100)} has a line that is not the number of a row")
    order = [int(line) for line in lines]
    listed = order[1:] if len(order) == rows + 1 and order[0] == 0 else order
    if sorted(listed) != list(range(rows)):
        raise ZoojaxError(f"{printable(file.name, 100)} does not list each of {rows} rows once")
    return order


def _splits(order: Sequence[int], final: dict[int, int]) -> dict[int, str]:
    """Returns the splits by row; a row that NFN has in two splits is left out."""
    known = set(final.values())
    ordered = [row for row in order if row in known]
    half = int(_TEST * len(ordered))
    others = list(range(half))
    random.Random(0).shuffle(others)
    end = int(_TRAIN * half)
    positions = {"train": others[:end], "val": others[end:], "test": range(half, len(ordered))}
    found: dict[int, set[str]] = {}
    for split, listed in positions.items():
        for position in listed:
            found.setdefault(ordered[position], set()).add(split)
    return {row: splits.pop() for row, splits in found.items() if len(splits) == 1}
