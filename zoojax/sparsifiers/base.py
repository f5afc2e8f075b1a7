"""The sparsifier interface: everything in which kinds of zoos differ.

A sparsifier is a frozen dataclass of its options. Its methods are pure functions of one member,
which the training loop maps over a population with `jax.vmap`. The rest of zoojax (storage,
command line, analysis, figures, report) knows sparsifiers only through this interface.

    @register_sparsifier
    @dataclass(frozen=True)
    class MySparsifier(Sparsifier):
        '''One line for the command line's help.'''

        name: ClassVar = "my_sparsifier"
        label: ClassVar = "my sparsifier"
        short: ClassVar = "MY"
        color: ClassVar = "#CC79A7"

        ratios: tuple[float, ...] = (0.5, 0.9)
        '''Fractions of weights to prune.'''
"""

import dataclasses
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from jax import Array

from zoojax.architectures.base import Architecture
from zoojax.hyperparameters.tables import seeds_of
from zoojax.sparsifiers.declared import Declared
from zoojax.sparsifiers.steps import Batch as Batch  # Users import it from here.
from zoojax.sparsifiers.steps import Loss, Needs, Posterior, Update


@dataclasses.dataclass(frozen=True)
class Sparsifier(Declared):
    """Base class of sparsifiers; subclasses are frozen dataclasses of their options.

    The base class trains all parameters without sparsifying anything. Subclasses override what
    differs. They also set names, colors and the options that differ between members; see
    `zoojax.sparsifiers.declared.Declared`.

    Attributes:
        update_every: Whether `update` is called at the start of each epoch ("epoch"), after each
            step ("step"), or never (None).
        samples_layers: Whether `objective` samples pre-activations, which needs an architecture
            whose layers can be replaced.
        has_mask_only: Whether `init` returns only the parameters and a "mask" of all weights.
            Opening a zoo then does not trace `init`, which takes seconds for some scores.
        takes_scores: Whether `init` uses scores of the weights if the caller provides them.
        draws_noise: Whether `objective` takes the member's random key of the step as its last
            argument.
        needs_epochs: Whether `update` or `learning_rate` depends on the number of epochs.

    Example:
        >>> from dataclasses import dataclass
        >>> from typing import ClassVar
        >>> @dataclass(frozen=True)
        ... class Sign(zoojax.Sparsifier):
        ...     '''Trains positive weights only; negative ones are set to zero.'''
        ...     name: ClassVar = "sign"
        ...     label: ClassVar = "sign pruning"
        ...     short: ClassVar = "SP"
        ...     color: ClassVar = "#CC79A7"
        ...     def project(self, trainable, fixed):
        ...         return jax.tree.map(lambda x: jnp.maximum(x, 0.0), trainable)
        >>> member = zoojax.functional.init("small", seed=1, init="normal")
        >>> member = zoojax.functional.sparsify(member, Sign())
        >>> train = jax.jit(zoojax.functional.train_epoch)
        >>> member, _ = train(member, images, labels, 1e-3)
        >>> float(member.params["fc1"]["kernel"].min())
        0.0
    """

    update_every: ClassVar[Literal["epoch", "step"] | None] = None
    samples_layers: ClassVar[bool] = False
    has_mask_only: ClassVar[bool] = False
    takes_scores: ClassVar[bool] = False
    draws_noise: ClassVar[bool] = False
    needs_epochs: ClassVar[bool] = False

    @property
    def needs(self) -> Needs | None:
        """What `init` finds in `values["context"]`, a `zoojax.sparsifiers.context.Context`.

        `Needs()` requests only the network and a random key. None, the default, requests no
        context.
        """
        return None

    def check_architecture(self, architecture: Architecture) -> None:
        """Checks that members of an architecture can be sparsified, before anything is written.

        Args:
            architecture: The architecture.

        Raises:
            ZoojaxError: If they cannot; by default all can.

        Example:
            >>> zoojax.StructuredPruning().check_architecture(zoo.config.shape)
        """

    def member_values(self, members: pl.DataFrame, params: dict[str, Any]) -> dict[str, Any]:
        """Computes on the host what `init` needs to know of each member.

        Args:
            members: Rows of the twin's members table.
            params: Shapes of one member's parameters.

        Returns:
            Arrays [members] by name: by default the seed and the per-member columns.

        Example:
            >>> members = pl.DataFrame({"seed": [7, 8], "ratio": [0.5, 0.9]})
            >>> params = {"fc": {"kernel": jax.ShapeDtypeStruct((4, 5), jnp.float32)}}
            >>> zoojax.MagnitudePruning().member_values(members, params)["num_pruned"]["all"]
            array([10, 18], dtype=int32)
        """
        columns = {name: np.float32 for name in self.per_member.values()}
        values = {name: members[name].to_numpy().astype(t) for name, t in columns.items()}
        return {"seed": seeds_of(members), **values}

    def init(self, params: dict[str, Any], values: dict[str, Any]) -> tuple[dict, dict]:
        """Creates the initial state of one member from its parent's parameters.

        Args:
            params: Parameters of the parent.
            values: The member's entries of `member_values`, scalars; with `takes_scores` also
                "scores", {weight path: scores shaped like the weights}, or None; with `needs`
                also "context", see `zoojax.sparsifiers.context.Context`.

        Returns:
            (trainable, fixed): {"params": ...} and further pytrees that are trained, and pytrees
            that are not, such as {"mask": {weight path: bool array}}. Pytrees of bool arrays are
            stored as bits; the weights of a "mask" that are False are zero.

        Example:
            >>> params = {"fc": {"kernel": jnp.array([[0.1], [-2.0]]), "bias": jnp.ones(1)}}
            >>> values = {"num_pruned": {"all": 1}}
            >>> trainable, fixed = zoojax.MagnitudePruning().init(params, values)
            >>> trainable["params"]["fc"]["kernel"].tolist(), fixed["mask"]["fc"].tolist()
            ([[0.0], [-2.0]], [[False], [True]])
        """
        return {"params": params}, {}

    def objective(
        self, loss: Loss, trainable: dict[str, Any], fixed: dict[str, Any], epoch: Array
    ) -> tuple[Array, Any]:
        """Computes the training objective of one member on one batch.

        Args:
            loss: Mean loss of the task on the batch; see `zoojax.sparsifiers.steps.Loss`.
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.
            epoch: Epoch being trained, counted from 1.

        Returns:
            (objective, auxiliary result of `loss`).

        Example:
            >>> class Penalized(zoojax.Sparsifier):
            ...     def objective(self, loss, trainable, fixed, epoch):
            ...         value, auxiliary = loss(trainable["params"])
            ...         weights = jax.tree.leaves(trainable["params"])
            ...         return value + 0.5 * sum(jnp.sum(abs(w)) for w in weights), auxiliary
            >>> trainable = {"params": {"fc": {"kernel": jnp.array([1.0, -1.0])}}}
            >>> value, _ = Penalized().objective(lambda params: (3.0, None), trainable, {}, 1)
            >>> float(value)
            4.0
        """
        params, posterior = self.loss_inputs(trainable, fixed, epoch)
        return loss(params) if posterior is None else loss(params, posterior)

    def loss_inputs(
        self, trainable: dict[str, Any], fixed: dict[str, Any], epoch: Array
    ) -> tuple[dict[str, Any], Posterior | None]:
        """Returns what `objective` passes to the loss unless it is overridden.

        Args:
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.
            epoch: Epoch being trained, counted from 1.

        Returns:
            (parameters, their distributions if pre-activations are sampled, otherwise None).

        Example:
            >>> trainable = {"params": {"fc": {"kernel": jnp.ones(2)}}}
            >>> params, posterior = zoojax.MagnitudePruning().loss_inputs(trainable, {}, 1)
            >>> params is trainable["params"], posterior
            (True, None)
        """
        return trainable["params"], None

    def project(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Projects the trainable part after each step, for example onto a mask.

        Args:
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.

        Returns:
            The trainable part, of the same structure, shapes and types.

        Example:
            >>> trainable = {"params": {"fc": {"kernel": jnp.array([1.0, 2.0])}}}
            >>> fixed = {"mask": {"fc": jnp.array([True, False])}}
            >>> trainable = zoojax.MagnitudePruning().project(trainable, fixed)
            >>> trainable["params"]["fc"]["kernel"].tolist()
            [1.0, 0.0]
        """
        return trainable

    def effective(self, trainable: dict[str, Any], fixed: dict[str, Any]) -> dict[str, Any]:
        """Returns the parameters that the member is evaluated with.

        Args:
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.

        Returns:
            Parameters, {layer: {"kernel": ..., "bias": ...}}.

        Example:
            >>> trainable = {
            ...     "params": {"fc": {"kernel": jnp.array([[0.1, 2.0]]), "bias": jnp.ones(2)}},
            ...     "log_sigma2": {"fc": {"kernel": jnp.array([[0.0, 0.0]])}},
            ... }
            >>> sparse = zoojax.VariationalDropout().effective(trainable, {})
            >>> sparse["fc"]["kernel"].tolist()  # log alpha of the first weight is 4.6
            [[0.0, 2.0]]
        """
        return trainable["params"]

    def update(
        self, trainable: dict[str, Any], fixed: dict[str, Any], update: Update
    ) -> tuple[dict, dict]:
        """Changes the state between steps, for example to move a mask; see `update_every`.

        Args:
            trainable: Trainable part of the state.
            fixed: Fixed part of the state.
            update: When the call happens, gradients, and a random key.

        Returns:
            (trainable, fixed) of the same structure, shapes and types.

        Example:
            >>> class Decaying(zoojax.Sparsifier):
            ...     update_every = "epoch"
            ...     def update(self, trainable, fixed, update):
            ...         return jax.tree.map(lambda x: 0.5 * x, trainable), fixed
            >>> trainable = {"params": {"fc": {"kernel": jnp.array([4.0])}}}
            >>> trainable, _ = Decaying().update(trainable, {}, update=None)
            >>> trainable["params"]["fc"]["kernel"].tolist()
            [2.0]
        """
        return trainable, fixed

    def update_moments(
        self, moments: Any, before: dict[str, Any], after: dict[str, Any], update: Update
    ) -> Any:
        """Changes the optimizer's moments after `update`, for example those of new weights.

        Args:
            moments: State of the optimizer; see `zoojax.optimizers.map_moments`. Before the first
                step, it is all zeros, so zeros restart the optimizer.
            before: Fixed part of the state before `update`.
            after: Fixed part of the state after `update`.
            update: The argument of `update`.

        Returns:
            The moments, of the same structure, shapes and types.

        Example:
            >>> class Restarting(zoojax.Sparsifier):
            ...     update_every = "epoch"
            ...     def update_moments(self, moments, before, after, update):
            ...         return jax.tree.map(jnp.zeros_like, moments)
            >>> Restarting().update_moments(jnp.ones(2), {}, {}, None).tolist()
            [0.0, 0.0]
        """
        return moments

    def learning_rate(
        self, rate: Any, epoch: Array, step: Array, steps: int, epochs: int | None
    ) -> Any:
        """Changes the learning rate of a step, for example to restart a schedule.

        Args:
            rate: Learning rate of the step by the member's own schedule; twins have none.
            epoch: Epoch being trained, counted from 1.
            step: Step within the epoch, counted from 0.
            steps: Steps of one epoch.
            epochs: Epochs of the whole training; None without `needs_epochs`.

        Returns:
            The learning rate, scalar float32.

        Example:
            >>> class Halving(zoojax.Sparsifier):
            ...     def learning_rate(self, rate, epoch, step, steps, epochs):
            ...         return rate * 0.5 ** (epoch - 1)
            >>> Halving().learning_rate(0.4, 2, 0, 10, None)
            0.2
        """
        return rate

    def unused(self, params: dict[str, Any]) -> dict[str, Any] | None:
        """Shapes of arrays that a converted zoo may store with its states and never uses.

        Args:
            params: Shapes of one member's parameters.

        Returns:
            A pytree of shapes and dtypes; None if there are none.

        Example:
            >>> leaf = jax.ShapeDtypeStruct((5,), jnp.float32)
            >>> params = {"fc": {"kernel": jax.ShapeDtypeStruct((4, 5), jnp.float32), "bias": leaf}}
            >>> zoojax.VariationalDropout().unused(params)
            {'fc': ShapeDtypeStruct(shape=(5,), dtype=float32)}
        """
        return None
