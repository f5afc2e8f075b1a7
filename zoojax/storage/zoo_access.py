"""Methods of `zoojax.storage.zoo.Zoo` that select members, and return vectors and tables."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from zoojax.architectures.base import vector_layout
from zoojax.architectures.vectors import inverse_order
from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.storage import display
from zoojax.storage.expressions import select_rows
from zoojax.storage.states import effective_params
from zoojax.storage.views import RowsStore, row_positions
from zoojax.text import printable

if TYPE_CHECKING:
    import pandas
    import xarray

    from zoojax.architectures.base import Architecture
    from zoojax.storage.zoo import Zoo

LAYOUTS = ("flax", "torch")


class ZooAccess:
    """Methods of `Zoo` that select members, and return vectors and tables."""

    def __getitem__(self, rows: Any) -> "Zoo":
        """Selects rows of the members table.

        Args:
            rows: A row, a slice, a list of rows, or a mask with one bool per member. Negative rows
                count from the end.

        Returns:
            A view of these members, without copies. It has the fingerprint of the whole zoo, so
            twins of it are twins of the zoo.

        Raises:
            ZoojaxError: If there is no such row, no row is selected, or a row is selected twice.

        Example:
            >>> zoo[1:].members["id"].to_list(), zoo[[2, 0]].members["id"].to_list()
            ([1, 2], [2, 0])
        """
        zoo = cast("Zoo", self)
        positions = row_positions(zoo.path, len(zoo), rows)
        return type(zoo)(RowsStore(zoo.store, zoo.members_table, positions), zoo.config)

    def __iter__(self) -> Iterator["Zoo"]:
        """Yields a view of each member, in the order of the members table.

        Example:
            >>> [one.members["seed"].item() for one in zoo]
            [1, 2, 3]
        """
        return (self[row] for row in range(len(cast("Zoo", self))))

    def filter(self, condition: Any = None, *, epoch: int | None = None, **equal: Any) -> "Zoo":
        """Selects members by a condition on the columns of `members` and on metrics.

        Args:
            condition: A text such as "test_acc > 0.8 and optimizer in ('adam', 'sgd')", an
                expression of polars, a function of the table, or one bool per member. Text is
                parsed, never evaluated as Python.
            epoch: Epoch of the metrics; None for the newest.
            **equal: Values that columns must have.

        Returns:
            A view of the members, as `zoo[rows]` returns it.

        Raises:
            ZoojaxError: If the condition is invalid, or no member meets it.

        Example:
            >>> zoo.filter("seed in (1, 3) and test_acc >= 0").members["seed"].to_list()
            [1, 3]
            >>> len(zoo.filter(seed=2)), len(zoo.filter(pl.col("seed") > 1))
            (1, 2)
        """
        zoo = cast("Zoo", self)
        table = self._with_metrics(epoch)
        selected = pl.Series([True] * len(table))
        if condition is not None:
            selected &= select_rows(table, condition)
        for name, value in equal.items():
            if name not in table.columns:
                known = printable(", ".join(table.columns), 600)
                raise ZoojaxError(f"{zoo.path} has no column {printable(name, 40)}; it has {known}")
            selected &= select_rows(table, _equals(name, value))
        if not selected.any():
            shown = printable(condition if condition is not None else equal, 80)
            raise ZoojaxError(f"no member of {zoo.path} meets the condition {shown}")
        return self[selected.to_numpy()]

    def _with_metrics(self, epoch: int | None) -> pl.DataFrame:
        """The members with their metrics at an epoch, if the zoo has any."""
        zoo = cast("Zoo", self)
        if epoch is None and not zoo.epochs:
            return zoo.members
        metrics = zoo.metrics.filter(epoch=zoo.known_epoch(epoch)).drop("epoch")
        return zoo.members.join(
            metrics, left_on="id", right_on="member", how="left", maintain_order="left"
        )

    def known_epoch(self, epoch: int | None) -> int:
        """Returns an epoch that the zoo has: the given one, or the newest for None.

        Raises:
            ZoojaxError: If the zoo has no such epoch.

        Example:
            >>> zoo.known_epoch(None)
            2
        """
        zoo = cast("Zoo", self)
        newest = zoo.newest_epoch
        epoch = newest if epoch is None else epoch
        check_whole("epoch", epoch)
        if epoch not in zoo.epochs:
            known = display.epoch_range(zoo.epochs)
            raise ZoojaxError(f"{zoo.path} has no epoch {epoch}; it has {known}")
        return epoch

    def flat(self, epoch: int | None = None, layout: str = "flax") -> np.ndarray:
        """Reads the parameters of an epoch as one vector per member.

        The parameters are those of `sparse_params`.

        Args:
            epoch: Epoch to read; None for the newest.
            layout: "flax": the arrays in the order of `Architecture.parameter_shapes`, each in
                row-major order. "torch": the tensors of PyTorch's `state_dict`, in its order and
                with its axes.

        Returns:
            [members, parameters] float32.

        Raises:
            ZoojaxError: If there is no such epoch, its files are damaged, or PyTorch's layout of
                the architecture is unknown.

        Example:
            >>> zoo.flat(2).shape
            (3, 2464)
        """
        zoo = cast("Zoo", self)
        arch = zoo.config.shape
        order = parameter_order(arch, layout)
        params = effective_params(zoo.config, zoo.state(epoch))
        joined = vector_layout(arch).flatten({"params": params})
        return joined if order is None else np.take(joined, order, axis=1)

    def unflatten(self, vectors: Any, layout: str = "flax") -> dict[str, Any]:
        """Inverts `flat`.

        Args:
            vectors: [members, parameters], or [parameters] of one member.
            layout: The layout of the vectors.

        Returns:
            Parameters in the structure of `params`, with the leading axis of the vectors.

        Raises:
            ZoojaxError: If the vectors have another length, or the layout is unknown.

        Example:
            >>> params = zoo.unflatten(zoo.flat(2))
            >>> bool((params["fc1"]["kernel"] == zoo.params(2)["fc1"]["kernel"]).all())
            True
        """
        arch = cast("Zoo", self).config.shape
        order = parameter_order(arch, layout)
        array, network = np.asarray(vectors), vector_layout(arch)
        length = array.shape[-1] if array.ndim else 0
        if length != network.parameters:
            raise ZoojaxError(
                f"vectors of {length} values; the {arch.label} has {network.parameters} parameters"
            )
        if order is not None:
            array = np.take(array, inverse_order(order), axis=-1)
        return network.unflatten(array)["params"]

    def to_pandas(self) -> "pandas.DataFrame":
        """Returns one row per member and epoch: the metrics and the columns of `members`.

        Raises:
            ZoojaxError: If pandas is not installed.

        Example (with pandas):
            >>> zoo.to_pandas().groupby("epoch")["test_acc"].mean()  # doctest: +SKIP
        """
        _require("pandas")
        return self._long_table().to_pandas()

    def to_xarray(self) -> "xarray.Dataset":
        """Returns the metrics with the dimensions member and epoch.

        The columns of `members` are coordinates of the dimension member.

        Raises:
            ZoojaxError: If xarray is not installed.

        Example (with xarray):
            >>> zoo.to_xarray()["test_acc"].sel(epoch=2)  # doctest: +SKIP
        """
        _require("xarray")
        import xarray

        zoo = cast("Zoo", self)
        members, epochs, metrics = zoo.members, zoo.epochs, zoo.metrics
        ids = members["id"].to_list()
        grid = pl.DataFrame({"member": ids}).join(pl.DataFrame({"epoch": epochs}), how="cross")
        full = grid.join(metrics, on=["member", "epoch"], how="left", maintain_order="left")
        shape = len(ids), len(epochs)
        variables = {
            name: (("member", "epoch"), full[name].to_numpy().reshape(shape))
            for name in metrics.columns
            if name not in ("member", "epoch")
        }
        columns = {
            name: ("member", members[name].to_numpy()) for name in members.columns if name != "id"
        }
        coords = {"member": ids, "epoch": epochs, **columns}
        return xarray.Dataset(variables, coords=coords)

    def _long_table(self) -> pl.DataFrame:
        zoo = cast("Zoo", self)
        return zoo.metrics.join(
            zoo.members, left_on="member", right_on="id", how="left", maintain_order="left"
        )


def _equals(column: str, value: Any) -> pl.Expr:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, int | float | str | None):
        raise ZoojaxError(
            f"{column} is compared with {printable(value, 60)}; give a number, a text or None"
        )
    return pl.col(column).is_null() if value is None else pl.col(column) == value


def parameter_order(arch: "Architecture", layout: object) -> np.ndarray | None:
    """Returns the positions in Flax's vector of the parameters in the order of a layout.

    Args:
        arch: The architecture.
        layout: A name of `LAYOUTS`.

    Returns:
        [parameters]; None for the same order.

    Raises:
        ZoojaxError: If the layout is unknown, or that of PyTorch for this architecture is.
    """
    if layout not in LAYOUTS:
        raise ZoojaxError(f"no layout {printable(layout, 40)}; there are: {', '.join(LAYOUTS)}")
    if layout == "flax":
        return None
    # Imported here, since PyTorch's layouts are in a higher layer.
    from zoojax.weight_datasets.torch_order import torch_order

    return torch_order(arch)


def _require(package: str) -> None:
    if find_spec(package) is None:
        raise ZoojaxError(f"this needs {package}; install it with: pip install 'zoojax[tables]'")
