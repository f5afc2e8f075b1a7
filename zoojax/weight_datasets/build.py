"""Creates the files of a dataset from zoos."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zoojax.architectures.base import Architecture, vector_layout
from zoojax.architectures.permuted_axes import PermutationGroup
from zoojax.architectures.vectors import PARAMS, VectorLayout
from zoojax.errors import ZoojaxError
from zoojax.storage.opening import as_zoo
from zoojax.storage.states import COLLECTIONS, effective_params
from zoojax.storage.stores import STATES
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_access import parameter_order
from zoojax.text import printable
from zoojax.weight_datasets import cache as files
from zoojax.weight_datasets.items import shapes_of
from zoojax.weight_datasets.reading import Prepared, Samples, Source
from zoojax.weight_datasets.sampling import OWN_COLUMNS, sample_table
from zoojax.weight_datasets.sides import SplitOptions
from zoojax.weight_datasets.statistics import compute_statistics
from zoojax.weight_datasets.view import Drawn, View

# States that statistics read at once.
_BLOCK = 4096


@dataclass(frozen=True)
class ArchitectureNetwork:
    """A network as views see it.

    Attributes:
        arch: Its architecture.
    """

    arch: Architecture

    @property
    def name(self) -> str:
        """Name of the architecture."""
        return printable(self.arch.name, 60)

    @property
    def layout(self) -> VectorLayout:
        """Where the values of a state are in its vector."""
        return vector_layout(self.arch)

    @property
    def unit_groups(self) -> tuple[PermutationGroup, ...]:
        """Axes that hold the same hidden units."""
        return self.arch.unit_groups

    def order(self, layout: str) -> np.ndarray:
        """Returns the positions in the vector of the parameters in a layout's order."""
        order = parameter_order(self.arch, layout)
        return np.arange(self.layout.parameters) if order is None else order


def prepare(
    zoos: Any,
    view: View,
    options: SplitOptions,
    targets: Sequence[str],
    epochs: Any,
    normalize: str | None,
    cache: Any,
) -> Prepared:
    """Creates the files of a dataset, unless they exist.

    Args:
        zoos: A zoo or several, or their folders.
        view: The view.
        options: How members are split, and which split is selected.
        targets: Columns of the targets.
        epochs: Epochs, one epoch, or None for all.
        normalize: Normalization, or None.
        cache: Folder of the files; None for the user's cache.

    Raises:
        ZoojaxError: If this dataset cannot be created from the zoos.
    """
    opened = _opened(zoos)
    tables = sample_table(opened, options, targets, epochs)
    networks = [ArchitectureNetwork(zoo.config.shape) for zoo in opened]
    plans = [view.plan(network) for network in networks]
    _check_same_shapes(opened, networks, view, plans)
    if normalize is not None:
        _check_same_parameters(opened, networks)
    folder = files.cache_folder(cache)
    sources = tuple(
        _source(zoo, network, plan, tables.epochs[position], folder)
        for position, (zoo, network, plan) in enumerate(zip(opened, networks, plans, strict=True))
    )
    selected = tables.selected
    arrays = {
        "source": selected["_zoo"].to_numpy().astype(np.int32),
        "row": selected["_row"].to_numpy().astype(np.int64),
        "key": _keys(selected),
        "target": _targets(selected, targets),
    }
    shown = selected.select(list(dict.fromkeys((*OWN_COLUMNS, *targets))))
    paths = [str(source.file) for source in sources]
    facts = [shown.columns, paths, [str(zoo.path) for zoo in opened], shown["split"].to_list()]
    name = files.digest("samples", *facts, *arrays.values())
    samples = Samples(folder / f"samples-{name}.npz")
    files.cached_arrays(samples.file, lambda: arrays)
    table = folder / f"table-{name}.parquet"
    files.cached_table(table, shown)
    statistics = None
    if normalize is not None:
        statistics = _statistics(sources, tables.training, normalize, folder)
    return Prepared(sources, samples, table, statistics, len(selected), tables.left_out)


def _targets(selected: pl.DataFrame, targets: Sequence[str]) -> np.ndarray:
    """[states, targets] float32."""
    columns = [selected[target].to_numpy().astype(np.float32) for target in targets]
    return np.stack(columns, axis=1) if columns else np.empty((len(selected), 0), np.float32)


