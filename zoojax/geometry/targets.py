"""References that the members of a zoo are aligned to: a member, the center, a canonical form."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from zoojax.errors import ZoojaxError
from zoojax.geometry.activation_matching import match_activations
from zoojax.geometry.canonical import canonical_transform
from zoojax.geometry.derived import transformed_state
from zoojax.geometry.descent import Matching
from zoojax.geometry.matching import match_weights
from zoojax.geometry.transforms import Symmetry, Transform, replaced
from zoojax.runtime.population import take
from zoojax.sparsifiers.dense import Dense
from zoojax.storage.states import COLLECTIONS, effective_params
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig

# Rounds of matching members to their mean and computing it again.
_MAX_ROUNDS = 50
# Relative decrease of the squared distances to the mean that counts as an improvement.
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Match:
    """How units are matched.

    Attributes:
        symmetries: Changes to search.
        restarts: Further starting points of weight matching.
        seed: Seed of weight matching.
        images: Images for matching by activations, [n, H, W, C]; None to match by weights.
    """

    symmetries: tuple[Symmetry, ...]
    restarts: int = 0
    seed: int = 0
    images: np.ndarray | None = None


class Targets:
    """The members of an epoch of a zoo, and their alignment to references.

    Args:
        zoo: The zoo.
        epoch: The epoch.
        match: How units are matched.
    """

    def __init__(self, zoo: Zoo, epoch: int, match: Match):
        state = zoo.state(epoch)
        self.zoo, self.match, self.arch = zoo, match, zoo.config.shape
        self.params = effective_params(zoo.config, state)
        self.collections = state.get(COLLECTIONS, {})
        self.activations = np.array(zoo.members_table["activation"].to_list())
        leaves = [np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(self.params)]
        self.is_finite = np.all([np.isfinite(x).all(axis=1) for x in leaves], axis=0)

    def member(self, member: Any) -> Matching:
        """Aligns all members to one of them.

        Args:
            member: Its id.

        Raises:
            ZoojaxError: If there is no such member, or its weights are not finite.
        """
        row = int(self.zoo.row_indices([member])[0])
        if not self.is_finite[row]:
            raise ZoojaxError(
                f"member {member} of {self.zoo.path} has weights that are not finite; align to "
                "another one"
            )
        reference = take({"params": self.params, **self.collections}, row)
        return self._matched(self.params, reference, str(self.activations[row]))

    def center(self) -> Matching:
        """Aligns all members to the mean of the aligned members.

        Members are matched to their mean, which is computed again, until the sum of squared
        distances to the mean stops decreasing (as MergeMany of Ainsworth et al., 2023).

        Raises:
            ZoojaxError: If no member has finite weights.
        """
        finite = np.flatnonzero(self.is_finite)
        if not len(finite):
            raise ZoojaxError(f"no member of {self.zoo.path} has finite weights")
        before = self._matched_to_mean(self.params, search=False).before
        first = self.member(self.zoo.members_table["id"][int(finite[0])])
        transform = first.transform
        params = self._changed(self.params, transform)
        total = _total(self._matched_to_mean(params, search=False).before)
        if total > _total(before):
            transform = Transform.identity(self.arch.permuted_units(), len(self.zoo))
            params, total = self.params, _total(before)
        for _ in range(_MAX_ROUNDS):
            found = self._matched_to_mean(params)
            transform = transform.then(found.transform)
            params = self._changed(params, found.transform)
            previous, total = total, _total(self._matched_to_mean(params, search=False).before)
            if total >= previous * (1 - _TOLERANCE):
                break
        return Matching(transform, before, self._matched_to_mean(params, search=False).before)

    def canonical(self) -> Matching:
        """Brings all members into a canonical form; see `canonical_transform`.

        The distances are the norms of their parameters.
        """
        transform = Transform.identity(self.arch.permuted_units(), len(self.zoo))
        for activation in np.unique(self.activations):
            rows = np.flatnonzero(self.is_finite & (self.activations == activation))
            if len(rows):
                found = canonical_transform(
                    self.arch, take(self.params, rows), str(activation), self.match.symmetries
                )
                transform = replaced(transform, rows, found)
        norms = (_norms(x) for x in (self.params, self._changed(self.params, transform)))
        return Matching(transform, *norms)

    def _matched_to_mean(self, params: Any, search: bool = True) -> Matching:
        mean = jax.tree.map(lambda x: x[self.is_finite].mean(0, dtype=np.float32), params)
        if search:
            return self._matched(params, {"params": mean}, None)
        differences = jax.tree.map(lambda x, m: x - m, params, mean)
        distances = _norms(differences)
        identity = Transform.identity(self.arch.permuted_units(), len(self.zoo))
        return Matching(identity, distances, distances)

    def _changed(self, params: Any, transform: Transform) -> Any:
        dense = self.zoo.config if self.zoo.config.is_dense else _dense(self.zoo.config)
        activations = self.activations.tolist()
        return transformed_state(dense, {"params": params}, transform, activations)["params"]

    def _matched(self, params: Any, reference: Any, activation: str | None) -> Matching:
        """Matches the finite members to one reference; the others are not changed."""
        count = len(self.zoo)
        before, after = np.full(count, np.nan), np.full(count, np.nan)
        transform = Transform.identity(self.arch.permuted_units(), count)
        for own in np.unique(self.activations):
            rows = np.flatnonzero(self.is_finite & (self.activations == own))
            if len(rows):
                chosen = {"params": take(params, rows), **take(self.collections, rows)}
                found = self._match(chosen, reference, str(own), activation)
                transform = replaced(transform, rows, found.transform)
                before[rows], after[rows] = found.before, found.after
        return Matching(transform, before, after)

    def _match(
        self, variables: Any, reference: Any, own: str, reference_activation: str | None
    ) -> Matching:
        symmetries = self.match.symmetries
        if self.match.images is None:
            return match_weights(
                *(self.arch, variables["params"], reference["params"]),
                activation=own,
                symmetries=symmetries,
                restarts=self.match.restarts,
                seed=self.match.seed,
            )
        return match_activations(
            *(self.arch, variables, reference, self.match.images),
            activation=own,
            reference_activation=reference_activation,
            symmetries=symmetries,
        )


def _dense(config: ZooConfig) -> ZooConfig:
    return replace(config, sparsifier=Dense(), parent=None)


def _norms(tree: Any) -> np.ndarray:
    leaves = [np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(tree)]
    return np.sqrt(sum(np.einsum("ne,ne->n", x, x, dtype=np.float64) for x in leaves))


def _total(distances: np.ndarray) -> float:
    return float(np.nansum(distances**2))
