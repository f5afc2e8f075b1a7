"""Numbers that trials report, by epoch: read from any type, shares converted to fractions.

A row keeps what was reported, infinite and absurd numbers included; `Reports` says what of it
a zoo's metrics take.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MEASURED = ("train_loss", "train_acc", "val_loss", "val_acc", "test_loss", "test_acc")
_ACCURACIES = tuple(name for name in MEASURED if name.endswith("_acc"))
_SHARES = (*_ACCURACIES, "sparsity_ratio")
KNOWN = (*MEASURED, "ggap", "sparsity_ratio")
# What counts epochs in a report, the first that a file has.
EPOCH_KEYS = ("training_iteration", "epoch")
LAST_EPOCH = 10**8

# Fractions are hardly above 1, and percentages of a trained network hardly below 1.5.
_LEAST_PERCENT = 1.5
_LARGEST = 3.4e38  # of float32
_LONGEST = 64
_ROUNDING = 1e-6

Row = dict[str, float]


def number(value: object) -> float | None:
    """A number out of JSON, CSV or a pickle, possibly infinite or NaN; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _LONGEST:
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf


def whole(value: object, most: int) -> int | None:
    """An integer from 0 to `most`, which 1.0 and "1" are too; None if it is none."""
    found = number(value)
    if found is None or not 0 <= found <= most or found != int(found):
        return None
    return int(found)


def row(report: Mapping[str, Any]) -> Row:
    """The known numbers of a report."""
    return {name: found for name in KNOWN if (found := number(report.get(name))) is not None}


def is_finite(values: Row) -> bool:
    """Whether all numbers of a row are finite as float32."""
    return all(abs(value) <= _LARGEST for value in values.values())


@dataclass(frozen=True)
class Reports:
    """How the rows of a zoo are to be read.

    Attributes:
        percent: names of the shares that the zoo reports in percent.
    """

    percent: frozenset[str]

    @staticmethod
    def of(rows: Iterable[Row]) -> "Reports":
        """Finds the shares that are in percent: most of those above 0 are above 1.5, up to 100.

        Most, and not any: a single absurd number does not rescale a zoo.
        """
        above, positive = dict.fromkeys(_SHARES, 0), dict.fromkeys(_SHARES, 0)
        for values in rows:
            for name in _SHARES:
                value = values.get(name, 0.0)
                positive[name] += 0 < value <= 100
                above[name] += _LEAST_PERCENT < value <= 100
        percent = {name for name in _SHARES if above[name] and 2 * above[name] >= positive[name]}
        # Without accuracies of its own the gap is in their unit.
        return Reports(frozenset(percent | ({"ggap"} if percent & {*_ACCURACIES} else set())))

    def value(self, values: Row, name: str) -> float:
        """A number as metrics hold it; NaN if it is unknown, infinite or outside its range."""
        value = values.get(name, math.nan)
        if name in self.percent:
            value /= 100
        if name in _SHARES or name == "ggap":
            least = -1 if name == "ggap" else 0
            if not least - _ROUNDING <= value <= 1 + _ROUNDING:
                return math.nan
            return min(max(value, least), 1)
        return value if abs(value) <= _LARGEST else math.nan

    def notes(self, rows: Iterable[Row]) -> list[str]:
        """What is left out of a member's rows, in words; empty if nothing is."""
        infinite = outside = 0
        for values in rows:
            for name, value in values.items():
                if not abs(value) <= _LARGEST:
                    infinite += 1
                elif math.isnan(self.value(values, name)):
                    outside += 1
        found = []
        if infinite:
            found.append(f"{infinite} reported number(s) that are not finite are left out")
        if outside:
            found.append(f"{outside} reported share(s) outside 0 to 1 are left out")
        return found

    def summary(self) -> list[str]:
        """One line on shares in percent, for the user; empty if there are none."""
        names = [name for name in KNOWN if name in self.percent]
        return [f"{', '.join(names)}: reported in percent, kept as fractions"] if names else []
