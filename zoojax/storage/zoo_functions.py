"""What the members of a zoo compute, and saving: methods of `zoojax.storage.zoo.Zoo`.

The functions that they call are in higher layers, and imported when they are called.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from zoojax.architectures.base import Module
from zoojax.architectures.units import Shrunk, shrink
from zoojax.filesystem.paths import user_path
from zoojax.runtime.population import take
from zoojax.storage.blocks import read_rows
from zoojax.storage.states import COLLECTIONS, effective_params
from zoojax.storage.zoo_access import ZooAccess

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo


class ZooFunctions(ZooAccess):
    """Methods of `Zoo` that run its members, and `save`."""

    def module(self, member: int, epoch: int | None = None) -> tuple[Module, dict[str, Any]]:
        """Returns one member as a Flax module with its variables.

        Args:
            member: Id of the member.
            epoch: Epoch to read; None for the newest.

        Returns:
            (module, variables): `module.apply(variables, images)` computes the logits
            [n, classes] of normalized images [n, height, width, channels]. The parameters are
            those of `sparse_params`.

        Raises:
            ZoojaxError: If there is no such member or epoch, or its files are damaged.

        Example:
            >>> module, variables = zoo.module(0)
            >>> module.apply(variables, np.zeros((5, 28, 28, 1), np.float32)).shape
            (5, 10)
        """
        zoo = cast("Zoo", self)
        rows = zoo.row_indices([member])
        row = int(rows[0])

        def used(state: dict[str, Any]) -> dict[str, Any]:
            params = effective_params(zoo.config, state)
            return {"params": params, **state.get(COLLECTIONS, {})}

        variables = take(read_rows(zoo, epoch, rows, used), 0)
        activation, init = zoo.members_table.select("activation", "init").row(row)
        module = zoo.config.shape.module(activation, init)
        return module, variables

    def shrunk(self, member: int, epoch: int | None = None) -> Shrunk:
        """Returns one member as a smaller dense network, without its unused hidden units.

        Twins of `StructuredPruning` have such units. The logits stay the same, except for
        rounding.

        Args:
            member: Id of the member.
            epoch: Epoch to read; None for the newest.

        Returns:
            (architecture, params, collections) of the smaller network.

        Raises:
            ZoojaxError: If there is no such member or epoch, its files are damaged, or the
                architecture has no permutation groups or cannot be described with fewer units.

        Example:
            >>> small = zoo.shrunk(0)  # a dense member uses all of its units
            >>> small.architecture == zoo.config.shape, small.size
            (True, 2464)
            >>> module = small.architecture.module("tanh", "uniform")
            >>> variables = {"params": small.params, **small.collections}
            >>> module.apply(variables, np.zeros((5, 28, 28, 1), np.float32)).shape
            (5, 10)
        """
        zoo = cast("Zoo", self)
        _, variables = self.module(member, epoch)
        collections = {name: tree for name, tree in variables.items() if name != "params"}
        return shrink(zoo.config.shape, variables["params"], collections)

    def apply(
        self, images: Any, epoch: int | None = None, members: Sequence[int] | None = None
    ) -> np.ndarray:
        """Computes logits with all members; see `zoojax.apply`.

        Example:
            >>> zoo.apply(np.zeros((5, 28, 28, 1), np.float32), members=[2]).shape
            (1, 5, 10)
        """
        from zoojax.api import inference

        return inference.apply(cast("Zoo", self), images, epoch, members)

    def predict(
        self, images: Any, epoch: int | None = None, members: Sequence[int] | None = None
    ) -> np.ndarray:
        """Predicts classes with all members; see `zoojax.predict`.

        Example:
            >>> zoo.predict(np.zeros((5, 28, 28, 1), np.float32)).shape
            (3, 5)
        """
        from zoojax.api import inference

        return inference.predict(cast("Zoo", self), images, epoch, members)

    def evaluate(
        self,
        data: Any = None,
        epoch: int | None = None,
        *,
        members: Sequence[int] | None = None,
        data_dir: str | Path | None = None,
    ) -> pl.DataFrame:
        """Evaluates the members; see `zoojax.evaluate`.

        Example:
            >>> zoo.evaluate(epoch=1).select("member", "test_acc").shape
            (3, 2)
        """
        from zoojax.api import inference

        return inference.evaluate(
            cast("Zoo", self), data, epoch, members=members, data_dir=data_dir
        )

    def save(self, out: str | Path) -> "Zoo":
        """Writes the zoo to a folder, for example one that was trained in memory.

        Args:
            out: Folder of the copy: new, empty, or of the same zoo if saving was interrupted.

        Returns:
            The zoo in the folder.

        Raises:
            ZoojaxError: The folder holds something else, or writing failed.

        Example:
            >>> copy = zoo.save("copy")
            >>> copy.fingerprint == zoo.fingerprint
            True
        """
        from zoojax.storage.writer import save

        return save(cast("Zoo", self), user_path(out, "out"))
