"""Integrity checks of a zoo on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists, numbered, resolved
from zoojax.storage import parts
from zoojax.storage.published import PublishedStore, damaged_files
from zoojax.storage.schema import with_states
from zoojax.storage.stores import IMAGES, OPTIMIZER, STATES
from zoojax.storage.zoo import Zoo


def find_corrupt_files(zoo: Zoo, report: Callable[[int, int], None] | None = None) -> list[str]:
    """Reads all files of a zoo and describes those that are damaged.

    Checksums detect accidental damage only: deliberate changes can include the checksums.

    Args:
        zoo: The zoo.
        report: Progress callback, called after each step folder with the number of folders
            read and their total.

    Returns:
        One message per damaged file or step folder, which it names; empty for a valid zoo.
    """
    if isinstance(zoo.store, PublishedStore):
        damaged = damaged_files(zoo.store)
        if damaged:
            return damaged
    errors = [*_find_image_errors(zoo)]
    try:
        states = zoo.epochs
    except ZoojaxError as error:
        return [str(error), *errors]
    errors += _find_external_links(zoo)
    moments = numbered(zoo.path / OPTIMIZER)
    for done, (read, epoch) in enumerate(
        [
            *((lambda e: _read_state(zoo, e), epoch) for epoch in states),
            *((zoo.optimizer_state, epoch) for epoch in moments if epoch in states),
        ],
        1,
    ):
        try:
            read(epoch)
        except ZoojaxError as error:
            errors.append(str(error))
        if report is not None:
            report(done, len(states) + len(set(moments) & set(states)))
    return errors


def _read_state(zoo: Zoo, epoch: int) -> None:
    """Reads the state of an epoch, block by block."""
    for rows in zoo.row_blocks(epoch):
        zoo.state(epoch, raw=True, rows=rows)


def find_corruption(zoo: Zoo, folder: str, epoch: int) -> str | None:
    """Compares the files of an epoch with their checksums.

    Args:
        zoo: The zoo.
        folder: STATES or OPTIMIZER.
        epoch: The epoch.

    Returns:
        A message that names the damaged folder; None if the files are as they were written.
    """
    step = zoo.path / folder / str(epoch)
    damage = parts.find_damage(step)
    return None if damage is None else f"{step} is damaged: {damage}"


def find_missing_files(zoo: Zoo) -> list[int]:
    """Lists epochs whose states were measured but are no longer there.

    States may have been removed on purpose to save space, so this is not damage by itself.

    Args:
        zoo: The zoo.

    Returns:
        The epochs, ascending.
    """
    measured = with_states(zoo.metrics_history)["epoch"].unique().to_list()
    return sorted(set(measured) - set(zoo.epochs))


def _find_external_links(zoo: Zoo) -> Iterator[str]:
    """Reports step folders outside the zoo's folder, where other programs may change them."""
    root = resolved(zoo.path)
    for folder in (STATES, OPTIMIZER):
        for path in (zoo.path / folder, *_step_folders(zoo.path / folder)):
            if exists(path) and not resolved(path).is_relative_to(root):
                yield f"{path} is a link that leads out of the zoo"


def _step_folders(folder: Path) -> list[Path]:
    return [folder / str(epoch) for epoch in numbered(folder)]


def _find_image_errors(zoo: Zoo) -> Iterator[str]:
    file = zoo.path / IMAGES
    if not exists(file):
        return
    try:
        if loading.load_saved(file).hash != zoo.config.data_hash:
            yield f"{file} contains different images"
    except ZoojaxError as error:
        yield str(error)
