"""`WeightDataset`: the states of zoos as items of a dataset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.hyperparameters.declaration import check_whole
from zoojax.weight_datasets import parquet
from zoojax.weight_datasets.arguments import checked_columns, checked_view
from zoojax.weight_datasets.batches import Batches, Draw
from zoojax.weight_datasets.items import Items, item_of, positions_of
from zoojax.weight_datasets.splits import check_fractions, check_split
from zoojax.weight_datasets.statistics import Statistics, check_normalization
from zoojax.weight_datasets.view import View
from zoojax.weight_datasets.worker_memory import share

if TYPE_CHECKING:
    import polars as pl

    from zoojax.storage.zoo import Zoo

FRACTIONS = (0.7, 0.15, 0.15)


class WeightDataset:
    """The states of one or several zoos as a dataset with random access.

    An item is a view of a state (member, epoch), or a pair of this view and a target. `dataset[3]`
    is an item, `dataset[[3, 7]]` a batch, whose arrays are stacked. All arrays are NumPy arrays. It
    is a map-style dataset for PyTorch's DataLoader and a data source for grain. Pickles contain
    only paths, and workers read without JAX.

    The parameters are those that members are evaluated with. States that are not finite, or lack a
    target, are left out. States are ordered by zoo, epoch and member.

    Members are split, not states. The split of a member depends on its seed and hyperparameters,
    and on the argument `seed`, so it stays the same if members are added. Twins are in the split of
    their parents. In a grid whose combinations share their seeds, members with the same seed start
    from the same draws; `split_by="seed"` has them in the same split.

    Attributes:
        view: The view.
        left_out: Number of states that were left out.

    Example:
        >>> dataset = zoojax.WeightDataset(zoo, target="test_acc", epochs=[1, 2], cache="cache")
        >>> x, y = dataset[[0, 3, 4]]
        >>> x.shape, y.shape, dataset.table["member"].to_list()
        ((3, 2464), (3,), [0, 1, 2, 0, 1, 2])
    """

    def __init__(
        self,
        zoos: "Zoo | str | Path | Sequence[Zoo | str | Path]",
        view: str | View = "flat",
        split: str | None = None,
        target: str | Sequence[str] | None = None,
        *,
        epochs: int | Sequence[int] | None = None,
        fractions: Sequence[float] = FRACTIONS,
        seed: int = 0,
        split_by: str | Sequence[str] | None = None,
        published: bool = True,
        normalize: str | None = None,
        permute: bool = False,
        cache: str | Path | None = None,
    ):
        """Creates the dataset, and its files in the cache.

        Args:
            zoos: A zoo or several, or their folders. Views of zoos are also zoos.
            view: "state", "flat", "tokens" or "graph", or a view with options, such as
                `Tokens("sane", size=64, window=32)` of `zoojax.weight_datasets`.
            split: "train", "val" or "test"; None for all members.
            target: Column of `Zoo.metrics` or `Zoo.members` to predict, or several; None for items
                without targets.
            epochs: Epochs, or one epoch; None for all.
            fractions: Shares of training, validation and test members.
            seed: Seed of the split, of permutations and of windows.
            split_by: Column of the members table, such as "seed", or several: members with the same
                values are in the same split. None splits by seed and all hyperparameters.
            published: Whether to use the column `split` of the members table for zoos that were
                published with a split.
            normalize: "layer" or "parameter": subtracts the mean and divides by the standard
                deviation of each layer or parameter over the training states. They are stored with
                the files, and are the same for all splits. None keeps the values.
            permute: Whether to permute hidden units at random, without changing the functions of
                the networks. Each pass of `batches` draws other permutations.
            cache: Folder of the files; None for the user's cache folder. It takes four bytes per
                parameter and state.

        Raises:
            ZoojaxError: If an argument is invalid, the view cannot show a network, the zoos have
                different architectures, the split is empty, or a file cannot be read or written.
        """
        # Imported here, because workers only read, without JAX.
        from zoojax.weight_datasets.build import prepare
        from zoojax.weight_datasets.sides import SplitOptions

        check_split(split)
        check_normalization(normalize)
        self.view = checked_view(view)
        self.split, self._seed = split, check_whole("seed", seed)
        if not 0 <= self._seed < 2**63:
            raise ZoojaxError(f"seed is {seed}; give a number from 0 to 2**63 - 1")
        targets, by = checked_columns("target", target), checked_columns("split_by", split_by)
        shares, needed = check_fractions(fractions), split is not None or normalize is not None
        options = SplitOptions(split, shares, self._seed, published, by, needed)
        prepared = prepare(zoos, self.view, options, targets, epochs, normalize, cache)
        self._items = Items(prepared, self.view, isinstance(target, str), self._seed, permute)
        self._table, self._length = prepared.table, prepared.length
        self.left_out = prepared.left_out

    def __len__(self) -> int:
        return self._length

    def __repr__(self) -> str:
        split = "" if self.split is None else f", {self.split}"
        return f"WeightDataset({self.view}{split}, {len(self)} items)"

    def __iter__(self) -> Iterator[Any]:
        """Yields all items in order.

        Example:
            >>> len(list(zoojax.WeightDataset(zoo, epochs=2, cache="cache")))
            3
        """
        return (self[index] for index in range(len(self)))

    @property
    def table(self) -> "pl.DataFrame":
        """One row per item: zoo, member, epoch, split, and the targets."""
        # Workers need no table.
        from zoojax.filesystem.reading import read_table

        return read_table(self._table)

    @property
    def static(self) -> dict[str, np.ndarray]:
        """Arrays that are the same for all items, such as positions of tokens; of the first zoo."""
        return self._items.static

    @property
    def statistics(self) -> Statistics | None:
        """Mean and standard deviation of the parameters; None without normalization."""
        return self._items.statistics

    def __getitem__(self, index: Any) -> Any:
        """Returns an item, or a batch.

        Args:
            index: A position, several, a slice or a mask; or a `Draw` of them.

        Returns:
            The view of a state, and the target if there is one: a float32 number, or one per
            target. A batch has stacked arrays.

        Raises:
            IndexError: If there is no such item.
            ZoojaxError: If a file was removed or is damaged.

        Example:
            >>> dataset = zoojax.WeightDataset(zoo, permute=True, cache="cache")
            >>> from zoojax.weight_datasets import Draw
            >>> first, second = dataset[Draw(0, 5)], dataset[Draw(1, 5)]
            >>> bool((first == second).all()), bool((np.sort(first) == np.sort(second)).all())
            (False, True)
        """
        is_draw = isinstance(index, Draw)
        number, index = index if is_draw else (0, index)
        if isinstance(index, slice):
            return self._items.batch(np.arange(len(self))[index], number)
        positions = positions_of(index, len(self))
        batch = self._items.batch(np.atleast_1d(positions), number)
        if not positions.ndim:
            return item_of(batch, 0)
        # PyTorch collates items of other indices itself, which needs plain arrays.
        return share(batch) if is_draw else batch

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Returns several items one by one, as PyTorch's DataLoader requests them.

        Example:
            >>> len(zoojax.WeightDataset(zoo, cache="cache").__getitems__([0, 2]))
            2
        """
        batch = self[list(indices)]
        return [item_of(batch, position) for position in range(len(indices))]

    def batches(
        self, size: int, seed: int = 0, *, shuffle: bool = True, drop_last: bool = False
    ) -> Batches:
        """Returns batches of indices, in a new order in each pass.

        Args:
            size: Items per batch.
            seed: Seed of the order.
            shuffle: Whether to shuffle.
            drop_last: Whether to leave out the last batch of a pass if it is smaller.

        Returns:
            An iterable of `Draw`; also a sampler for PyTorch's DataLoader, with `batch_size=None`.

        Raises:
            ZoojaxError: If there are no batches.

        Example:
            >>> dataset = zoojax.WeightDataset(zoo, target="test_acc", cache="cache")
            >>> [dataset[draw][0].shape for draw in dataset.batches(4, seed=1)]
            [(4, 2464), (4, 2464), (1, 2464)]
        """
        return Batches(len(self), size, seed, shuffle=shuffle, drop_last=drop_last)

    def parameters(self, items: Any, zoo: int = 0) -> dict[str, Any]:
        """Converts items back to parameters; undoes the view and the normalization.

        Without normalization, the values are the same bit for bit. Permuted units stay permuted.

        Args:
            items: A batch of items, without targets.
            zoo: Position of the zoo whose architecture the items have.

        Returns:
            Stacked parameters in the structure of `Zoo.params`. Of windows of tokens, the
            parameters of the one state that they cover.

        Raises:
            ZoojaxError: If the items have other shapes, or windows do not cover the state.

        Example:
            >>> tokens = zoojax.WeightDataset(zoo, "tokens", cache="cache")
            >>> params = tokens.parameters(tokens[:3])
            >>> bool((params["conv1"]["kernel"] == zoo.params(0)["conv1"]["kernel"]).all())
            True
        """
        return self._items.parameters(items, zoo)

    def to_parquet(self, folder: str | Path) -> Path:
        """Writes the items to a Parquet file, which Hugging Face's `datasets` reads.

        The file is `train.parquet`, `val.parquet` or `test.parquet`, or `all.parquet` without a
        split, so that `datasets.load_dataset("parquet", data_dir=folder)` finds the splits. Its
        columns are zoo, member, epoch, split, the targets, and one column per array of the view.

        Args:
            folder: The folder; created if it does not exist.

        Returns:
            The file.

        Raises:
            ZoojaxError: If the file exists, or cannot be written.

        Example:
            >>> file = zoojax.WeightDataset(zoo, cache="cache").to_parquet("export")
            >>> pl.read_parquet(file)["weights"].dtype
            Array(Float32, shape=(2464,))
        """
        return parquet.write(self, folder, "all" if self.split is None else self.split)
