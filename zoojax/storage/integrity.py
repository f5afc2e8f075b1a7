"""Whether a zoo on disk is as it was written."""

from collections.abc import Callable, Iterator
from pathlib import Path

from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists, numbered, resolved
from zoojax.storage.zoo import IMAGES, OPTIMIZER, STATES, Zoo, with_states


def find_corrupt_files(zoo: Zoo, report: Callable[[int, int], None] | None = None) -> list[str]:
    """Reads everything of a zoo, and says of each thing what is wrong with it.

    Checksums guard against damage; whoever changes a zoo on purpose can change them too.

    Args:
        zoo: the zoo.
        report: called with the number of steps read and of all steps, after each.

    Returns:
        One sentence per damaged file or step, which it names; none of a sound zoo.
    """
    found = [*_images(zoo)]
    try:
        states = zoo.epochs
    except ZoojaxError as error:
        return [str(error), *found]
    found += _links(zoo)
    moments = numbered(zoo.path / OPTIMIZER)
    for done, (read, epoch) in enumerate(
        [
            *((lambda e: zoo.state(e, raw=True), epoch) for epoch in states),
            *((zoo.optimizer_state, epoch) for epoch in moments if epoch in states),
        ],
        1,
    ):
        try:
            read(epoch)
        except ZoojaxError as error:
            found.append(str(error))
        if report is not None:
            report(done, len(states) + len(set(moments) & set(states)))
    return found


def find_missing_files(zoo: Zoo) -> list[int]:
    """Epochs whose states were measured and are not there.

    States can be removed on purpose to save space: whether it is damage only the owner knows.
    """
    measured = with_states(zoo.metrics_history)["epoch"].unique().to_list()
    return sorted(set(measured) - set(zoo.epochs))


def _links(zoo: Zoo) -> Iterator[str]:
    """States that lie elsewhere, where others may change them."""
    home = resolved(zoo.path)
    for folder in (STATES, OPTIMIZER):
        for path in (zoo.path / folder, *_steps(zoo.path / folder)):
            if exists(path) and not resolved(path).is_relative_to(home):
                yield f"{path} is a link that leads out of the zoo"


def _steps(folder: Path) -> list[Path]:
    return [folder / str(epoch) for epoch in numbered(folder)]


def _images(zoo: Zoo) -> Iterator[str]:
    file = zoo.path / IMAGES
    if not exists(file):
        return
    try:
        if loading.load_saved(file).hash != zoo.config.data_hash:
            yield f"{file} holds other images"
    except ZoojaxError as error:
        yield str(error)