def _keys(selected: pl.DataFrame) -> np.ndarray:
    """What identifies states in random draws: zoo, member and epoch, [states] uint64."""
    zoo, member, epoch = (
        selected[name].to_numpy().astype(np.uint64) for name in ("_zoo", "member", "epoch")
    )
    return (zoo << np.uint64(58)) ^ (member << np.uint64(27)) ^ epoch


def _opened(zoos: Any) -> list[Zoo]:
    """The zoos that a user passes."""
    # A zoo is also iterable: over its members.
    several = isinstance(zoos, Sequence) and not isinstance(zoos, str)
    opened = [as_zoo(zoo, "zoos") for zoo in (zoos if several else [zoos])]
    if not opened:
        raise ZoojaxError("there are no zoos; give one or several")
    return opened


def _check_same_shapes(
    zoos: list[Zoo], networks: list[ArchitectureNetwork], view: View, plans: list[dict]
) -> None:
    """Checks that the items of all zoos can be stacked."""
    shapes = []
    for network, plan in zip(networks, plans, strict=True):
        vectors = np.zeros((1, network.layout.size), np.float32)
        shapes.append(shapes_of(view.items(Drawn(vectors, network.layout, np.zeros(1)), plan)))
    for zoo, network, shape in zip(zoos, networks, shapes, strict=True):
        if shape != shapes[0]:
            raise ZoojaxError(
                f"{zoos[0].path} ({networks[0].name}) and {zoo.path} ({network.name}) have "
                f"items of different shapes in the view {view.name}; create one dataset per "
                "architecture, or take windows of tokens"
            )


def _check_same_parameters(zoos: list[Zoo], networks: list[ArchitectureNetwork]) -> None:
    """Checks that statistics of parameters apply to all zoos."""
    for zoo, network in zip(zoos, networks, strict=True):
        if network.layout.params != networks[0].layout.params:
            raise ZoojaxError(
                f"{zoos[0].path} ({networks[0].name}) and {zoo.path} ({network.name}) have "
                "different parameters, and no common statistics; use normalize=None"
            )


def _source(
    zoo: Zoo, network: ArchitectureNetwork, plan: dict, epochs: list[int], folder: Path
) -> Source:
    """Writes the states of a zoo, epoch by epoch, and the plan of the view."""
    layout = network.layout
    shape = len(epochs) * len(zoo), layout.size
    ids = zoo.members_table["id"].to_list()
    states = [zoo.store.digest(STATES, epoch) for epoch in epochs]
    name = files.digest("weights", zoo.fingerprint, ids, epochs, states)
    file = folder / f"weights-{name}.npy"

    def write(matrix: np.ndarray) -> None:
        for position, epoch in enumerate(epochs):
            start = position * len(zoo)
            for block in zoo.row_blocks(epoch):
                state = zoo.state(epoch, rows=block)
                params = effective_params(zoo.config, state)
                variables = {PARAMS: params, **state.get(COLLECTIONS, {})}
                matrix[start + block.start : start + block.stop] = layout.flatten(variables)

    files.cached_matrix(file, shape, write)
    plan_file = (
        folder / f"plan-{files.digest(sorted(plan), *dict(sorted(plan.items())).values())}.npz"
    )
    files.cached_arrays(plan_file, lambda: plan)
    return Source(file, shape[0], layout, plan_file)


def _statistics(
    sources: tuple[Source, ...], training: pl.DataFrame, normalize: str, folder: Path
) -> Path:
    """Computes the statistics of all training states."""
    if training.is_empty():
        raise ZoojaxError("there are no training states to normalize with; use normalize=None")
    rows = [training.filter(_zoo=position)["_row"].to_numpy() for position in range(len(sources))]

    def blocks() -> Iterator[np.ndarray]:
        for source, own in zip(sources, rows, strict=True):
            for start in range(0, len(own), _BLOCK):
                yield source.matrix[own[start : start + _BLOCK], : source.layout.parameters]

    names = [source.file.name for source in sources]
    file = folder / f"statistics-{files.digest(normalize, names, *rows)}.npz"
    files.cached_arrays(
        file, lambda: compute_statistics(blocks, sources[0].layout, normalize)._asdict()
    )
    return file
