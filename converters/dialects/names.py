"""Prefixes of wrapping modules, and the counter of averaged models."""

from typing import Any, ClassVar

import numpy as np

from zoojax.converters.dialects.base import Arrays, Dialect, Draft

# DataParallel and DDP, torch.compile, and attributes of wrapping modules.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "classifier.", "backbone.")
_MAX_NESTING = 8


class Prefix(Dialect):
    """A prefix of all names: "module.", "_orig_mod.", "model.", also nested.

    Names without a dot, such as "n_averaged", belong to the wrapping module. A network whose
    layers are named "module.0" and "head.0" has no prefix.
    """

    name: ClassVar = "prefix"

    def read(self, draft: Draft) -> None:
        """Strips the prefix."""
        prefix = ""
        for _ in range(_MAX_NESTING):
            dotted = [name for name in draft.arrays if "." in name[len(prefix) :]]
            first = next((name[len(prefix) :] for name in dotted), "")
            found = next((each for each in _PREFIXES if first.startswith(each)), None)
            # The rest must name a layer: in "module.0.weight", "module.0" may be a layer.
            if found is None or not all(
                name.startswith(prefix + found) and "." in name[len(prefix + found) :]
                for name in dotted
            ):
                break
            prefix += found
        if prefix:
            draft.arrays = {name.removeprefix(prefix): a for name, a in draft.arrays.items()}
            draft.records.append((self.name, {"prefix": prefix}))

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Adds the prefix."""
        prefix = str(facts["prefix"])
        return {(prefix + name if "." in name else name): a for name, a in arrays.items()}


class AverageCounter(Dialect):
    """The counter `n_averaged` of torch.optim.swa_utils.AveragedModel."""

    name: ClassVar = "n_averaged"

    def read(self, draft: Draft) -> None:
        """Removes the counter and keeps it."""
        counter = draft.arrays.get(self.name)
        if counter is not None and counter.shape == () and counter.dtype.kind == "i":
            draft.keep(self.name)
            draft.records.append((self.name, {}))

    def undo(self, arrays: Arrays, facts: dict[str, Any], kept: Arrays) -> Arrays:
        """Puts the counter back."""
        return {self.name: np.asarray(kept[self.name]), **arrays}
