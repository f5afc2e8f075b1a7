"""Old names that still work for one release: each warns and names its replacement.

_RENAMED = {"make_dense": "train_zoo"}

def __getattr__(name: str):  # of a module
    name = current_name("zoojax", name, _RENAMED)
    ...

class Zoo:
    roster = RenamedAttribute("members_table")
"""

import warnings
from collections.abc import Mapping
from typing import Any


def current_name(module: str, name: str, renamed: Mapping[str, str]) -> str:
    """Returns the current name of a module's attribute; call it in the module's `__getattr__`.

    Warns with a DeprecationWarning if `name` is an old one.

    Args:
        module: name of the module, for the warning.
        name: requested attribute.
        renamed: new names by old names.
    """
    if name not in renamed:
        return name
    # The caller of the module's __getattr__.
    _warn(f"{module}.{name}", f"{module}.{renamed[name]}", stacklevel=4)
    return renamed[name]


class RenamedAttribute:
    """A property or method of a class under its old name.

    Args:
        new: name of the attribute that replaces it.
    """

    def __init__(self, new: str):
        self._new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._old = owner.__name__, name

    def __get__(self, instance: object | None, owner: type) -> Any:
        """Warns with a DeprecationWarning; returns the attribute under its new name."""
        if instance is None:
            return self
        _warn(f"{self._owner}.{self._old}", f"{self._owner}.{self._new}", stacklevel=3)
        return getattr(instance, self._new)


def _warn(old: str, new: str, stacklevel: int) -> None:
    """Warns at the line that uses the old name, which is `stacklevel` - 1 calls up from here."""
    message = f"{old} is deprecated and will be removed in the next release; use {new}"
    warnings.warn(message, DeprecationWarning, stacklevel=stacklevel)
