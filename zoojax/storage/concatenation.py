"""Several zoos as one."""

from collections.abc import Sequence
from pathlib import Path

from zoojax.errors import ZoojaxError
from zoojax.storage.opening import as_zoo
from zoojax.storage.views import concat_store
from zoojax.storage.zoo import Zoo
from zoojax.text import printable


def concat(zoos: Sequence[Zoo | str | Path]) -> Zoo:
    """Joins the members of several zoos, without copies.

    The zoos must have the same architecture, images, sparsifier and settings of training; the
    epochs are those that all of them have. Ids of members stay the same if no two
    zoos share one. Otherwise, the ids of each further zoo follow the largest id before it. Twins of
    one parent stay its twins; other twins lose their parents.

    Args:
        zoos: The zoos, or their folders.

    Returns:
        A view of all members.

    Raises:
        ZoojaxError: If there are no zoos, or they differ in a setting, which the message names.

    Example:
        >>> both = zoojax.concat([zoo[:1], zoo[2:]])
        >>> both.members["id"].to_list(), both.flat(1).shape
        ([0, 2], (2, 2464))
    """
    if isinstance(zoos, Zoo | str | bytes | Path) or not hasattr(zoos, "__iter__"):
        raise ZoojaxError(f"zoos are {printable(zoos, 80)}; give a list of zoos")
    opened = [as_zoo(zoo, "a zoo") for zoo in zoos]
    if not opened:
        raise ZoojaxError("there are no zoos to join; give a list of zoos")
    if len(opened) == 1:
        return opened[0]
    for zoo in opened:
        _ = zoo.config.shape, zoo.members_table
    store, config = concat_store([zoo.store for zoo in opened], [zoo.config for zoo in opened])
    joined = Zoo(store, config)
    _ = joined.members_table
    return joined
