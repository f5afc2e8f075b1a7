"""Looks at a pickle of torch's without unpickling it: what would it call, and with what?

`pickletools` names a pickle's opcodes and executes none of them.
"""

import io
import math
import pickletools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

_MOST_DIMENSIONS = 64  # torch's own bound
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
# How many objects an opcode takes from the stack; None: all above the mark.
_TAKES = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None,
    "SETITEM": 2, "SETITEMS": None, "APPEND": 1, "APPENDS": None,
}  # fmt: skip


class UnsafePickleError(Exception):
    """A reason to reject the file in hand, raised where its path is not known."""


class Stub:
    """What an instance of a foreign class becomes: its arguments and its state, inert."""

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
        # A plain one: a pickle can hide the methods of an OrderedDict behind attributes.
        self.state = dict(dict.items(state))


Foreign = Callable[[str, str], type[Stub] | None]


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
    """Follows a pickle as torch's unpickler would, with marks in place of objects.

    It keeps just enough to know what every call would be given. Every opcode, every global
    and every use of one that is not among those of tensors, dicts and stubs is refused.

    Args:
        foreign: says which stub the instances of a class (module, name) become; None refuses
            the pickle.
        size: bytes the file holds for a storage's key; None if that is not known.
        room: bytes there are for all storages whose own are not known.
    """

    def __init__(self, foreign: Foreign, size: Callable[[str], int | None], room: int = 0):
        self.stubs: dict[str, type[Stub]] = {}
        self.storages: dict[str, _Storage] = {}
        self._foreign = foreign
        self._size = size
        self._room = room

    def run(self, stream: io.BytesIO) -> object:
        """Checks the next pickle of the stream; its object, or the mark of it."""
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
            elif op in _TAKES:
                count = _TAKES[op]
                if count is None:
                    items, stack = stack, outer.pop()
                elif count <= len(stack):
                    items, stack[-count:] = stack[-count:], []
                else:
                    raise UnsafePickleError("damaged: its pickle runs out of objects")
                if op.startswith("TUPLE"):
                    stack.append(tuple(items))
                else:
                    self._fill(stack[-1], items, op.startswith("SET"))
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
                stack.append(self._known(arg))
            elif op == "NEWOBJ":
                args = stack.pop()
                if not self._is_stub(stack[-1]) or type(args) is not tuple:
                    raise UnsafePickleError("its pickle creates an object that is no stub")
                stack[-1] = _INSTANCE
            elif op == "BUILD":
                stack.pop()
                # On a tensor this would be set_(storage, any size).
                if stack[-1] is not _DICT and stack[-1] is not _INSTANCE:
                    raise UnsafePickleError("its pickle sets the state of what is no stub")
            elif op == "STOP":
                return stack.pop()
            elif op != "PROTO" or arg != 2:
                stream.seek(begin)
                self._name_foreign(stream)
                used = f"protocol {arg}" if op == "PROTO" else op
                raise UnsafePickleError(f"its pickle uses {used}, which torch's do not")
        raise UnsafePickleError("its pickle has no end")

    def _known(self, arg: str) -> _Global:
        """A global by its opcode's argument, "module name"."""
        module, _, name = arg.partition(" ")
        known = _Global(module, name)
        if known in (_ORDERED_DICT, _REBUILD_TENSOR, _REBUILD_PARAMETER):
            return known
        if module == "torch" and name in _ITEM_SIZES:
            return known
        stub = self._foreign(module, name)
        if stub is None:
            raise UnsafePickleError(
                f"its pickle would use {short(f'{module}.{name}', quote=False)}, "
                "which such a file has no need of; nothing was run"
            )
        self.stubs[f"{module}.{name}"] = stub
        return known

    def _name_foreign(self, stream: io.BytesIO) -> None:
        """Refuses by name the first foreign global of a pickle of another protocol, if any."""
        strings = [""] * 2
        for opcode, arg, _ in _operations(stream):
            if opcode.name in ("GLOBAL", "INST"):
                self._known(arg)
            elif opcode.name == "STACK_GLOBAL":
                self._known(" ".join(strings))
            elif isinstance(arg, str):
                strings = [strings[1], arg]

    def _is_stub(self, value: object) -> bool:
        return isinstance(value, _Global) and f"{value.module}.{value.name}" in self.stubs

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

    def _fill(self, target: object, items: list, is_dict: bool) -> None:
        if not is_dict and isinstance(target, list):
            target.extend(items)
        elif not is_dict or target is not _DICT:
            raise UnsafePickleError("its pickle adds items to what is no list or dict")
        # Hashing tuples in tuples in tuples would take forever, or the whole C stack.
        elif not all(type(key) in (str, int, float, bool, type(None)) for key in items[::2]):
            raise UnsafePickleError("not a state dict: a key is neither a string nor a number")

    def _storage(self, reference: object) -> _Storage:
        match reference:
            case ("storage", _Global("torch") as kind, str(key), str(), int(numel), *view) if (
                kind.name in _ITEM_SIZES and numel >= 0 and view in ([], [None])
            ):
                storage = _Storage(kind, numel)
            case _:
                raise UnsafePickleError(
                    "its pickle refers to something else than a storage of numbers"
                )
        if self.storages.setdefault(key, storage) is not storage:
            if self.storages[key] != storage:
                raise UnsafePickleError(f"storage {short(key)} is used as two different ones")
            return storage
        held = self._size(key)
        if held is None:
            self._room -= storage.nbytes
        if held not in (None, storage.nbytes) or self._room < 0:
            raise UnsafePickleError(
                f"an absurd tensor size: storage {short(key)} claims {storage.nbytes} bytes, "
                f"and the file has {'fewer' if held is None else max(held, 0)}"
            )
        return storage

    def _tensor(self, args: tuple) -> object:
        match args:
            case (_Storage(numel=held), int(offset), tuple(size), tuple(stride), bool(), _):
                numbers = (offset, *size, *stride)
            case _:
                raise UnsafePickleError(
                    "its pickle describes a tensor in a way that torch does not"
                )
        if not len(size) == len(stride) <= _MOST_DIMENSIONS:
            raise UnsafePickleError(
                f"a tensor of {len(size)} dimensions with {len(stride)} strides"
            )
        if not all(type(n) is int and 0 <= n < 2**63 for n in numbers):
            raise UnsafePickleError("the size of a tensor is not in numbers, or in absurd ones")
        numel = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if numel and max(numel, last + 1) > held:
            raise UnsafePickleError(
                f"an absurd tensor size: {numel} numbers in a storage of {held}, from {offset} on"
            )
        return _TENSOR


def _operations(stream: io.BytesIO) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    return pickletools.genops(stream)


def short(text: str, quote: bool = True) -> str:
    """Text out of a file, fit to be printed."""
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return repr(text) if quote else repr(text)[1:-1]
