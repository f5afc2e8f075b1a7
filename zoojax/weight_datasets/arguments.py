"""Checks what users pass to `WeightDataset`."""

from collections.abc import Sequence

from zoojax.errors import ZoojaxError
from zoojax.text import printable
from zoojax.weight_datasets.graphs import Graph
from zoojax.weight_datasets.tokens import Tokens
from zoojax.weight_datasets.vector_views import Flat, State
from zoojax.weight_datasets.view import View

VIEWS: dict[str, type[View]] = {view.name: view for view in (State, Flat, Tokens, Graph)}


def checked_view(view: object) -> View:
    """Returns a view, which may be given by its name.

    Raises:
        ZoojaxError: If there is no such view.
    """
    if isinstance(view, View):
        return view
    if not isinstance(view, str) or view not in VIEWS:
        known = ", ".join(VIEWS)
        raise ZoojaxError(f"no view {printable(view, 60)}; there are: {known}")
    return VIEWS[view]()


def checked_columns(argument: str, columns: object) -> tuple[str, ...]:
    """Returns the names of columns: none, one or several.

    Args:
        argument: Name of the argument, for messages.
        columns: What the user passed.

    Raises:
        ZoojaxError: If they are not names.
    """
    if columns is None:
        return ()
    names = (columns,) if isinstance(columns, str) else columns
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ZoojaxError(f"{argument} is {printable(columns, 60)}; give the names of columns")
    if not names or len(set(names)) < len(names):
        raise ZoojaxError(f"{argument} is {printable(columns, 60)}; give each column once, or None")
    return tuple(map(str, names))
