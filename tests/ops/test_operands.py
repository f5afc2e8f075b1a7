"""Images and parameters of a wrong shape or type are refused; no read leaves an array."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import ROOT, zoo_fixtures
from tests.support.torch_models import made_up_params
from zoojax import ZoojaxError
from zoojax.architectures.base import Architecture, ConvSpec, architecture
from zoojax.architectures.cnn import CNN, init_params
from zoojax.datasets.specs import Images
from zoojax.ops import Noise, kernel, noise
from zoojax.ops.kernel import build
from zoojax.runtime import population
from zoojax.storage import zoo_images
from zoojax.training import engine, inference

SMALL = architecture("small", 1)
needs_kernel = pytest.mark.skipif(
    kernel.unavailable_reason(SMALL) is not None,
    reason=f"no kernel here: {kernel.unavailable_reason(SMALL)}",
)


def images(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 28, 28, 1)).astype(np.float32)


# Public functions


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros((3, 28, 28, 1), np.uint8), "images are uint8; give them normalised"),
        (np.zeros((3, 28, 28, 1), np.int64), "images are int64"),
        (np.zeros((3, 28, 28, 1), bool), "images are bool"),
        (np.zeros((3, 28, 28, 1), np.complex64), "images are complex64"),
        (np.zeros((2000, 1, 1, 1), np.float32), "(2000, 1, 1, 1)"),
        (np.zeros((3, 28, 28, 3), np.float32), "(3, 28, 28, 3)"),
        (np.zeros((3, 1, 28, 28), np.float32), "(3, 1, 28, 28)"),
        (np.zeros((3, 32, 32, 1), np.float32), "(3, 32, 32, 1)"),
        (np.zeros((28, 28, 1), np.float32), "(28, 28, 1)"),
        (np.zeros((0, 28, 28, 1), np.float32), "there are no images"),
        (np.float32(0), "shape ()"),
        ("images", "float32 [n, 28, 28, 1]"),
        (None, "float32 [n, 28, 28, 1]"),
        ([[1.0], [2.0, 3.0]], "images cannot be made an array"),
    ],
)
def test_images_of_a_wrong_shape_or_type(tmp_path_factory, wrong, named):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    for predict in (
        lambda: inference.predict(zoo, wrong),
        lambda: inference.predict_params(zoo.config, zoo.members_table, zoo.params(), wrong),
    ):
        with pytest.raises(ZoojaxError) as caught:
            predict()
        assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_images_of_another_floating_type_are_converted(tmp_path_factory, dtype):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    # Numbers that every type holds.
    exact = np.round(images() * 4) / 4
    np.testing.assert_array_equal(
        inference.predict(zoo, exact.astype(dtype)), inference.predict(zoo, exact)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float16, jnp.bfloat16])
def test_parameters_of_another_floating_type_are_converted(tmp_path_factory, dtype):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    exact = jax.tree.map(lambda x: x.astype(np.float16).astype(jnp.bfloat16), zoo.params())

    def answers(kind):
        params = jax.tree.map(lambda x: x.astype(kind), exact)
        return inference.predict_params(zoo.config, zoo.members_table, params, images())

    np.testing.assert_array_equal(answers(dtype), answers(np.float32))


def without(params: dict, layer: str, name: str | None = None) -> dict:
    if name is None:
        return {k: v for k, v in params.items() if k != layer}
    return params | {layer: {k: v for k, v in params[layer].items() if k != name}}


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda p: without(p, "fc1"), "'fc1' is missing"),
        (lambda p: without(p, "conv2", "bias"), "conv2: 'bias' is missing"),
        (lambda p: p | {"fc9": p["fc2"]}, "'fc9'"),
        (lambda p: p | {"fc1": None}, "fc1"),
        (lambda p: jax.tree.map(lambda x: x[:2], p), "conv1/kernel"),
        (lambda p: jax.tree.map(lambda x: x.astype(np.int32), p), "int32"),
        (lambda p: p | {"fc2": jax.tree.map(lambda x: x[..., :9], p["fc2"])}, "fc2/kernel"),
        (lambda p: [], "params"),
    ],
)
def test_parameters_of_a_wrong_shape_or_type(tmp_path_factory, spoil, named):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    with pytest.raises(ZoojaxError) as caught:
        inference.predict_params(zoo.config, zoo.members_table, spoil(zoo.params()), images())
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": np.zeros((20, 32, 32, 1), np.float32)}, "(20, 32, 32, 1)"),
        ({"images": np.zeros((20, 28, 28, 1))}, "float64"),
        ({"labels": np.full(20, 10, np.int32)}, "labels from 10 to 10"),
        ({"labels": np.full(20, -1, np.int32)}, "labels from -1"),
        ({"labels": np.zeros(19, np.int32)}, "(19,)"),
        ({"labels": np.zeros(20, np.float32)}, "float32"),
    ],
)
def test_image_sets_that_members_cannot_be_measured_on(tmp_path_factory, change, named):
    zoo = zoo_fixtures.dense(tmp_path_factory)
    found = zoo_images.load_images(zoo, None)
    test = Images(**{"images": found.test.images, "labels": found.test.labels, **change})
    with pytest.raises(ZoojaxError, match="the test images of") as caught:
        inference.evaluate(zoo, dataclasses.replace(found, test=test))
    assert named in str(caught.value)


# The kernel, from Python


def loss_arguments() -> dict:
    return {
        "params": made_up_params(SMALL, 0),
        "variances": None,
        "images": images(),
        "labels": np.zeros(5, np.int32),
        "index": np.arange(3, dtype=np.int32),
        "weights": np.ones(3, np.float32),
        "noise": Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0)),
        "dropout_rate": np.float32(0.5),
    }


@needs_kernel
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": np.zeros((5, 28, 28, 1), np.int32)}, "images has the type int32"),
        ({"images": np.zeros((5, 28, 28, 1), np.float16)}, "images has the type float16"),
        ({"images": np.zeros((5, 1, 1, 1), np.float32)}, "images has the shape"),
        ({"images": np.zeros((0, 28, 28, 1), np.float32), "labels": []}, "no images"),
        ({"labels": np.zeros(4, np.int32)}, "labels has the shape"),
        ({"labels": np.zeros(5, np.float32)}, "labels has the type"),
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
def test_operands_of_the_loss(change, named):
    with pytest.raises(ZoojaxError, match=named):
        kernel.loss(SMALL, "tanh", **{**loss_arguments(), **change})


@needs_kernel
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.int32])
def test_leaves_of_another_type(dtype):
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), made_up_params(SMALL, 0))
    with pytest.raises(ZoojaxError, match="parameter conv1/kernel has the type"):
        kernel.evaluate(SMALL, "tanh", params, jnp.asarray(images()), jnp.zeros(5, jnp.int32))
    with pytest.raises(ZoojaxError, match="parameter conv1/kernel has the type"):
        kernel.loss(SMALL, "tanh", **{**loss_arguments(), "params": params})


@needs_kernel
def test_unknown_activation():
    with pytest.raises(ZoojaxError, match="no activation named 'gauss'; there are: tanh"):
        kernel.loss(SMALL, "gauss", **loss_arguments())


@needs_kernel
@pytest.mark.parametrize("wrong", [-1, 5, 2**31 - 1, -(2**31)])
def test_indices_out_of_range(wrong):
    """Known only as the program runs."""
    change = {"index": np.array([0, wrong, 1], np.int32)}
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"index {wrong} is not in \[0, 5\)"):
        jax.block_until_ready(kernel.loss(SMALL, "tanh", **{**loss_arguments(), **change}))


@needs_kernel
@pytest.mark.parametrize("wrong", [-1, 10, 2**31 - 1])
def test_labels_out_of_range(wrong):
    labels = np.array([0, 0, wrong, 0, 0], np.int32)
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"label {wrong} is not in \[0, 10\)"):
        change = {"labels": labels}
        jax.block_until_ready(kernel.loss(SMALL, "tanh", **{**loss_arguments(), **change}))
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"label {wrong} is not in \[0, 10\)"):
        params = made_up_params(SMALL, 0)
        given = jnp.asarray(images()), jnp.asarray(labels)
        jax.block_until_ready(kernel.evaluate(SMALL, "tanh", params, *given))


# The kernel, called without the checks of Python


def leaves(members: int) -> list[np.ndarray]:
    params = population.stack([made_up_params(SMALL, seed) for seed in range(members)])
    return [params[layer][name] for layer in SMALL.layers for name in ("kernel", "bias")]


def called(target: str, arguments: list, results: list, **attributes) -> None:
    name = f"{build.register_targets(SMALL)}_{target}"
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
    attributes = {"activation": np.int32(0), "threads": np.int32(2), **attributes}
    jax.block_until_ready(jax.ffi.ffi_call(name, shapes)(*arguments, **attributes))


def training(members: int = 3, batch: int = 4) -> tuple[list, list]:
    own = leaves(members)
    arguments = [
        *(images(), np.zeros(5, np.int32), np.zeros((members, batch), np.int32)),
        *(np.ones((members, batch), np.float32), np.zeros((members, 2), np.uint32)),
        *(np.zeros(members, np.uint32), np.zeros(members, np.float32), *own),
    ]
    results = [((members,), np.float32)] * 2 + [(x.shape, np.float32) for x in own]
    return arguments, results


def evaluation(members: int = 3) -> tuple[list, list]:
    arguments = [images(), np.zeros(5, np.int32), *leaves(members)]
    results = [((members,), np.float32)] * 2 + [((members, 5), np.int32)]
    return arguments, results


CALLS = {
    "train": (training, {"dropout": False, "variational": False}),
    "evaluate": (evaluation, {}),
}


def spoilt(x: np.ndarray) -> list[np.ndarray]:
    """Fewer along each axis, an axis less, and the same bytes as another type."""
    other = np.int32 if x.dtype == np.float32 else np.float32
    shorter = [np.delete(x, -1, axis) for axis in range(x.ndim)]
    return [*shorter, x.reshape(-1)[0], x.reshape(1, *x.shape), x.astype(other)]


@needs_kernel
@pytest.mark.parametrize("target", CALLS)
def test_any_wrong_operand_is_an_error_of_the_kernel(target):
    make, attributes = CALLS[target]
    arguments, results = make()
    called(target, arguments, results, **attributes)
    for i, operand in enumerate(arguments):
        for wrong in spoilt(operand):
            changed = [*arguments[:i], wrong, *arguments[i + 1 :]]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"zoojax: .* is wrong"):
                called(target, changed, results, **attributes)


@needs_kernel
@pytest.mark.parametrize("target", CALLS)
def test_any_wrong_result_is_an_error_of_the_kernel(target):
    make, attributes = CALLS[target]
    arguments, results = make()
    for i, (shape, dtype) in enumerate(results):
        other = np.int32 if dtype == np.float32 else np.float32
        for wrong in [((shape[0] - 1, *shape[1:]), dtype), ((), dtype), (shape, other)]:
            changed = [*results[:i], wrong, *results[i + 1 :]]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"zoojax: .* is wrong"):
                called(target, arguments, changed, **attributes)


@needs_kernel
@pytest.mark.parametrize("target", CALLS)
def test_any_wrong_number_of_operands_is_an_error_of_the_kernel(target):
    make, attributes = CALLS[target]
    arguments, results = make()
    for given, wanted in [
        *((arguments[:n], results) for n in range(len(arguments))),
        ([*arguments, np.zeros(3, np.float32)], results),
        *((arguments, results[:n]) for n in range(1, len(results))),
    ]:
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"zoojax: .* is wrong"):
            called(target, given, wanted, **attributes)
    for activation in (-1, 6):
        with pytest.raises(jax.errors.JaxRuntimeError, match="activation is wrong"):
            called(target, arguments, results, **attributes, activation=np.int32(activation))


@needs_kernel
def test_variational_operands_are_counted_too():
    arguments, results = training()
    with pytest.raises(jax.errors.JaxRuntimeError, match="operands or results is wrong"):
        called("train", arguments, results, dropout=False, variational=True)


# Architectures


@pytest.mark.parametrize("classes", ["10", "10 -include /etc/passwd", 10.0, True, 0, -1, None])
def test_classes_are_a_whole_number(classes):
    with pytest.raises(ZoojaxError, match=r"classes is .*, not a whole number from 1 to"):
        architecture("small", 1, classes)
    with pytest.raises(ZoojaxError, match=r"channels is .*, not a whole number from 1 to"):
        architecture("small", classes)


@pytest.mark.parametrize(
    "sizes",
    [
        {"classes": 1025},
        {"classes": "10;}"},
        {"classes": 10.0},
        {"hidden": True},
        {"channels": 65},
        {"size": 4},
        {"size": 10**6},
        {"convs": (ConvSpec("8", 5, 2, True), *SMALL.convs[1:])},  # pyright: ignore
        {"convs": (ConvSpec(8, 0, 2, True), *SMALL.convs[1:])},
    ],
)
def test_sizes_that_no_kernel_is_compiled_for(sizes):
    """Refused where the compiler's command line is made; it is not started."""
    reason = kernel.unavailable_reason(dataclasses.replace(SMALL, **sizes))
    assert reason is not None
    assert "support" in reason or "leave nothing" in reason


