"""Speed of torch: one member per process, or many members with torch.func.vmap.

Prints samples per second:

    python -m zoojax.experiments.bench.torch_members '{"architecture": "small", ...}'
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from zoojax.architectures.chain import Chain
from zoojax.converters.layouts.torch_models import TorchChain, kl
from zoojax.experiments.bench.members import chain

_LEARNING_RATE, _WEIGHT_DECAY = 3e-4, 1e-3
_IMAGES = 1000


def _one_member(shape: Chain, variational: bool) -> Callable[[Tensor, Tensor], None]:
    """Creates a training step of one model on images [B, C, H, W] and labels [B]."""
    model = TorchChain(shape, "tanh", variational=variational)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    error = functional.mse_loss if shape.task.has_own_images else functional.cross_entropy

    def step(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        loss = error(model(x), y)
        if variational:
            loss = loss + 1e-3 * kl(model)
        loss.backward()
        optimizer.step()

    return step


def _evaluation(shape: Chain) -> Callable[[Tensor, Tensor], None]:
    """Creates an evaluation step of one model on images [B, C, H, W] and labels [B].

    The step computes the loss and the number of correct predictions.
    """
    model = TorchChain(shape, "tanh").eval()

    def step(x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            outputs = model(x)
            if shape.task.has_own_images:
                functional.mse_loss(outputs, y).item()
                return
            functional.cross_entropy(outputs, y).item()
            (outputs.argmax(1) == y).sum().item()

    return step


def _many_members(shape: Chain, members: int) -> Callable[[Tensor, Tensor], None]:
    """Creates a training step of stacked models.

    The step takes images [members, B, C, H, W] and labels [members, B].
    """
    models = [TorchChain(shape, "tanh") for _ in range(members)]
    params, _ = stack_module_state(list(models))
    # One optimizer for all models: Adam works element by element.
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def loss(member: dict, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(models[0], member, (x,)), y)

    gradient = vmap(grad(loss), in_dims=(0, 0, 0))

    def step(x: Tensor, y: Tensor) -> None:
        gradients = gradient({k: p.detach() for k, p in leaves.items()}, x, y)
        for name, p in leaves.items():
            p.grad = gradients[name]
        optimizer.step()

    return step


def speed(
    architecture: str,
    batch_size: int,
    *,
    variational: bool,
    evaluation: bool,
    members: int,
    threads: int,
    seconds: float,
    device: str,
) -> float:
    """Measures training or evaluation.

    Args:
        architecture: a name of `zoojax.experiments.bench.members.ARCHITECTURES`.
        batch_size: images per step.
        variational: whether to train with variational dropout.
        evaluation: whether to evaluate instead of training.
        members: 1 for a single model, as Ray trains it; more only in dense training, with
            torch.func.vmap and separate batches for each member.
        threads: threads of this process.
        seconds: how long to measure after the warm-up.
        device: "cpu" or "cuda".

    Returns:
        Samples per second.
    """
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    shape = chain(architecture)
    single, is_full_batch = members == 1, shape.task.has_own_images
    images = batch_size if is_full_batch else _IMAGES
    x = torch.randn(images, shape.channels, shape.size, shape.size)
    y = torch.randint(shape.classes, (images,))
    if is_full_batch:
        y = torch.rand(images, shape.classes)
    if evaluation:
        step = _evaluation(shape)
    else:
        step = _one_member(shape, variational) if single else _many_members(shape, members)
    batch_shape = (batch_size,) if single else (members, batch_size)

    def train() -> None:
        if is_full_batch:
            step(x, y)
            return
        batch = torch.randint(images, batch_shape)
        step(x[batch], y[batch])

    for _ in range(30 if single else 3):
        train()
    samples, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        train()
        samples += batch_size * members
        if device == "cuda":
            torch.cuda.synchronize()
    return samples / spent


if __name__ == "__main__":
    print(json.dumps(speed(**json.loads(sys.argv[1]))))
