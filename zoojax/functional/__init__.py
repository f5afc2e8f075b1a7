"""Training of ONE member as pure functions, for training loops and programs of your own.

All functions can be jitted, and `jax.vmap` maps them over populations. They compute what
`zoojax.train_zoo` computes: on CPUs with a compiler in the C++ kernel, otherwise on XLA.

>>> from functools import partial
>>> from zoojax import functional
>>> seeds, learning_rates = jnp.arange(3), jnp.array([1e-3, 3e-3, 1e-2])
>>> members = jax.jit(jax.vmap(partial(functional.init, "small")))(seeds)
>>> train = jax.jit(jax.vmap(functional.train_epoch, in_axes=(0, None, None, 0)))
>>> for epoch in range(2):
...     members, metrics = train(members, images, labels, learning_rates)
>>> metrics["train_acc"].shape
(3,)
>>> members.params["conv1"]["kernel"].shape
(3, 5, 5, 1, 8)

Functions of your own can use `loss` and `logits`, which `jax.grad` differentiates, and any
optimizer, for example of optax. `magnitude_mask` prunes the parameters of any network. `shrink`
removes unused hidden units.
"""

from zoojax.functional.member import Member, init, prune, sparsify
from zoojax.functional.pruning import magnitude_mask
from zoojax.functional.shrinking import shrink
from zoojax.functional.training import evaluate, logits, loss, train_epoch

__all__ = [
    "Member",
    "evaluate",
    "init",
    "logits",
    "loss",
    "magnitude_mask",
    "prune",
    "shrink",
    "sparsify",
    "train_epoch",
]
