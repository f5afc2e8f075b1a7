"""Checks a pickle of torch without unpickling it: what would it call, and with what?

`pickletools` parses the opcodes of a pickle and executes none of them.
"""

import io
import math
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_MAX_DIMENSIONS = 64  # Torch's own limit.
_ITEM_SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_PUSHES_ITS_ARGUMENT = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# The number of objects that an opcode pops from the stack; None for all above the mark.
_POPS = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None,
    "SETITEM": 2, "SETITEMS": None, "APPEND": 1, "APPENDS": None,
}  # fmt: skip


class UnsafePickleError(Exception):
    """A reason to reject the current file, raised where its path is unknown."""


class Stub:
    """Inert replacement for an instance of a foreign class: its arguments and its state."""

    __slots__ = ("args", "state")

    def __new__(cls, *args: object):
        stub = super().__new__(cls)
        stub.args = args
        stub.state = {}
        return stub

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise UnsafePickleError(
                f"the state of an object is a {type(state).__name__}, not a dict"
            )
        # A plain dict: a pickle can hide the methods of an OrderedDict behind attributes.
        self.state = dict(dict.items(state))


# Returns the stub for a class (module, name), or None to reject the file.
StubResolver = Callable[[str, str], type[Stub] | None]


class _Global(NamedTuple):
    module: str
    name: str


class _Storage(NamedTuple):
    kind: _Global
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * _ITEM_SIZES[self.kind.name]


_ORDERED_DICT = _Global("collections", "OrderedDict")
_REBUILD_TENSOR = _Global("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER = _Global("torch._utils", "_rebuild_parameter")
_TENSOR, _DICT, _INSTANCE = object(), object(), object()


class PickleCheck:
    """Follows a pickle as torch's unpickler would, with placeholders instead of objects.

    It tracks just enough to know the arguments of every call. Every opcode, every global and
    every use of a global is rejected unless it serves tensors, dicts or stubs.

    Args:
        resolve_stub: Returns the stub for the instances of a class (module, name); None
            rejects the pickle.
        size: Returns the bytes in the file for a storage's key; None if unknown.
        available: Bytes in the file for all storages of unknown size together.
    """

    def __init__(
        self,
        resolve_stub: StubResolver,
        size: Callable[[str], int | None],
        available: int = 0,
    ):
        self.stubs: dict[str, type[Stub]] = {}
        self.storages: dict[str, _Storage] = {}
        self._resolve_stub = resolve_stub
        self._size = size
        self._available = available

    def run(self, stream: io.BytesIO) -> object:
        """Checks the next pickle of a stream.

        Args:
            stream: The stream, positioned at the start of a pickle; afterwards, at its end.

        Returns:
            The object that the pickle describes, or a placeholder for it.

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
                    self._check_items(stack[-1], items, op.startswith("SET"))
            elif op in _CONSTANTS:
                stack.append(_CONSTANTS[op])
            elif op == "REDUCE":
                args = stack.pop()
                stack[-1] = self._call(stack[-1], args)
            elif op == "BINPERSID":
                stack.append(self._storage(stack.pop()))
            elif op == "EMPTY_DICT":
                stack.append(_DICT)
            elif op == "EMPTY_LIST":
                stack.append([])
            elif op == "GLOBAL":
                stack.append(self._global(arg))
            elif op == "NEWOBJ":
                args = stack.pop()
                stack[-1] = self._new_object(stack[-1], args)
            elif op == "BUILD":
                stack.pop()
                # On a tensor this would call set_(storage, any size).
                if stack[-1] is not _DICT and stack[-1] is not _INSTANCE:
                    raise UnsafePickleError("its pickle sets the state of what is no stub")
            elif op == "STOP":
                return stack.pop()
            elif op != "PROTO" or arg != 2:
                stream.seek(begin)
                self._reject_foreign_globals(stream)
                used = f"protocol {arg}" if op == "PROTO" else op
                raise UnsafePickleError(f"its pickle uses {used}, which torch's do not")
        raise UnsafePickleError("its pickle has no end")

    def _global(self, arg: str) -> _Global:
        """Resolves the argument of the opcode GLOBAL, "module name"."""
        module, _, name = arg.partition(" ")
        resolved = _Global(module, name)
        if resolved in (_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER):
            return resolved
        if module == "torch" and name in _ITEM_SIZES:
            return resolved
        stub = self._resolve_stub(module, name)
        if stub is None:
            raise UnsafePickleError(
                f"its pickle would use {shorten(f'{module}.{name}', quote=False)}, "
                "which such a file does not need; nothing was run"
            )
        self.stubs[f"{module}.{name}"] = stub
        return resolved

    def _reject_foreign_globals(self, stream: io.BytesIO) -> None:
        """Names the first foreign global in a pickle of another protocol, if there is one."""
        strings = [""] * 2
        for opcode, arg, _ in _operations(stream):
            if opcode.name in ("GLOBAL", "INST"):
                self._global(arg)
            elif opcode.name == "STACK_GLOBAL":
                self._global(" ".join(strings))
            elif isinstance(arg, str):
                strings = [strings[1], arg]

    def _is_stub(self, value: object) -> bool:
        return isinstance(value, _Global) and f"{value.module}.{value.name}" in self.stubs

    def _new_object(self, cls: object, args: object) -> object:
        if not self._is_stub(cls) or type(args) is not tuple:
            raise UnsafePickleError("its pickle creates an object that is no stub")
        return _INSTANCE

    def _call(self, function: object, args: object) -> object:
        if type(args) is tuple:
            if function == _REBUILD_TENSOR:
                return self._tensor(args)
            if function == _ORDERED_DICT and not args:
                return _DICT
            if function == _REBUILD_PARAMETER and len(args) == 3 and args[0] is _TENSOR:
                return _TENSOR
            if self._is_stub(function):
                return _INSTANCE
        raise UnsafePickleError("its pickle calls something in a way that torch's pickles do not")

    def _check_items(self, target: object, items: list, is_dict: bool) -> None:
        """Checks the items that are added to a list or a dict; extends the list."""
        if not is_dict and isinstance(target, list):
            target.extend(items)
        elif not is_dict or target is not _DICT:
            raise UnsafePickleError("its pickle adds items to what is no list or dict")
        # Hashing deeply nested tuples would take forever, or overflow the C stack.
        elif not all(type(key) in (str, int, float, bool, type(None)) for key in items[::2]):
            raise UnsafePickleError("not a state dict: a key is neither a string nor a number")

    def _storage(self, reference: object) -> _Storage:
        """Checks a reference to a storage: its bytes must be in the file."""
        match reference:
            case ("storage", _Global("torch") as kind, str(key), str(), int(numel), *view) if (
                kind.name in _ITEM_SIZES and numel >= 0 and view in ([], [None])
            ):
                storage = _Storage(kind, numel)
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

    def _tensor(self, args: tuple) -> object:
        """Checks the arguments of a tensor: it must lie within its storage."""
        match args:
            case (_Storage(numel=stored), int(offset), tuple(size), tuple(stride), bool(), _):
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
        if numel and max(numel, last + 1) > stored:
            raise UnsafePickleError(
                f"an absurd tensor size: {numel} values at offset {offset} of a storage of {stored}"
            )
        return _TENSOR


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


def shorten(text: str, quote: bool = True) -> str:
    """Shortens and escapes text from a file for printing."""
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return repr(text) if quote else repr(text)[1:-1]
