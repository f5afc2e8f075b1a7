"""Matching of hidden units by weights: coordinate descent over the permutation groups.

Each step finds the best order (and factors) of one group of all members, so the distance to the
reference never increases. Descent finds local minima, so it starts from several points:

- sweeps: groups are matched one after the other, each by the parameters whose other units are
  already matched or fixed. At first, only the input channels and the classes are fixed. A sweep
  recovers the order of a permuted copy of the reference, also in residual networks.
- the unchanged members;
- random orders, if requested.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoojax.architectures.base import Architecture
from zoojax.architectures.rescalings import Rescaling
from zoojax.architectures.units import parameters_by_path
from zoojax.geometry.blocks import (
    Block,
    apply_step,
    assign,
    compare_units,
    costs,
    make_blocks,
    squared_distance,
)
from zoojax.geometry.transforms import Arrays, Transform, replaced

_MAX_SWEEPS = 100
# Relative decrease of the distance that counts as an improvement; smaller ones are rounding errors.
_TOLERANCE = 1e-6
# A member this close to the reference, in squared distance relative to its squared norm, is not
# matched again from other starting points.
_MATCHED = 1e-3


class Matching(NamedTuple):
    """The result of matching.

    Attributes:
        transform: Orders and factors of the units of the members.
        before: Distance of each member to its reference before matching, [members] float64: the
            root of the sum of squared differences of all parameters.
        after: The same after matching by weights; never larger. NaN, as before, if the parameters
            of the member or of its reference are not finite.

    Example:
        >>> matched = zoojax.geometry.match_weights(zoo.config.shape, zoo.params(), zoo.member(0))
        >>> matched.before.shape
        (3,)
    """

    transform: Transform
    before: np.ndarray
    after: np.ndarray


class _State(NamedTuple):
    """Members during a search: their changed parameters, and the changes."""

    params: Arrays
    transform: Transform

    def take(self, rows: np.ndarray) -> "_State":
        """Selects members at ascending positions."""
        if len(rows) == len(self.transform):
            return self
        return _State({p: x[rows] for p, x in self.params.items()}, self.transform.take(rows))


class Search:
    """Searches for the best transform of stacked members.

    Args:
        arch: Architecture of the members.
        rescalings: Factors that are allowed.
        permutes: Whether units are permuted.
        restarts: Number of further starting points with random orders.
        seed: Seed of the order of the groups and of the restarts.
    """

    def __init__(
        self,
        arch: Architecture,
        rescalings: Sequence[Rescaling],
        permutes: bool,
        restarts: int,
        seed: int,
    ):
        self.units = arch.permuted_units()
        shapes = parameters_by_path(arch.parameter_shapes())
        self.blocks = make_blocks(arch.permutations, self.units, shapes, rescalings)
        self.permutes, self.restarts, self.seed = permutes, restarts, seed
        self.sizes = {path: int(np.prod(shape)) for path, shape in shapes.items()}

    def run(self, reference: Arrays, params: Arrays) -> Matching:
        """Matches members.

        Args:
            reference: Parameters of the references by path, [1 or members, ...].
            params: Parameters of the members by path, [members, ...].
        """
        before = squared_distance(reference, params)
        norm = squared_distance({p: np.zeros_like(x[:1]) for p, x in params.items()}, params)
        count = len(before)
        identity = Transform.identity(self.units, count)
        best, after = identity, before.copy()
        for start in self._starts(reference):
            rows = np.flatnonzero(after > _MATCHED * norm)
            if not len(rows):
                break
            ours = rows_of(reference, rows)
            initial = _State({p: x[rows] for p, x in params.items()}, identity.take(rows))
            state = self._descend(ours, start(ours, initial))
            found = squared_distance(ours, state.params)
            better = found < after[rows]
            after[rows[better]] = found[better]
            best = replaced(best, rows[better], state.transform.take(np.flatnonzero(better)))
        return Matching(best, np.sqrt(before), np.sqrt(after))

    def _starts(self, reference: Arrays) -> Iterator[Any]:
        if self.permutes:
            yield lambda ours, state: self._sweep(ours, state, range(len(self.blocks)))
            yield lambda ours, state: self._sweep(ours, state, None)
        yield lambda ours, state: state
        for number in range(self.restarts if self.permutes else 0):
            yield lambda ours, state, n=number: self._shuffled(state, n)

    def _sweep(self, reference: Arrays, state: _State, order: Sequence[int] | None) -> _State:
        """Matches the groups one after the other by the parameters that are already matched.

        Args:
            reference: Parameters of the references.
            state: The members.
            order: Order of the groups; None for the group with most matched parameters next.
        """
        done: set[int] = set()
        while len(done) < len(self.blocks):
            left = [block for block in self.blocks if block.index not in done]
            known = {block.index: self._known(block, done) for block in left}
            if order is None:
                chosen = max(left, key=lambda b: self._amount(known[b.index], b))
            else:
                chosen = next(b for i in order for b in left if b.index == i)
            state, _ = self._step(reference, state, chosen, known[chosen.index], always=True)
            done.add(chosen.index)
        return state

    def _known(self, block: Block, done: set[int]) -> frozenset[tuple[str, int]]:
        """Returns the axes of a block in parameters whose other axes are matched or fixed."""
        others = [b for b in self.blocks if b.index not in done and b.index != block.index]
        unknown = {axis.path for other in others for axis, _ in other.axes}
        unknown |= set(block.quadratic)
        return frozenset((a.path, a.axis) for a, _ in block.axes if a.path not in unknown)

    def _amount(self, known: frozenset[tuple[str, int]], block: Block) -> float:
        return sum(self.sizes[path] for path, _ in known) / block.units

    def _shuffled(self, state: _State, number: int) -> _State:
        generator = np.random.default_rng([self.seed, 1 + number])
        for block in self.blocks:
            order = generator.permutation(block.units)
            orders = np.tile(order, (len(state.transform), 1))
            state = _stepped(block, state, orders, None)
        return state

    def _descend(self, reference: Arrays, state: _State) -> _State:
        """Improves the groups in random order until no group of a member improves."""
        generator = np.random.default_rng([self.seed, 0])
        active = np.arange(len(state.transform))
        for _ in range(_MAX_SWEEPS):
            current, ours = state.take(active), rows_of(reference, active)
            improved = np.zeros(len(active), bool)
            for index in generator.permutation(len(self.blocks)):
                current, better = self._step(ours, current, self.blocks[index], None)
                improved |= better
            state = _merged(state, active, current)
            active = active[improved]
            if not len(active):
                break
        return state

    def _step(
        self,
        reference: Arrays,
        state: _State,
        block: Block,
        paths: frozenset[tuple[str, int]] | None,
        always: bool = False,
    ) -> tuple[_State, np.ndarray]:
        """Finds the best order and factors of one group; returns which members improved."""
        pairs = compare_units(block, reference, state.params, paths)
        cost, factors = costs(block.kind, pairs)
        own = np.arange(block.units)
        order = assign(cost) if self.permutes else np.tile(own, (len(cost), 1))
        chosen = np.take_along_axis(cost, order[..., None], 2)[..., 0]
        factor = None
        if factors is not None:
            factor = np.take_along_axis(factors, order[..., None], 2)[..., 0]
        if always:
            return _stepped(block, state, order, factor), np.ones(len(order), bool)
        present = sum(
            (square / 2 for square in pairs.squares.values()),
            start=-sum(np.diagonal(x, 0, 1, 2) for x in pairs.products.values()),
        )
        gain = (present - chosen).sum(axis=1, dtype=np.float64)
        scale = (np.abs(present) + np.abs(chosen)).sum(axis=1, dtype=np.float64)
        better = gain > _TOLERANCE * scale
        rows = np.flatnonzero(better)
        if not len(rows):
            return state, better
        used = sorted({axis.path for axis, _ in block.axes})
        before = _State({p: state.params[p] for p in used}, state.transform).take(rows)
        after = _stepped(block, before, order[rows], None if factor is None else factor[rows])
        if block.quadratic:
            shared = rows_of(reference, rows)
            old, new = (squared_distance(shared, each.params) for each in (before, after))
            worse = np.flatnonzero(new >= old)
            after = _merged(after, worse, before.take(worse))
            better[rows[worse]] = False
        return _merged(state, rows, after), better


def rows_of(arrays: Arrays, rows: np.ndarray) -> Arrays:
    """Selects the references of members; one reference may serve all."""
    return {path: x if len(x) == 1 else x[rows] for path, x in arrays.items()}


def _stepped(block: Block, state: _State, order: np.ndarray, factor: np.ndarray | None) -> _State:
    orders, factors = list(state.transform.orders), list(state.transform.factors)
    orders[block.index] = np.take_along_axis(orders[block.index], order, 1)
    moved = np.take_along_axis(factors[block.index], order, 1)
    factors[block.index] = moved if factor is None else moved * factor
    changed = apply_step(block, state.params, order, factor)
    return _State({**state.params, **changed}, Transform(tuple(orders), tuple(factors)))


def _merged(state: _State, rows: np.ndarray, part: _State) -> _State:
    """Replaces some parameters of the members at ascending positions."""
    if len(rows) == len(state.transform):
        return _State({**state.params, **part.params}, part.transform)
    changed = {path: _put(state.params[path], rows, x) for path, x in part.params.items()}
    return _State({**state.params, **changed}, replaced(state.transform, rows, part.transform))


def _put(array: np.ndarray, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[rows] = values
    return changed
