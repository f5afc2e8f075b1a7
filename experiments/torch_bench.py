"""Torch's training speed: one member a process, or many under torch.func.vmap.

`python -m experiments.torch_bench '{"kind": "dense", ...}'` prints samples per second.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional

from converters.torch_models import CNN, kl
from experiments.bench_cases import IMAGES, Case, images

LEARNING_RATE, WEIGHT_DECAY = 3e-4, 1e-3


def _one_member(case: Case, x: Tensor, y: Tensor) -> Callable[[int], None]:
    model = CNN(case.shape, "tanh", variational=case.kind == "vd")
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(start: int) -> None:
        batch = slice(start, start + case.batch_size)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x[batch]), y[batch])
        if case.kind == "vd":
            loss = loss + 1e-3 * kl(model)
        loss.backward()
        optimizer.step()

    return step


def _many_members(case: Case, x: Tensor, y: Tensor, members: int) -> Callable[[int], None]:
    models = [CNN(case.shape, "tanh") for _ in range(members)]
    params, _ = stack_module_state(list(models))
    # One optimiser of the stack: Adam is element by element.
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    optimizer = torch.optim.Adam(leaves.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def loss(member: dict, images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(models[0], member, (images,)), labels)

    gradient = vmap(grad(loss), in_dims=(0, 0, 0))

    def step(start: int) -> None:
        # A batch of its own for every member, as its own shuffle gives it.
        batch = torch.randint(IMAGES, (members, case.batch_size))
        found = gradient({k: p.detach() for k, p in leaves.items()}, x[batch], y[batch])
        for name, p in leaves.items():
            p.grad = found[name]
        optimizer.step()

    return step


def speed(case: Case, members: int, threads: int, seconds: float, device: str) -> float:
    """Training samples per second.

    Args:
        case: what is trained.
        members: 1 for a model by itself, as Ray trains it; more for torch.func.vmap.
        threads: of this process.
        seconds: how long to measure, after a warm-up.
        device: "cpu" or "cuda".
    """
    torch.set_num_threads(threads)
    torch.set_default_device(device)
    pixels, classes = images(case.shape)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)
    y = torch.from_numpy(classes).long().to(device)
    step = _one_member(case, x, y) if members == 1 else _many_members(case, x, y, members)
    for _ in range(30 if members == 1 else 3):
        step(0)
    samples, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        step(samples // members % (IMAGES - case.batch_size))
        samples += case.batch_size * members
        if device == "cuda":
            torch.cuda.synchronize()
    return samples / spent


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(speed(Case(**given.pop("case")), **given)))
