"""Distributions of hyperparameters, for random search."""

import abc
import hashlib
import math
import numbers
from dataclasses import dataclass
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import Hyperparameter
from zoojax.text import printable


@dataclass(frozen=True)
class Distribution(abc.ABC):
    """Base class of distributions, from which every member draws its own value.

    A draw depends only on the member's seed and the name of the hyperparameter.
    """

    def draw(self, name: str, seed: int) -> Any:
        """Draws the value of one member.

        Args:
            name: Name of the hyperparameter.
            seed: Seed of the member.

        Returns:
            The value.

        Example:
            >>> rates = zoojax.LogUniform(1e-4, 1e-2)
            >>> rates.draw("learning_rate", seed=1) == rates.draw("learning_rate", seed=1)
            True
        """
        # A hash is the same on every machine and with every version of NumPy.
        digest = hashlib.sha256(f"{name} {seed}".encode()).digest()
        return self.at(int.from_bytes(digest[:8], "big") / 2**64)

    @abc.abstractmethod
    def at(self, fraction: float) -> Any:
        """Returns a quantile.

        Args:
            fraction: Fraction of the distribution that lies below it, in [0, 1].

        Example:
            >>> zoojax.Uniform(0.0, 0.5).at(0.5)
            0.25
        """

    @abc.abstractmethod
    def check(self, declared: Hyperparameter) -> None:
        """Checks that all values of the distribution are valid for a hyperparameter.

        Args:
            declared: The hyperparameter.

        Raises:
            ZoojaxError: If one is not.

        Example:
            >>> zoojax.Grid(dropouts=zoojax.Uniform(0.0, 2.0))
            Traceback (most recent call last):
            zoojax.errors.ZoojaxError: dropout rate 2 is not in [0, 1)
        """


@dataclass(frozen=True)
class Uniform(Distribution):
    """The uniform distribution between two bounds.

    Attributes:
        low: Lowest number.
        high: Highest number.

    Raises:
        ZoojaxError: If the bounds are not numbers, or not in ascending order.

    Example:
        >>> grid = zoojax.Grid(dropouts=zoojax.Uniform(0.0, 0.5), seeds=3)
        >>> grid.members()["dropout"].is_between(0.0, 0.5).all()
        True
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if not isinstance(bound, numbers.Real) or not math.isfinite(bound):
                raise ZoojaxError(f"a bound is {printable(repr(bound), 60)}; give a number")
        if not self.low < self.high:
            raise ZoojaxError(f"the bounds {self.low:g} and {self.high:g} are not ascending")

    def at(self, fraction: float) -> float:
        """Returns a quantile."""
        return min(self.low + fraction * (self.high - self.low), self.high)

    def check(self, declared: Hyperparameter) -> None:
        """Checks both bounds."""
        if declared.kind is not float:
            raise ZoojaxError(f"{declared.label} takes no range; give Choice of several values")
        declared.check(self.low)
        declared.check(self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class LogUniform(Uniform):
    """The distribution between two positive bounds whose logarithm is uniform.

    Attributes:
        low: Lowest number, positive.
        high: Highest number.

    Raises:
        ZoojaxError: If the bounds are not positive numbers, or not in ascending order.

    Example:
        >>> zoojax.LogUniform(1e-4, 1e-2).at(0.5)
        0.001
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise ZoojaxError(f"the bound {self.low:g} is not positive")

    def at(self, fraction: float) -> float:
        """Returns a quantile."""
        # Rounded, since the last bits differ between math libraries.
        value = math.exp(math.log(self.low) + fraction * math.log(self.high / self.low))
        return min(max(float(f"{value:.9g}"), self.low), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} (log)"


@dataclass(frozen=True)
class Choice(Distribution):
    """Names or numbers, all equally likely.

    Each member draws one of the values, unlike with a tuple, whose values make a grid.

    Attributes:
        values: The values.

    Raises:
        ZoojaxError: If there are none.

    Example:
        >>> grid = zoojax.Grid(activations=zoojax.Choice(("relu", "tanh")), seeds=20)
        >>> grid.combinations, grid.members()["activation"].n_unique()
        (1, 2)
    """

    values: tuple

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not hasattr(self.values, "__iter__"):
            raise ZoojaxError(f"choices are {printable(self.values, 60)}; give a tuple of values")
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ZoojaxError("there are no values to choose from; give one or more")

    def at(self, fraction: float) -> Any:
        """Returns a quantile, in the order of the values."""
        return self.values[min(int(fraction * len(self.values)), len(self.values) - 1)]

    def check(self, declared: Hyperparameter) -> None:
        """Checks each value."""
        for value in self.values:
            declared.check(value)

    def __str__(self) -> str:
        listed = (f"{v:g}" if isinstance(v, float) else str(v) for v in self.values)
        return f"one of {', '.join(listed)}"


_KINDS = {"uniform": Uniform, "log": LogUniform}


def parse_distribution(text: str, declared: Hyperparameter) -> Distribution:
    """Parses a distribution as the command line takes it.

    Args:
        text: "uniform:LOW:HIGH", "log:LOW:HIGH" or "choice:VALUE:VALUE:...".
        declared: The hyperparameter whose values are drawn.

    Returns:
        The distribution.

    Raises:
        ZoojaxError: If the text is none of these, or a number is invalid.

    Example:
        >>> from zoojax.hyperparameters.draws import parse_distribution
        >>> from zoojax.hyperparameters.grid import BY_NAME
        >>> parse_distribution("log:1e-4:1e-2", BY_NAME["learning_rate"])
        LogUniform(low=0.0001, high=0.01)
    """
    kind, *parts = text.split(":")
    try:
        if kind in _KINDS and len(parts) == 2:
            return _KINDS[kind](float(parts[0]), float(parts[1]))
        if kind == "choice" and parts:
            return Choice(tuple(map(declared.kind, parts)))
    except ValueError as error:
        raise ZoojaxError(f"{declared.label}: {printable(error, 80)}") from error
    raise ZoojaxError(
        f"{declared.label} cannot be drawn from '{printable(text, 60)}'; give uniform:LOW:HIGH, "
        "log:LOW:HIGH or choice:VALUE:VALUE"
    )