def test_many_classes_are_computed_without_the_kernel():
    assert engine.engine(architecture("small", 1, 5000), "cpu") == "xla"


# Noise


def deep(layers: int) -> Architecture:
    return Architecture("deep", 28, 1, 10, (ConvSpec(2, 1, 1, True),) * (layers - 2))


def test_deeper_networks_than_noise_has_slots_for_are_refused():
    init_params(deep(8), "uniform", 0)
    with pytest.raises(ZoojaxError, match="at most 8 layers, not 9"):
        init_params(deep(9), "uniform", 0)
    with pytest.raises(ZoojaxError, match="at most 8 layers, not 9"):
        CNN(deep(9), "tanh").apply({"params": {}}, images())


@pytest.mark.parametrize("slot", [-1, noise.SLOTS])
def test_no_layer_draws_the_noise_of_another_step(slot):
    drawn = Noise(jnp.zeros(2, jnp.uint32), jnp.uint32(0))
    with pytest.raises(ZoojaxError, match="16 noise slots"):
        drawn.at(slot)


# Memory

WITHOUT_MEMORY = """
import dataclasses, resource
import jax
from tests.support.torch_models import made_up_params
from zoojax.architectures.base import architecture
from zoojax.ops import kernel

arch = dataclasses.replace(architecture("large", 3, 1024), hidden=1024)
params = jax.tree.map(jax.numpy.asarray, made_up_params(arch, 0))
images, labels = jax.numpy.zeros((4, 32, 32, 3)), jax.numpy.zeros(4, jax.numpy.int32)
program = jax.jit(lambda *given: kernel.evaluate(arch, "tanh", *given))
program = program.lower(params, images, labels).compile()
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size, size))
try:
    jax.block_until_ready(program(params, images, labels))
except jax.errors.JaxRuntimeError as error:
    print(error)
"""


@needs_kernel
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only on Linux")
def test_too_little_memory_is_an_error_of_the_kernel():
    """In a process of its own, of a network so large that its workspace needs new memory."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MEMORY],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "RESOURCE_EXHAUSTED: zoojax: no memory for" in done.stdout
