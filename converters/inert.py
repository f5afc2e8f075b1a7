"""Inert objects for what a pickle describes: nothing here runs code of a file."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

# The storages of torch and the NumPy types of their values.
STORAGES: dict[str, np.dtype] = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(jnp.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
}


class UnsafePickleError(Exception):
    """A reason to reject the current file, raised where its path is unknown."""


class Stub:
    """Inert replacement for an instance of a foreign class.

    Attributes:
        cls: The name of the class.
        args: The arguments that it is created with.
        state: Its attributes.
        items: Its items, if it is a mapping.
    """

    __slots__ = ("args", "cls", "items", "state")

    def __init__(self, cls: str, args: tuple[object, ...] = ()):
        self.cls = cls
        self.args = args
        self.state: dict[object, object] = {}
        self.items: dict[object, object] = {}


@dataclass(frozen=True, slots=True)
class Global:
    """A global that a pickle names; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage of numbers, which holds the values of tensors.

    Attributes:
        kind: A key of `STORAGES`.
        key: Its key in the file.
        numel: Number of its values.
    """

    kind: str
    key: str
    numel: int

    @property
    def dtype(self) -> np.dtype:
        """The type of its values."""
        return STORAGES[self.kind]

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor in a file: a view of a storage, within its bounds.

    Attributes:
        storage: The storage.
        offset: Position of the first value in the storage.
        shape: The shape.
        strides: Strides of the axes, in values.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of a copy."""
        return self.numel * self.storage.dtype.itemsize


@dataclass(slots=True)
class NumpyType:
    """A NumPy dtype in a pickle; its byte order is set after its creation."""

    code: str
    order: str = "="

    def resolve(self) -> np.dtype:
        """The dtype."""
        return np.dtype((self.order if self.order in "<>" else "") + self.code)


@dataclass(slots=True)
class NumpyArray:
    """A NumPy array in a pickle, which is not read."""

    shape: tuple[int, ...] = ()


def type_name(value: object) -> str:
    """Describes the type of a value from a file in messages."""
    if isinstance(value, TensorRef):
        return "Tensor"
    if isinstance(value, Stub):
        return shorten(value.cls, quote=False)
    return "NumPy array" if isinstance(value, NumpyArray) else type(value).__name__


def shorten(text: str, quote: bool = True) -> str:
    """Shortens and escapes text from a file for printing."""
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return repr(text) if quote else repr(text)[1:-1]
