"""Operands of a wrong shape, type or range are refused; the kernel never reads past an array."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import ROOT
from tests.support.kernel import SMALL, SMALL_SPEC, needs_kernel
from tests.support.torch_models import made_up_params
from zoojax import ZoojaxError
from zoojax.ops import Noise, kernel
from zoojax.ops.kernel import build
from zoojax.ops.kernel.operands import variance_leaves
from zoojax.runtime import population

pytestmark = needs_kernel


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 28, 28, 1)).astype(np.float32)


def loss_arguments() -> dict:
    return {
        "params": made_up_params(SMALL, 0),
        "variances": None,
        "images": images(),
        "targets": np.zeros(5, np.int32),
        "index": np.arange(3, dtype=np.int32),
        "weights": np.ones(3, np.float32),
        "noise": Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0)),
        "dropout_rate": np.float32(0.5),
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": np.zeros((5, 28, 28, 1), np.int32)}, "images has the type int32"),
        ({"images": np.zeros((5, 28, 28, 1), np.float16)}, "images has the type float16"),
        ({"images": np.zeros((5, 1, 1, 1), np.float32)}, "images has the shape"),
        ({"images": np.zeros((0, 28, 28, 1), np.float32), "targets": []}, "no images"),
        ({"targets": np.zeros(4, np.int32)}, "labels has the shape"),
        ({"targets": np.zeros(5, np.float32)}, "labels has the type"),
        ({"index": np.zeros(3, np.float32)}, "index has the type"),
        ({"index": np.zeros((3, 1), np.int32)}, "index has the shape"),
        ({"index": np.zeros(0, np.int32), "weights": np.ones(0, np.float32)}, "no images"),
        ({"weights": np.ones(4, np.float32)}, "weights has the shape"),
        ({"weights": np.ones(3, np.int32)}, "weights has the type"),
        ({"noise": Noise(jnp.zeros(3, jnp.uint32), jnp.uint32(0))}, "noise's key"),
        ({"noise": Noise(jnp.zeros(2, jnp.float32), jnp.uint32(0))}, "noise's key"),
        ({"noise": Noise(jnp.zeros(2, jnp.uint32), jnp.int32(0))}, "noise's counter"),
        ({"dropout_rate": np.zeros(2, np.float32)}, "dropout rate"),
        ({"params": {}}, "parameter conv1/kernel is missing"),
        ({"variances": {}}, "variance conv1/kernel is missing"),
        ({"params": None}, "parameter conv1/kernel is missing"),
    ],
)
def test_invalid_operands_of_the_loss(change, reason):
    with pytest.raises(ZoojaxError, match=reason):
        kernel.loss(SMALL_SPEC, "tanh", **{**loss_arguments(), **change})


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.int32])
def test_parameters_of_another_type(dtype):
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), made_up_params(SMALL, 0))
    with pytest.raises(ZoojaxError, match="parameter conv1/kernel has the type"):
        kernel.evaluate(SMALL_SPEC, "tanh", params, jnp.asarray(images()), jnp.zeros(5, jnp.int32))
    with pytest.raises(ZoojaxError, match="parameter conv1/kernel has the type"):
        kernel.loss(SMALL_SPEC, "tanh", **{**loss_arguments(), "params": params})


def test_unknown_activation():
    with pytest.raises(ZoojaxError, match="no activation named 'gauss'; there are: tanh"):
        kernel.loss(SMALL_SPEC, "gauss", **loss_arguments())


@pytest.mark.parametrize("wrong", [-1, 5, 2**31 - 1, -(2**31)])
def test_indices_out_of_range(wrong):
    """Detected when the program runs."""
    change = {"index": np.array([0, wrong, 1], np.int32)}
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"index {wrong} is not in \[0, 5\)"):
        jax.block_until_ready(kernel.loss(SMALL_SPEC, "tanh", **{**loss_arguments(), **change}))


@pytest.mark.parametrize("wrong", [-1, 10, 2**31 - 1])
def test_labels_out_of_range(wrong):
    labels = np.array([0, 0, wrong, 0, 0], np.int32)
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"label {wrong} is not in \[0, 10\)"):
        change = {"targets": labels}
        jax.block_until_ready(kernel.loss(SMALL_SPEC, "tanh", **{**loss_arguments(), **change}))
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"label {wrong} is not in \[0, 10\)"):
        params = made_up_params(SMALL, 0)
        given = jnp.asarray(images()), jnp.asarray(labels)
        jax.block_until_ready(kernel.evaluate(SMALL_SPEC, "tanh", params, *given))


# Direct calls of the kernel, without the checks in Python


def leaves(members: int) -> list[np.ndarray]:
    params = population.stack([made_up_params(SMALL, seed) for seed in range(members)])
    return [params[layer][name] for layer in SMALL.layers for name in ("kernel", "bias")]


def call(target: str, arguments: list, results: list, **attributes) -> None:
    target = "train" if target == "penalized" else target
    name = f"{build.register_targets(SMALL_SPEC)}_{target}"
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    attributes = {"activation": np.int32(0), "threads": np.int32(2), **attributes}
    jax.block_until_ready(jax.ffi.ffi_call(name, shapes)(*arguments, **attributes))


def training_call(members: int = 3, batch: int = 4) -> tuple[list, list]:
    parameters = leaves(members)
    arguments = [
        *(images(), np.zeros(5, np.int32), np.zeros((members, batch), np.int32)),
        *(np.ones((members, batch), np.float32), np.zeros((members, 2), np.uint32)),
        *(np.zeros(members, np.uint32), np.zeros(members, np.float32), *parameters),
    ]
    results = [((members,), np.float32)] * 2 + [(x.shape, np.float32) for x in parameters]
    return arguments, results


def penalized_call(members: int = 3, batch: int = 4) -> tuple[list, list]:
    """With the weight of the KL divergence, and log sigma squared after the parameters."""
    arguments, results = training_call(members, batch)
    *others, parameters = *arguments[:7], leaves(members)
    log_sigma2 = [np.full_like(x, -10) for x in variance_leaves_like(parameters)]
    arguments = [*others, np.ones(members, np.float32), *parameters, *log_sigma2]
    return arguments, results + [(x.shape, np.float32) for x in log_sigma2]


def variance_leaves_like(parameters: list[np.ndarray]) -> list[np.ndarray]:
    """Arrays of the variances of all kernels, and of the biases of convolutions."""
    pairs = zip(parameters[::2], parameters[1::2], strict=True)
    params = {
        layer: {"kernel": kernel[0], "bias": bias[0]}
        for layer, (kernel, bias) in zip(SMALL.layers, pairs, strict=True)
    }
    one = variance_leaves(SMALL_SPEC, params)
    return [np.stack([np.asarray(leaf)] * len(parameters[0])) for leaf in one]


def evaluation_call(members: int = 3) -> tuple[list, list]:
    arguments = [images(), np.zeros(5, np.int32), *leaves(members)]
    results = [((members,), np.float32)] * 2 + [((members, 5), np.int32)]
    return arguments, results


def outputs_call(members: int = 3, batch: int = 4) -> tuple[list, list]:
    arguments = [
        *(images(), np.full((members, batch), 4, np.int32), np.zeros((members, 2), np.uint32)),
        *(np.zeros(members, np.uint32), np.zeros(members, np.float32), *leaves(members)),
    ]
    return arguments, [((members, batch, 10), np.float32)]


TRAINING = {
    **{"loss": np.int32(0), "penalty": np.int32(0)},
    **{"dropout": False, "variational": False},
}
CALLS = {
    "train": (training_call, TRAINING),
    "penalized": (penalized_call, {**TRAINING, "variational": True, "penalty": np.int32(2)}),
    "outputs": (outputs_call, {"dropout": False, "variational": False}),
    "evaluate": (evaluation_call, {}),
}


def invalid_variants(x: np.ndarray) -> list[np.ndarray]:
    """Arrays shorter along each axis, with other axes, and of another type."""
    other = np.int32 if x.dtype == np.float32 else np.float32
    shorter = [np.delete(x, -1, axis) for axis in range(x.ndim)]
    return [*shorter, x.reshape(-1)[0], x.reshape(1, *x.shape), x.astype(other)]


@pytest.mark.parametrize("target", CALLS)
def test_kernel_rejects_any_invalid_operand(target):
    make, attributes = CALLS[target]
    arguments, results = make()
    call(target, arguments, results, **attributes)
    for i, operand in enumerate(arguments):
        for wrong in invalid_variants(operand):
            changed = [*arguments[:i], wrong, *arguments[i + 1 :]]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"zoojax: .* is (wrong|not in)"):
                call(target, changed, results, **attributes)


@pytest.mark.parametrize("target", CALLS)
def test_kernel_rejects_any_invalid_result(target):
    make, attributes = CALLS[target]
    arguments, results = make()
    for i, (shape, dtype) in enumerate(results):
        other = np.int32 if dtype == np.float32 else np.float32
        for wrong in [((shape[0] - 1, *shape[1:]), dtype), ((), dtype), (shape, other)]:
            changed = [*results[:i], wrong, *results[i + 1 :]]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"zoojax: .* is wrong"):
                call(target, arguments, changed, **attributes)


@pytest.mark.parametrize("target", CALLS)
def test_kernel_rejects_a_wrong_number_of_operands_or_results(target):
    make, attributes = CALLS[target]
    arguments, results = make()
    for operands, outputs in [
        *((arguments[:n], results) for n in range(len(arguments))),
        ([*arguments, np.zeros(3, np.float32)], results),
        *((arguments, results[:n]) for n in range(1, len(results))),
    ]:
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"zoojax: .* is wrong"):
            call(target, operands, outputs, **attributes)
    for activation in (-1, 8):
        with pytest.raises(jax.errors.JaxRuntimeError, match="activation is wrong"):
            call(target, arguments, results, **attributes, activation=np.int32(activation))


def test_kernel_rejects_missing_variational_operands():
    arguments, results = training_call()
    with pytest.raises(jax.errors.JaxRuntimeError, match="operands or results is wrong"):
        call("train", arguments, results, **{**TRAINING, "variational": True})


@pytest.mark.parametrize(
    "attributes",
    [
        {"variational": True, "penalty": np.int32(3)},
        {"variational": True, "penalty": np.int32(-1)},
        {"variational": False, "penalty": np.int32(1)},
    ],
)
def test_kernel_rejects_invalid_penalties(attributes):
    arguments, results = penalized_call()
    if not attributes["variational"]:
        arguments, results = training_call()
        arguments.insert(7, np.ones(3, np.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="penalty is wrong"):
        call("train", arguments, results, **{**TRAINING, **attributes})


WITHOUT_MEMORY = """
import resource
import jax
from tests.support.torch_models import made_up_params
from zoojax.architectures.cnn import Block, cnn
from zoojax.ops import kernel

arch = cnn("wide", 32, 3, 10, (Block(6, 3, 1, False),) * 3)
spec = arch.kernel
params = jax.tree.map(jax.numpy.asarray, made_up_params(arch, 0))
images, labels = jax.numpy.zeros((4, 32, 32, 3)), jax.numpy.zeros(4, jax.numpy.int32)
program = jax.jit(lambda *given: kernel.evaluate(spec, "tanh", *given))
program = program.lower(params, images, labels).compile()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    jax.block_until_ready(program(params, images, labels))
except jax.errors.JaxRuntimeError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only on Linux")
def test_kernel_without_memory_for_its_workspace():
    """The process is separate, and the network so large that its workspace needs new memory."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "RESOURCE_EXHAUSTED: zoojax: no memory for" in result.stdout
