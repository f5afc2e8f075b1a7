"""Whether a zoo on disk is as it was written."""

from collections.abc import Callable

import polars as pl

from zoojax import data
from zoojax.errors import ZoojaxError
from zoojax.zoo import IMAGES, METRICS, OPTIMIZER, STATES, Zoo, damage_of


def damages(zoo: Zoo, report: Callable[[int, int], None] | None = None) -> list[str]:
    """Reads everything of a zoo, and says of each thing what is wrong with it.

    Args:
        zoo: the zoo.
        report: told steps read and their number.

    Returns:
        A sentence for each damaged file or step, which it names; none of a sound zoo.
    """
    found = [*_tables(zoo), *_images(zoo)]
    steps = [(STATES, epoch) for epoch in zoo.epochs]
    steps += [
        (OPTIMIZER, epoch) for epoch in zoo.epochs if (zoo.path / OPTIMIZER / str(epoch)).is_dir()
    ]
    for done, (folder, epoch) in enumerate(steps, 1):
        damage = damage_of(zoo, folder, epoch)
        if damage is not None:
            found.append(damage)
        if report is not None:
            report(done, len(steps))
    return found


def _tables(zoo: Zoo) -> list[str]:
    rows = zoo.all_metrics.group_by("epoch").agg(pl.col("member"))
    known = set(zoo.roster["id"])
    return [
        f"{zoo.path / METRICS} is damaged: epoch {epoch} has rows of members that are not there, "
        "or some twice"
        for epoch, members in rows.sort("epoch").iter_rows()
        if len(set(members)) != len(members) or not known.issuperset(members)
    ]


def _images(zoo: Zoo) -> list[str]:
    file = zoo.path / IMAGES
    if not file.exists():
        return []
    try:
        images = data.load_saved(file)
    except ZoojaxError as error:
        return [str(error)]
    return [] if images.hash == zoo.config.data_hash else [f"{file} holds other images"]
