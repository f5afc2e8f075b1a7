"""Verifies a conversion: compares a zoo with the torch files that it was converted from."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from zoojax.architectures.base import Architecture, logits
from zoojax.converters.common_network import inspect_newest, signature
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import State, StateDictInfo, infer_network, to_torch
from zoojax.converters.zoo_to_torch import rows_with_states, to_tensors
from zoojax.errors import ZoojaxError
from zoojax.runtime import population
from zoojax.storage.states import COLLECTIONS, effective_params
from zoojax.storage.zoo import Zoo


class Verification(NamedTuple):
    """The result of a verification.

    Attributes:
        states: Number of states compared.
        images: Number of images that both networks were run on.
        difference: Largest difference between two logits of a state, as a share of its largest
            logit.
        worst: Place of the state with this difference.
        unequal: Places of states whose arrays are not equal bit for bit.
        missing: Places of states that the zoo does not have.
    """

    states: int
    images: int
    difference: float
    worst: str
    unequal: list[str]
    missing: list[str]


def verify(
    zoo: Zoo,
    sources: Sequence[Source],
    images: np.ndarray,
    *,
    sample: int | None = 100,
    report: Callable[[int, int], None] | None = None,
) -> Verification:
    """Reads states again through torch and compares their arrays and logits with the zoo's.

    Both networks run in double precision, so that differences are not due to rounding.

    Args:
        zoo: The converted zoo.
        sources: The sources it was converted from.
        images: Images for both networks, [n, size, size, channels].
        sample: The number of states to compare, evenly spread; None for all.
        report: Progress callback, called with the number of states compared and their total.

    Raises:
        ZoojaxError: If the zoo was not converted, has no states in common with the sources,
            a source has another network or sparsifier than the zoo, or no torch format is
            known for the sparsifier of the zoo.
    """
    if "trial" not in zoo.members_table.columns:
        raise ZoojaxError(f"{zoo.path} was not converted from torch")
    row_of = {trial: row for row, trial in enumerate(zoo.members_table["trial"])}
    for source in sources:
        if source.name in row_of:
            inspect_newest(source)  # May find the epochs of its states.
    states, missing = _match_states(zoo, sources, row_of)
    if not states:
        raise ZoojaxError(f"{zoo.path} has no states in common with the source")
    if sample is not None and sample < len(states):
        indices = np.linspace(0, len(states) - 1, sample).round().astype(int)
        states = [states[i] for i in np.unique(indices)]
    states.sort(key=lambda state: (state[1], row_of[state[0].name]))
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    difference, worst, unequal = -1.0, "", []
    for done, (source, epoch, row, tree, params) in enumerate(_load(zoo, states, row_of), start=1):
        place = source.places[epoch]
        activation = zoo.members_table["activation"][row_of[source.name]]
        state = source.states[epoch]()
        info = infer_network(state)
        expected = StateDictInfo(zoo.config.shape, zoo.config.sparsifier, info.prefixes)
        if signature(info) != signature(expected):
            raise ZoojaxError(f"{place} has another network or sparsifier than the zoo")
        converted = to_torch(population.take(tree, row), info)
        if not all(np.array_equal(_bits(converted[name]), _bits(state[name])) for name in state):
            unequal.append(place)
        expected_logits = _torch_logits(state, info, activation, x)
        variables = {"params": params, **tree.get(COLLECTIONS, {})}
        logits = _flax_logits(population.take(variables, row), info, activation, images)
        gap = float(np.abs(logits - expected_logits).max() / (np.abs(expected_logits).max() or 1))
        # Negated, so that NaN counts as a difference.
        if not gap <= difference:
            difference, worst = gap, place
        if report is not None:
            report(done, len(states))
    return Verification(len(states), len(images), difference, worst, unequal, missing)


def _match_states(
    zoo: Zoo, sources: Sequence[Source], row_of: dict[str, int]
) -> tuple[list[tuple[Source, int]], list[str]]:
    """The states of the zoo's members in the sources: those in the zoo, and places of others."""
    existing = {(row, epoch) for epoch, rows in rows_with_states(zoo).items() for row in rows}
    states, missing = [], []
    for source in sources:
        for epoch in sorted(source.states) if source.name in row_of else ():
            if (row_of[source.name], epoch) in existing:
                states.append((source, epoch))
            else:
                missing.append(source.places[epoch])
    return states, missing


def _load(
    zoo: Zoo, states: list[tuple[Source, int]], row_of: dict[str, int]
) -> Iterator[tuple[Source, int, int, dict[str, Any], dict[str, Any]]]:
    """States with the zoo's raw and evaluated trees of their block, and their rows in it.

    Each block is read once: the states are sorted by epoch and row.
    """
    loaded, block, tree, params = None, slice(0), {}, {}
    for source, epoch in states:
        row = row_of[source.name]
        if epoch != loaded or row >= block.stop:
            block = next(each for each in zoo.row_blocks(epoch) if row < each.stop)
            loaded, tree = epoch, zoo.state(epoch, raw=True, rows=block)
            params = effective_params(zoo.config, zoo.state(epoch, rows=block))
        yield source, epoch, row - block.start, tree, params


def _flax_logits(
    variables: dict[str, Any], info: StateDictInfo, activation: str, images: np.ndarray
) -> np.ndarray:
    """Logits of a member as zoojax evaluates it, in double precision."""
    logits = _logits_program(info.architecture, activation)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda x: np.asarray(x, np.float64), variables)
        return np.asarray(logits(exact, images.astype(np.float64)))


@functools.cache
def _logits_program(architecture: Architecture, activation: str) -> Callable[..., jax.Array]:
    """The compiled function (variables, images) -> logits."""
    model = architecture.module(activation, "uniform")
    return jax.jit(lambda variables, images: logits(model, variables, images))


def _torch_logits(
    state: State, info: StateDictInfo, activation: str, x: torch.Tensor
) -> np.ndarray:
    """Logits in evaluation mode, in double precision; masks and thresholds by torch alone."""
    tensors = to_tensors(state)
    values: list[torch.Tensor] = []
    for layer, layouts in info.tensors:
        own = {each.name: tensors[layer.key(each)] for each in layouts}
        used = own.values() if layer.tensors is not None else info.layout.evaluated(layer, own)
        values += [each for each in used if each is not None]
    plain = info.network.torch_module(info.architecture, activation)
    ordered = dict(zip(plain.state_dict(), values, strict=True))
    plain.load_state_dict(ordered, strict=True)
    with torch.no_grad():
        return plain.double().eval()(x.double()).numpy()


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)
