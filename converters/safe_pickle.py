"""Reads pickles of torch without unpickling them.

`pickletools` parses the opcodes of a pickle and executes none of them. `SafeUnpickler` follows
them with inert objects: containers, numbers, text, references to tensors, and stubs of foreign
classes. Every opcode, every global and every use of a global is rejected unless it serves these.
"""

import io
import math
import pickletools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from zoojax.converters.inert import (
    STORAGES,
    Global,
    NumpyArray,
    NumpyType,
    Storage,
    Stub,
    TensorRef,
    UnsafePickleError,
    shorten,
)

_MAX_DIMENSIONS = 64  # Torch's own limit.
_PUSHES_ITS_ARGUMENT = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# The number of objects that an opcode pops from the stack; None for all above the mark.
_POPS = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None,
    "SETITEM": 2, "SETITEMS": None, "APPEND": 1, "APPENDS": None, "ADDITEMS": None,
}  # fmt: skip
_NUMPY_CODE = re.compile("[fiu][1248]|b1|f16|c8|c16")

# Returns whether the instances of a class (module, name) become stubs; otherwise the file is
# rejected.
StubFilter = Callable[[str, str], bool]


class SafeUnpickler:
    """Follows a pickle as torch's unpickler would, with inert objects.

    Args:
        is_stub: Whether the instances of a class become stubs.
        size: Returns the bytes in the file for a storage's key; None if unknown.
        available: Bytes in the file for all storages of unknown size together.

    Attributes:
        storages: All storages that the pickles refer to, by key.
    """

    def __init__(
        self,
        is_stub: StubFilter,
        size: Callable[[str], int | None],
        available: int = 0,
    ):
        self.storages: dict[str, Storage] = {}
        self._is_stub = is_stub
        self._size = size
        self._available = available
        self._functions: dict[str, Callable[[tuple], object]] = {
            "collections.OrderedDict": _empty_dict,
            "collections.defaultdict": lambda args: {},
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.Size": _size_tuple,
            "_codecs.encode": _encode,
            "numpy.dtype": _numpy_type,
        }
        for package in ("numpy.core", "numpy._core"):
            self._functions[f"{package}.multiarray.scalar"] = _numpy_scalar
            self._functions[f"{package}.multiarray._reconstruct"] = _numpy_array

    def run(self, stream: io.BytesIO) -> object:
        """Reads the next pickle of a stream.

        Args:
            stream: The stream, positioned at the start of a pickle; afterwards, at its end.

        Returns:
            The object that the pickle describes.

        Raises:
            UnsafePickleError: If the pickle is rejected.
        """
        begin = stream.tell()
        stack: list[Any] = []
        outer: list[list[Any]] = []
        memo: dict[int, Any] = {}
        for opcode, arg, _ in _operations(stream):
            op = opcode.name
            if op in ("BINPUT", "LONG_BINPUT"):
                memo[arg] = stack[-1]
            elif op == "MEMOIZE":
                memo[len(memo)] = stack[-1]
            elif op in _PUSHES_ITS_ARGUMENT:
                stack.append(arg)
            elif op in ("BINGET", "LONG_BINGET"):
                stack.append(memo[arg])
            elif op == "MARK":
                outer.append(stack)
                stack = []
            elif op in _POPS:
                items, stack = _pop_items(op, stack, outer)
                if op.startswith("TUPLE"):
                    stack.append(tuple(items))
                else:
                    _add_items(stack[-1], items, op.startswith("SET"))
            elif op in _CONSTANTS:
                stack.append(_CONSTANTS[op])
            elif op in ("REDUCE", "NEWOBJ"):
                args = stack.pop()
                stack[-1] = self._call(stack[-1], args, op == "NEWOBJ")
            elif op == "BINPERSID":
                stack.append(self._storage(stack.pop()))
            elif op == "EMPTY_DICT":
                stack.append({})
            elif op in ("EMPTY_LIST", "EMPTY_SET"):
                stack.append([])
            elif op == "GLOBAL":
                stack.append(self._global(*arg.split(" ", 1)))
            elif op == "STACK_GLOBAL":
                name = stack.pop()
                stack[-1] = self._global(stack[-1], name)
            elif op == "BUILD":
                state = stack.pop()
                _set_state(stack[-1], state)
            elif op == "STOP":
                return stack.pop()
            elif op != "FRAME" and (op != "PROTO" or arg > 5):
                stream.seek(begin)
                self._reject_foreign_globals(stream)
                used = f"protocol {arg}" if op == "PROTO" else op
                raise UnsafePickleError(f"its pickle uses {used}, which torch's do not")
        raise UnsafePickleError("its pickle has no end")

    def _global(self, module: object, name: object) -> object:
        """Resolves a global by its name; nothing is imported."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise UnsafePickleError("its pickle names a global with something other than text")
        full = f"{module}.{name}"
        known = full in self._functions or full == "numpy.ndarray"
        if known or (module == "torch" and name in (*STORAGES, *_TORCH_NAMES)):
            return Global(module, name)
        if module in ("builtins", "__builtin__") and name in _BUILTIN_TYPES:
            return Global(module, name)
        if not self._is_stub(module, name):
            shown = shorten(full, quote=False)
            if module.startswith("torch.nn.modules"):
                raise UnsafePickleError(
                    f"a pickled module, not a state dict: its pickle would use {shown}; nothing "
                    "was run"
                )
            raise UnsafePickleError(
                f"its pickle would use {shown}, which such a file does not need; nothing was run"
            )
        return Global(module, name)

    def _reject_foreign_globals(self, stream: io.BytesIO) -> None:
        """Names the first foreign global in a pickle with an unknown opcode, if there is one."""
        strings = [""] * 2
        for opcode, arg, _ in _operations(stream):
            if opcode.name in ("GLOBAL", "INST"):
                self._global(*arg.split(" ", 1))
            elif opcode.name == "STACK_GLOBAL":
                self._global(*strings)
            elif isinstance(arg, str):
                strings = [strings[1], arg]

    def _call(self, function: object, args: object, creates: bool) -> object:
        """Follows a call, or the creation of an object."""
        if isinstance(function, Global) and type(args) is tuple:
            known = self._functions.get(str(function))
            if known is not None and not creates:
                return known(args)
            if (function.module, function.name) == ("torch", "device"):
                return Stub("torch.device", args)
            if known is None and self._is_stub(function.module, function.name):
                return Stub(str(function), args)
        if creates:
            raise UnsafePickleError("its pickle creates an object that is not a stub")
        raise UnsafePickleError("its pickle calls something in a way that torch's pickles do not")

    def _storage(self, reference: object) -> Storage:
        """Checks a reference to a storage: its bytes must be in the file."""
        match reference:
            case ("storage", Global("torch", kind), str(key), str(), int(numel), *view) if (
                kind in STORAGES and type(numel) is int and numel >= 0 and view in ([], [None])
            ):
                storage = Storage(kind, key, numel)
            case _:
                raise UnsafePickleError(
                    "its pickle refers to something other than a storage of numbers"
                )
        if self.storages.setdefault(key, storage) is not storage:
            if self.storages[key] != storage:
                raise UnsafePickleError(f"storage {shorten(key)} is used as two different ones")
            return storage
        stored = self._size(key)
        if stored is None:
            self._available -= storage.nbytes
        if stored not in (None, storage.nbytes) or self._available < 0:
            raise UnsafePickleError(
                f"an absurd tensor size: storage {shorten(key)} claims {storage.nbytes} bytes, "
                f"but the file has {'fewer' if stored is None else max(stored, 0)}"
            )
        return storage

    def _tensor(self, args: tuple) -> TensorRef:
        """Checks the arguments of a tensor: it must lie within its storage."""
        match args:
            case (Storage() as storage, int(offset), tuple(size), tuple(stride), bool(), *_) if (
                6 <= len(args) <= 7
            ):
                numbers = (offset, *size, *stride)
            case _:
                raise UnsafePickleError(
                    "its pickle describes a tensor in a way that torch does not"
                )
        if not len(size) == len(stride) <= _MAX_DIMENSIONS:
            raise UnsafePickleError(
                f"a tensor of {len(size)} dimensions with {len(stride)} strides"
            )
        if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise UnsafePickleError(
                "a tensor has sizes or strides that are not integers below 2**63"
            )
        numel = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if numel and max(numel, last + 1) > storage.numel:
            raise UnsafePickleError(
                f"an absurd tensor size: {numel} values at offset {offset} of a storage of "
                f"{storage.numel}"
            )
        return TensorRef(storage, offset, size, stride)


# Types and functions that stand in pickles as arguments: they are never called.
_TORCH_NAMES = (
    "Size", "device", "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32",
    "int64", "uint8", "bool", "strided", "contiguous_format", "channels_last",
)  # fmt: skip
_BUILTIN_TYPES = ("list", "dict", "set", "tuple", "int", "float", "str", "bool", "bytes")


def _empty_dict(args: tuple) -> dict:
    if args:
        raise UnsafePickleError("its pickle calls something in a way that torch's pickles do not")
    return {}


def _parameter(args: tuple) -> TensorRef:
    if len(args) != 3 or not isinstance(args[0], TensorRef):
        raise UnsafePickleError("its pickle calls something in a way that torch's pickles do not")
    return args[0]


def _size_tuple(args: tuple) -> object:
    return args[0] if args else ()


def _encode(args: tuple) -> bytes:
    """Bytes in protocol 2: text of Latin-1."""
    match args:
        case (str(text), "latin1"):
            return text.encode("latin1")
    raise UnsafePickleError("its pickle encodes something other than bytes")


def _numpy_type(args: tuple) -> NumpyType:
    match args:
        case (str(code), *_) if _NUMPY_CODE.fullmatch(code):
            return NumpyType(code)
    raise UnsafePickleError("its pickle has a NumPy type that is not of numbers")


def _numpy_scalar(args: tuple) -> object:
    match args:
        case (NumpyType() as kind, bytes(data)) if len(data) == kind.resolve().itemsize:
            value = np.frombuffer(data, kind.resolve())[0]
            return value.item() if kind.code != "f16" else float(value)
    raise UnsafePickleError("its pickle has a damaged NumPy scalar")


def _numpy_array(args: tuple) -> NumpyArray:
    if not args or not isinstance(args[0], Global) or str(args[0]) != "numpy.ndarray":
        raise UnsafePickleError("its pickle creates something other than a NumPy array")
    return NumpyArray()


def _add_items(target: object, items: list, is_dict: bool) -> None:
    """Adds items to a list or a dict."""
    if isinstance(target, Stub):
        # The items of a foreign list are not needed.
        if not is_dict:
            return
        target = target.items
    if not is_dict and isinstance(target, list):
        target.extend(items)
    elif not is_dict or type(target) is not dict or len(items) % 2:
        raise UnsafePickleError("its pickle adds items to what is not a list or dict")
    # Hashing deeply nested tuples would take forever, or overflow the C stack.
    elif not all(type(key) in (str, int, float, bool, type(None)) for key in items[::2]):
        raise UnsafePickleError("not a state dict: a key is neither a string nor a number")
    else:
        target.update(zip(items[::2], items[1::2], strict=True))


def _set_state(target: object, state: object) -> None:
    """Sets the state of an object; on a tensor this would call set_(storage, any size)."""
    if isinstance(target, Stub):
        if not isinstance(state, dict):
            raise UnsafePickleError(
                f"the state of an object is a {type(state).__name__}, not a dict"
            )
        target.state.update(state)
    elif isinstance(target, NumpyType):
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if not isinstance(order, str) or order not in ("<", ">", "=", "|"):
            raise UnsafePickleError("its pickle has a damaged NumPy type")
        target.order = order
    elif isinstance(target, NumpyArray):
        shape = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        target.shape = shape if isinstance(shape, tuple) else ()
    # Attributes of a dict, such as the metadata of a state dict, are not needed.
    elif type(target) is not dict:
        raise UnsafePickleError("its pickle sets the state of what is not a stub")


def _operations(stream: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    """The opcodes of a pickle, their arguments and positions."""
    return pickletools.genops(stream)


def _pop_items(op: str, stack: list[Any], outer: list[list[Any]]) -> tuple[list[Any], list[Any]]:
    """Pops the items of an opcode; returns them and the stack below them."""
    count = _POPS[op]
    if count is None:
        return stack, outer.pop()
    if count > len(stack):
        raise UnsafePickleError("damaged: its pickle runs out of objects")
    items = stack[-count:]
    del stack[-count:]
    return items, stack
