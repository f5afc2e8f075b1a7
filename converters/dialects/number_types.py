"""Types of numbers other than float32."""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from zoojax.converters.dialects.base import Arrays, Dialect, Draft
from zoojax.converters.inert import UnsafePickleError, shorten
from zoojax.converters.layouts.normalizations import COUNTER

_FLOAT32 = np.dtype(np.float32)
_EXACT = ":float64"  # Suffix of the names of kept tensors that were rounded.
_FLOATS = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(jnp.bfloat16),
    "float64": np.dtype(np.float64),
}
_RESTORED = {"float32": _FLOAT32, **_FLOATS}


class NumberTypes(Dialect):
    """Half precision, which float32 holds exactly, and double precision.

    Other dialects and the layouts read integers and bools.
    """

    name: ClassVar = "types"

    def read(self, draft: Draft) -> None:
        """Converts floating-point numbers to float32."""
        types = {}
        for name, array in draft.arrays.items():
            if array.dtype == _FLOAT32 or array.dtype.kind in "biu":
                continue
            kind = array.dtype.name
            if kind not in _FLOATS:
                raise UnsafePickleError(f"{shorten(name)} is {kind}, which a zoo cannot hold")
            with np.errstate(over="ignore", invalid="ignore", under="ignore"):
                converted = array.astype(np.float32)
            if kind == "float64":
                self._check_rounding(draft, name, array, converted)
            types[name] = kind
            draft.arrays[name] = converted
        if types:
            shared = set(types.values())
            same = len(shared) == 1 and all(n in types for n in draft.arrays)
            draft.records.append((self.name, {"all": shared.pop()} if same else {"each": types}))

    def _check_rounding(
        self, draft: Draft, name: str, array: np.ndarray, converted: np.ndarray
    ) -> None:
        """Counts rounded values; NaN of any bits count as equal."""
        changed = ~((converted.astype(np.float64) == array) | np.isnan(array))
        count = int(changed.sum())
        if count and not draft.options.cast:
            raise UnsafePickleError(
                f"{shorten(name)} is float64, and {count} of its values do not fit into float32; "
                "--cast rounds them"
            )
        if not np.isfinite(converted[np.isfinite(array)]).all():
            raise UnsafePickleError(f"{shorten(name)} has values beyond the range of float32")
        if count:
            draft.kept[f"{name}{_EXACT}"] = array
        draft.rounded += count

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Converts the numbers back."""
        types = facts.get("each") or {name: facts["all"] for name in arrays}
        restored = dict(arrays)
        for name in types.keys() & arrays.keys():
            exact = kept.get(f"{name}{_EXACT}")
            if exact is not None:
                if not np.array_equal(exact.astype(np.float32), arrays[name], equal_nan=True):
                    raise ValueError(f"{name} differs from its float64 values")
                restored[name] = exact
            else:
                restored[name] = arrays[name].astype(_FLOATS[types[name]])
        return restored


class FloatCounters(Dialect):
    """Counters of batches that were cast to floating-point numbers, as by RPG and p-diff."""

    name: ClassVar = "float_counters"

    def read(self, draft: Draft) -> None:
        """Converts whole numbers back to integers."""
        types = {}
        for name, array in draft.arrays.items():
            if not name.endswith(f".{COUNTER}") or array.dtype.name not in _RESTORED:
                continue
            counts = array.astype(np.int64) if np.isfinite(array).all() else None
            if counts is not None and np.array_equal(counts.astype(array.dtype), array):
                types[name] = array.dtype.name
                draft.arrays[name] = counts
        if types:
            draft.records.append((self.name, {"types": types}))

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Casts the counters back."""
        types = facts["types"]
        cast = {name: arrays[name].astype(_RESTORED[kind]) for name, kind in types.items()}
        return {name: cast.get(name, array) for name, array in arrays.items()}
