"""The declaration of one hyperparameter.

The fields of `zoojax.Grid` are declared with `names` and `number`. Columns of the members table,
programs, analysis tables, options of the command line and keys of PyTorch zoos follow from them.
"""

import dataclasses
import importlib
import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.text import printable

_METADATA = "hyperparameter"
# Upper bound of the range (0, 1], since ranges exclude their upper bound.
ABOVE_ONE = math.nextafter(1.0, 2.0)


@dataclass(frozen=True)
class Hyperparameter:
    """Everything that the packages need to know about a hyperparameter.

    Attributes:
        name: Column of the members table, and argument of `zoojax.train_zoo`.
        label: Name in messages.
        default: Value of members for which none is given. All values have its type.
        help: Text of the command line's option, without its default.
        known: Where all names are: "module:MAPPING"; None for a number. Imported when needed,
            so that the command line starts without JAX.
        range: Numbers [low, high) that zoos may have.
        above_low: Whether new members need a number above `low`.
        optional: Whether the column is left out if all members have the default.
        static: Whether a number shapes the program, as names do.
        initial: Whether a number affects only the initial parameters.
        inherited: Whether twins keep the value of their parents.
        used_with: Another hyperparameter, and the names of it with which this one is used; None
            if all members use it.
        torch: Key in params.json of PyTorch zoos; empty if PyTorch zoos do not report it by
            member.
    """

    name: str
    label: str
    default: Any
    help: str
    known: str | None = None
    range: tuple[float, float] = (-math.inf, math.inf)
    above_low: bool = False
    optional: bool = False
    static: bool = False
    initial: bool = False
    inherited: bool = True
    used_with: tuple[str, tuple[str, ...]] | None = None
    torch: str = ""

    @property
    def kind(self) -> type:
        """Type of the values: str, float or int."""
        return type(self.default)

    @property
    def choices(self) -> tuple[str, ...]:
        """All names; empty for a number."""
        if self.known is None:
            return ()
        module, _, attribute = self.known.partition(":")
        return tuple(getattr(importlib.import_module(module), attribute))

    def used(self, member: dict[str, Any]) -> bool:
        """Whether a member with these hyperparameters uses this one."""
        return self.used_with is None or member.get(self.used_with[0]) in self.used_with[1]

    def check(self, value: Any) -> None:
        """Checks a value for new members.

        Args:
            value: The value.

        Raises:
            ZoojaxError: If it is not a known name, or no number in the range.
        """
        if self.known is not None:
            check_name(self.label, value, self.choices)
            return
        kinds, expected = numbers.Real, "a number"
        if self.kind is int:
            kinds, expected = numbers.Integral, "a whole number"
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ZoojaxError(f"{self.label} is {printable(repr(value), 60)}; give {expected}")
        low, high = self.range
        number = _as_float(value)
        inside = math.isfinite(number) and low <= number < high
        if not inside or (self.above_low and number == low):
            raise ZoojaxError(f"{self.label} {number:g} {self._expected()}")

    def _expected(self) -> str:
        low, high = self.range
        if high == ABOVE_ONE:
            return "is not above 0 and at most 1"
        if math.isfinite(high):
            return f"is not in [{low:g}, {high:g})"
        return "is not a positive number" if self.above_low else "must be finite and non-negative"


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def names(name: str, default: str, known: str, **declared: Any) -> Any:
    """Declares a field of `Grid` that lists names.

    Args:
        name: Name of the hyperparameter.
        default: Default of the field: this one name.
        known: Where all names are; see `Hyperparameter`.
        declared: Further attributes of `Hyperparameter`.

    Returns:
        The dataclass field.
    """
    return _field(Hyperparameter(name=name, default=default, known=known, **declared))


def number(
    name: str, default: float, range: tuple[float, float] = (0, math.inf), **declared: Any
) -> Any:
    """Declares a field of `Grid` that lists numbers.

    Args:
        name: Name of the hyperparameter.
        default: Default of the field: this one number; whole numbers only if it is an int.
        range: Numbers [low, high) that zoos may have.
        declared: Further attributes of `Hyperparameter`.

    Returns:
        The dataclass field.
    """
    return _field(Hyperparameter(name=name, default=default, range=range, **declared))


def _field(declared: Hyperparameter) -> Any:
    return dataclasses.field(
        default=(declared.default,), metadata={_METADATA: declared}, kw_only=declared.optional
    )


def declarations(grid: type) -> dict[str, Hyperparameter]:
    """Returns the hyperparameters that a dataclass declares, by the name of their fields."""
    fields = dataclasses.fields(grid)
    return {f.name: f.metadata[_METADATA] for f in fields if _METADATA in f.metadata}


def check_whole(name: str, value: object) -> int:
    """Checks that an argument is a whole number, of Python or NumPy.

    Args:
        name: Name of the argument.
        value: Its value.

    Returns:
        The number.

    Raises:
        ZoojaxError: If it is anything else, such as a bool.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ZoojaxError(f"{name} is {printable(repr(value), 60)}; give a whole number")
    return int(value)


def check_name(label: str, name: object, known: Iterable[str]) -> None:
    """Checks that a name is known.

    Args:
        label: What the name is of, such as "activation".
        name: The name.
        known: All names.

    Raises:
        ZoojaxError: If the name is unknown.
    """
    known = tuple(known)
    if name not in known:
        raise ZoojaxError(
            f"no {label} named '{printable(name, 60)}'; there are: {', '.join(known)}"
        )
