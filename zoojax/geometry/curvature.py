"""Curvature of the loss at members of a zoo: trace and top eigenvalues of the Hessian.

The Hessian is that of the mean cross entropy on given images, in evaluation (batch statistics are
fixed, dropout is off), with respect to all parameters that are not pruned. It is never stored:
only its products with vectors are computed (Pearlmutter, "Fast exact multiplication by the
Hessian", 1994).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
from jax import Array
from jax.flatten_util import ravel_pytree

from zoojax import keys
from zoojax.architectures import base
from zoojax.architectures.base import Architecture
from zoojax.architectures.parameters import map_kernels
from zoojax.errors import ZoojaxError
from zoojax.geometry.arguments import check_count
from zoojax.geometry.members import Members, Show, map_members
from zoojax.sparsifiers.steps import Batch
from zoojax.training.engine import cross_entropy
from zoojax.training.inputs import checked_images, checked_labels

# Images, and products with the Hessian, that are computed at once.
_BATCH, _VECTORS = 32, 8
# Values per parameter and vector that differentiation keeps, in bytes; and per pixel of a batch.
_PARAMETER_BYTES, _PIXEL_BYTES = 64, 4096

# A function (flat parameters, batch) -> the share of the mean loss that the batch contributes.
_Loss = Callable[[Array, Batch], Array]


def hessian_trace(
    members: Members, images: Any, labels: Any, *, samples: int | None = 100, show: Show = None
) -> pl.DataFrame:
    """Computes the trace of the Hessian of each member.

    Exactly, the trace is the sum of the diagonal entries, each from one product with a unit vector.
    Hutchinson's estimate is the mean of v^T H v over random vectors v of signs ("A stochastic
    estimator of the trace of the influence matrix", 1989).

    Args:
        members: The members.
        images: Normalized images, [n, H, W, C].
        labels: Their classes, [n].
        samples: Number of random vectors per member, at least 2; None computes the exact trace.
        show: Called with the numbers of completed and of all members.

    Returns:
        One row per member: `member`, `epoch`, `parameters` (those that are not pruned), `loss`,
        `trace`, and its standard error `trace_se`, which is 0 for the exact trace.

    Raises:
        ZoojaxError: If the members do not classify, or images, labels or samples are invalid.

    Example:
        >>> from zoojax import geometry
        >>> members = geometry.members_at(zoo)
        >>> estimate = geometry.hessian_trace(members, images[:8], labels[:8], samples=5)
        >>> len(estimate), bool((estimate["trace_se"] > 0).all())
        (3, True)
    """
    if samples is not None:
        check_count("samples", samples, 2)
    batches = _batches(members, images, labels)

    def make(activation: str) -> Callable[..., dict[str, Array]]:
        def member_trace(params, collections, own, batches):
            free, seed = own
            flat, loss = _flat_loss(members.architecture, activation, params, collections)
            allowed = ravel_pytree(free)[0]
            if samples is None:
                trace, error = jnp.sum(_diagonal(loss, flat, batches) * allowed), jnp.float32(0)
            else:
                products = _quadratic_forms(loss, flat, batches, allowed, seed, samples)
                trace, error = jnp.mean(products), jnp.std(products, ddof=1) / samples**0.5
            total = jax.lax.map(lambda batch: loss(flat, batch), batches)
            return {
                "parameters": jnp.sum(allowed).astype(jnp.int32),
                "loss": jnp.sum(total),
                "trace": trace,
                "trace_se": error,
            }

        return member_trace

    own = _free(members), members.seeds
    return _table(
        members, map_members(make, members, own, batches, memory=_memory(members), show=show)
    )


def top_eigenvalues(
    members: Members,
    images: Any,
    labels: Any,
    *,
    count: int = 5,
    steps: int = 40,
    show: Show = None,
) -> pl.DataFrame:
    """Computes the largest eigenvalues of the Hessian of each member.

    Lanczos' iteration with full reorthogonalization from a random vector (Golub and Van Loan,
    "Matrix Computations", section 10.1). The residual of an eigenvalue bounds its distance from an
    eigenvalue of the Hessian; more steps make it smaller.

    Args:
        members: The members.
        images: Normalized images, [n, H, W, C].
        labels: Their classes, [n].
        count: Number of eigenvalues.
        steps: Number of products with the Hessian, at least `count`.
        show: Called with the numbers of completed and of all members.

    Returns:
        One row per member and eigenvalue: `member`, `epoch`, `rank` (from 1, the largest),
        `eigenvalue` and `residual`.

    Raises:
        ZoojaxError: If the members do not classify, images or labels are invalid, or a number is
            out of range, such as more eigenvalues than parameters.

    Example:
        >>> from zoojax import geometry
        >>> members = geometry.members_at(zoo)
        >>> table = geometry.top_eigenvalues(members, images[:8], labels[:8], count=2, steps=20)
        >>> table["rank"].to_list()
        [1, 2, 1, 2, 1, 2]
    """
    check_count("count", count)
    check_count("steps", steps, count)
    fewest = int(_parameter_counts(members).min())
    if count > fewest:
        raise ZoojaxError(f"count is {count}, but a member has {fewest} parameters; give fewer")
    batches, steps = _batches(members, images, labels), min(steps, fewest)

    def make(activation: str) -> Callable[..., dict[str, Array]]:
        def member_eigenvalues(params, collections, own, batches):
            free, seed = own
            flat, loss = _flat_loss(members.architecture, activation, params, collections)
            allowed = ravel_pytree(free)[0]
            key = jax.random.fold_in(keys.stream_key(seed, "curvature"), 1)
            start = jax.random.normal(key, flat.shape) * allowed

            def product(vector: Array) -> Array:
                return _product(loss, flat, batches, vector) * allowed

            diagonal, offsets = _lanczos(product, start, steps)
            off = jnp.diag(offsets[:-1], 1)
            values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + off + off.T)
            residuals = jnp.abs(offsets[-1] * vectors[-1])
            return {
                "eigenvalue": values[::-1][:count],
                "residual": residuals[::-1][:count],
            }

        return member_eigenvalues

    own = _free(members), members.seeds
    memory = _memory(members) + 4 * steps * members.architecture.parameter_count
    found = map_members(make, members, own, batches, memory=memory, show=show)
    ranks = {"rank": np.tile(np.arange(1, count + 1), (len(members), 1))}
    return _table(members, ranks | found).explode("rank", "eigenvalue", "residual")


def _lanczos(product: Callable[[Array], Array], start: Array, steps: int) -> tuple[Array, Array]:
    """Returns the diagonal [steps] and the off-diagonal [steps] of the tridiagonal matrix.

    The last off-diagonal entry belongs to the next step; it scales the residuals. After an
    invariant subspace, the iteration continues with a vector that is orthogonal to it.
    """

    def orthogonal(vector: Array, basis: Array) -> Array:
        # Twice is enough (Parlett, "The Symmetric Eigenvalue Problem", section 6.9).
        for _ in range(2):
            vector = vector - basis.T @ (basis @ vector)
        return vector

    def step(carry: tuple[Array, Array, Array], index: Array):
        basis, vector, _ = carry
        basis = basis.at[index].set(vector)
        image = product(vector)
        entry = jnp.dot(vector, image)
        rest = orthogonal(image, basis)
        length = jnp.linalg.norm(rest)
        # After an invariant subspace, only rounding errors are left, which are not orthogonal.
        following = orthogonal(rest / jnp.where(length > 0, length, 1), basis)
        following = following / jnp.maximum(jnp.linalg.norm(following), 1e-30)
        return (basis, following, length), (entry, length)

    basis = jnp.zeros((steps, start.size))
    first = start / jnp.linalg.norm(start)
    carry = basis, first, jnp.float32(0)
    _, (diagonal, offsets) = jax.lax.scan(step, carry, jnp.arange(steps))
    return diagonal, offsets


def _flat_loss(
    arch: Architecture, activation: str, params: dict[str, Any], collections: dict[str, Any]
) -> tuple[Array, _Loss]:
    """Returns the parameters of a member as a vector, and its loss as a function of them."""
    module = arch.module(activation, "uniform")
    flat, unflatten = ravel_pytree(params)

    def loss(vector: Array, batch: Batch) -> Array:
        variables = {"params": unflatten(vector), **collections}
        outputs = base.logits(module, variables, batch.images)
        # Weights are shares of all images, so batches add up to the mean.
        return cross_entropy(outputs, batch) * jnp.sum(batch.weights)

    return flat, loss


def _sum_over(batches: Batch, function: Callable[[Batch], Array], like: Array) -> Array:
    def add(total: Array, batch: Batch) -> tuple[Array, None]:
        return total + function(batch), None

    return jax.lax.scan(add, like, batches)[0]


def _product(loss: _Loss, flat: Array, batches: Batch, vector: Array) -> Array:
    """Product of the Hessian with a vector."""

    def of_batch(batch: Batch) -> Array:
        return jax.jvp(lambda x: jax.grad(loss)(x, batch), (flat,), (vector,))[1]

    return _sum_over(batches, of_batch, jnp.zeros_like(flat))


def _diagonal(loss: _Loss, flat: Array, batches: Batch) -> Array:
    """Diagonal of the Hessian."""

    def of_batch(batch: Batch) -> Array:
        _, product = jax.linearize(lambda x: jax.grad(loss)(x, batch), flat)

        def entry(index: Array) -> Array:
            return product(jnp.zeros_like(flat).at[index].set(1.0))[index]

        return jax.lax.map(entry, jnp.arange(flat.size), batch_size=_VECTORS)

    return _sum_over(batches, of_batch, jnp.zeros_like(flat))


def _quadratic_forms(
    loss: _Loss, flat: Array, batches: Batch, allowed: Array, seed: Array, samples: int
) -> Array:
    """v^T H v of random vectors v of signs, [samples]."""
    key = jax.random.fold_in(keys.stream_key(seed, "curvature"), 0)

    def of_batch(batch: Batch) -> Array:
        _, product = jax.linearize(lambda x: jax.grad(loss)(x, batch), flat)

        def form(index: Array) -> Array:
            # One key per vector, so that more samples include those of fewer.
            signs = jax.random.rademacher(jax.random.fold_in(key, index), flat.shape, flat.dtype)
            return jnp.dot(signs * allowed, product(signs * allowed))

        return jax.lax.map(form, jnp.arange(samples), batch_size=_VECTORS)

    return _sum_over(batches, of_batch, jnp.zeros(samples))


def _batches(members: Members, images: Any, labels: Any) -> Batch:
    """Splits images into padded batches, stacked; weights are shares of all images."""
    arch = members.architecture
    if arch.task.has_own_images:
        raise ZoojaxError(
            f"members of the {arch.label} learn one image each; curvature is computed for members "
            "that classify the same images"
        )
    pixels = checked_images(arch, images)
    classes = checked_labels(arch, labels, len(pixels))
    size = min(_BATCH, len(pixels))
    padding = -len(pixels) % size
    weights = np.full(len(pixels), 1 / len(pixels), np.float32)

    def split(array: np.ndarray) -> Any:
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return padded.reshape(-1, size, *array.shape[1:])

    return Batch(split(np.asarray(pixels)), split(np.asarray(classes)), split(weights))


def _free(members: Members) -> dict[str, Any]:
    """1 for parameters that are not pruned, else 0, stacked."""
    ones = jax.tree.map(lambda x: np.ones(x.shape, np.float32), members.params)
    masks = members.masks
    return map_kernels(ones, lambda path, _: masks[path].astype(np.float32))


def _parameter_counts(members: Members) -> np.ndarray:
    leaves = jax.tree.leaves(_free(members))
    return np.sum([x.reshape(len(x), -1).sum(axis=1) for x in leaves], axis=0)


def _memory(members: Members) -> int:
    arch = members.architecture
    pixels = _BATCH * int(np.prod(arch.image_shape))
    return _VECTORS * _PARAMETER_BYTES * arch.parameter_count + _PIXEL_BYTES * pixels


def _table(members: Members, columns: dict[str, np.ndarray]) -> pl.DataFrame:
    frame = {"member": members.ids, "epoch": [members.epoch] * len(members)}
    return pl.DataFrame(frame | {name: pl.Series(values) for name, values in columns.items()})
