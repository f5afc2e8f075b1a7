"""Random chains of operations, and what they compute, written with `jax.lax` for ONE member."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from zoojax import ops
from zoojax.architectures.layers import add_bias
from zoojax.ops import Noise
from zoojax.ops.kernel.spec import (
    DEFAULT_PARAMETERS,
    NO_PADDING,
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool,
    KernelSpec,
    Operation,
    Pool,
    is_pooled_by_two,
)

ACTIVATIONS = {
    "tanh": lambda x, parameter: jnp.tanh(x),
    "sigmoid": lambda x, parameter: jax.nn.sigmoid(x),
    "relu": lambda x, parameter: jax.nn.relu(x),
    "gelu": lambda x, parameter: jax.nn.gelu(x, approximate=False),
    "silu": lambda x, parameter: jax.nn.silu(x),
    "leaky_relu": lambda x, parameter: jax.nn.leaky_relu(x, parameter),
    "sine": lambda x, parameter: jnp.sin(parameter * x),
    "identity": lambda x, parameter: x,
}
_LAYOUT = ("NHWC", "HWIO", "NHWC")


def outputs(
    spec: KernelSpec,
    own: str,
    params: dict,
    variances: dict | None,
    x: Array,
    noise: Noise | None = None,
    rate: Array | None = None,
) -> Array:
    """Computes the outputs [B, outputs] of images [B, H, W, C]."""
    following = (*spec.operations[1:], None)
    for operation, after in zip(spec.operations, following, strict=True):
        if isinstance(operation, Conv | Dense):
            x = _weighted(operation, after, params, variances, x, noise)
        elif isinstance(operation, Pool):
            x = _pool(operation, x)
        elif isinstance(operation, GlobalAveragePool):
            x = jnp.mean(x, (1, 2))
        elif isinstance(operation, Flatten):
            x = x.reshape(x.shape[0], -1)
        elif isinstance(operation, Activation):
            name = own if operation.name is None else operation.name
            default = DEFAULT_PARAMETERS.get(name, 0.0)
            parameter = default if operation.name is None else operation.parameter
            x = ACTIVATIONS[name](x, parameter)
        elif isinstance(operation, Dropout) and noise is not None and rate is not None:
            keep = ops.uniform(noise.at(operation.slot), x.shape) < 1.0 - rate
            x = jnp.where(keep, x / (1.0 - rate), 0.0)
    return x


def _linear(operation: Conv | Dense, x: Array, kernel: Array) -> Array:
    if isinstance(operation, Dense):
        return jnp.matmul(x, kernel, precision="highest")
    return lax.conv_general_dilated(
        *(x, kernel, operation.stride, operation.padding),
        dimension_numbers=_LAYOUT,
        precision="highest",
    )


def _weighted(operation, after, params, variances, x, noise):
    layer = params[operation.layer]
    mean = add_bias(_linear(operation, x, layer["kernel"]), layer["bias"])
    if variances is None or noise is None:
        return mean
    of = variances[operation.layer]
    variance = _linear(operation, jnp.square(x), of["kernel"])
    if "bias" in of:
        variance = add_bias(variance, of["bias"])
    noise = noise.at(operation.slot)
    if is_pooled_by_two(operation, after):
        batch, height, width, features = mean.shape
        rows, columns = height // 2, width // 2
        shape = (batch, rows, 2, 2, columns, features)
        normal = jnp.moveaxis(_normal(noise, shape, 2, mean.dtype), 3, 4)
        normal = normal.reshape(batch, 2 * rows, 2 * columns, features)
        normal = jnp.pad(normal, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    else:
        normal = _normal(noise, mean.shape, mean.ndim - 1, mean.dtype)
    return mean + jnp.sqrt(variance + 1e-8) * normal


def _normal(noise: Noise, shape: tuple[int, ...], axis: int, dtype: jnp.dtype) -> Array:
    """`ops.normal`; in double precision from the same words.

    In single precision XLA's inverse error function rounds x^2 before it computes 1 - x^2, which
    changes large variates in the fifth digit. The kernel does not.
    """
    if dtype == jnp.float32:
        return ops.normal(noise, shape, axis)
    half = [-(-size // 2) if i == axis else size for i, size in enumerate(shape)]
    words = ops.uniform(noise, (2 * math.prod(half),)).reshape(2, *half)
    cells = jnp.floor(jnp.concatenate([*words], axis).astype(dtype) * 2**23)
    centers = lax.slice_in_dim((cells + 0.5) * 2.0**-22 - 1, 0, shape[axis], axis=axis)
    return math.sqrt(2) * lax.erf_inv(centers)


def _pool(operation: Pool, x: Array) -> Array:
    window, stride = (1, *operation.window, 1), (1, *operation.stride, 1)
    padding = ((0, 0), *operation.padding, (0, 0))
    if operation.kind == "max":
        return lax.reduce_window(x, -jnp.inf, lax.max, window, stride, padding)
    total = lax.reduce_window(x, 0.0, lax.add, window, stride, padding)
    return total / np.prod(operation.window)


def random_chain(seed: int) -> KernelSpec:
    """Draws a chain of one to eight layers, with sizes that fit no vector."""
    rng = np.random.default_rng(seed)
    height, width, channels = (int(rng.integers(*limits)) for limits in ((7, 15), (7, 15), (1, 4)))
    shape = (height, width, channels)
    draw = _Draw(rng, shape)
    depth = int(rng.integers(1, 9))
    convs = int(rng.integers(0, depth))
    for _ in range(convs):
        draw.conv()
    draw.flatten()
    # Some chains have so many weights that members run one after the other.
    wide = rng.random() < 0.4
    for i in range(depth - convs):
        draw.dense(int(rng.integers(40, 90) if wide else rng.integers(2, 18)), i > 0)
    return KernelSpec(shape, tuple(draw.operations))


class _Draw:
    """Appends random operations that fit the image that is left."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int, int]) -> None:
        self.rng, self.shape, self.layers = rng, shape, 0
        self.operations: list[Operation] = []

    def _sides(self) -> tuple[int, int]:
        height, width, *_ = KernelSpec(self.shape, tuple(self.operations)).shapes[-1]
        return height, width

    def _pair(self, low: int, high: int) -> tuple[int, int]:
        return int(self.rng.integers(low, high + 1)), int(self.rng.integers(low, high + 1))

    def conv(self) -> None:
        if min(self._sides()) < 2:
            return
        (height, width), (rows, columns) = self._sides(), self._pair(1, 4)
        kernel = (min(rows, height), min(columns, width))
        stride, padding = self._pair(1, 2), (self._pair(0, 2), self._pair(0, 2))
        if self.rng.random() < 0.4:
            side = min(rows, height, width)
            kernel, stride, padding = (side, side), (1, 1), NO_PADDING
        features = int(self.rng.integers(1, 18))
        layer = f"conv{self.layers}"
        self.operations.append(Conv(layer, features, kernel, stride, padding, self.layers))
        self.layers += 1
        steps = [self.pool, self.activation, self.dropout]
        for i in self.rng.permutation(3):
            if self.rng.random() < 0.7:
                steps[i]()

    def pool(self) -> None:
        if min(self._sides()) < 3:
            return
        if self.rng.random() < 0.5:
            self.operations.append(Pool("max", (2, 2), (2, 2)))
        elif self.rng.random() < 0.5:
            window = self._pair(1, 3)
            rows, columns = ((int(self.rng.integers(0, n)), n // 2) for n in window)
            self.operations.append(Pool("max", window, self._pair(1, 3), (rows, columns)))
        else:
            self.operations.append(Pool("average", self._pair(1, 3), self._pair(1, 2)))

    def activation(self) -> None:
        # Without relu: a sample whose units are all zero has no gradient to compare.
        names = [None, *(name for name in ACTIVATIONS if name != "relu")]
        name = names[int(self.rng.integers(len(names)))]
        parameter = {"leaky_relu": 0.2, "sine": 1.5}.get(name or "", 0.0)
        self.operations.append(Activation(name, parameter))

    def dropout(self) -> None:
        self.operations.append(Dropout(32 + len(self.operations)))

    def flatten(self) -> None:
        if self.rng.random() < 0.3:
            self.operations.append(GlobalAveragePool())
        else:
            self.operations.append(Flatten())
        if self.rng.random() < 0.3:
            self.dropout()

    def dense(self, features: int, hidden: bool) -> None:
        if hidden:
            self.activation()
            if self.rng.random() < 0.5:
                self.dropout()
        self.operations.append(Dense(f"fc{self.layers}", features, self.layers))
        self.layers += 1


def random_parameters(spec: KernelSpec, members: int) -> tuple[dict, dict]:
    """Draws stacked parameters, and variances of all kernels and of the convolutions' biases."""
    rng = np.random.default_rng(0)
    params, variances = {}, {}
    convs = [op.layer for op in spec.operations if isinstance(op, Conv)]
    for layer, shapes in spec.parameter_shapes().items():
        kernel = (members, *shapes["kernel"])
        scale = 1.2 / np.sqrt(np.prod(kernel[1:-1]))
        params[layer] = {
            "kernel": rng.normal(0, scale, kernel).astype(np.float32),
            "bias": rng.normal(0, 0.3, (members, *shapes["bias"])).astype(np.float32),
        }
        variances[layer] = {
            "kernel": rng.uniform(0.01, 0.1, kernel).astype(np.float32) * np.float32(scale**2)
        }
        if layer in convs:
            bias = rng.uniform(0.01, 0.1, (members, *shapes["bias"]))
            variances[layer]["bias"] = bias.astype(np.float32)
    return params, variances


@functools.cache
def random_images(spec: KernelSpec, count: int) -> np.ndarray:
    """Draws images [count, H, W, C]."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, *spec.input_shape)).astype(np.float32)
