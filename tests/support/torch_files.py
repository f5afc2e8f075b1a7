"""Torch files for tests of safe loading: valid ones, malicious ones, and hand-made pickles."""

import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.safe_load import UnreadableFileError

MAGIC = 0x1950A86A20F9469CFC6C
BIG = 10**12
SHAPES = {
    "module_list.0.weight": (8, 1, 5, 5),
    "module_list.0.bias": (8,),
    "module_list.3.weight": (6, 8, 5, 5),
    "module_list.3.bias": (6,),
    "module_list.6.weight": (4, 6, 2, 2),
    "module_list.6.bias": (4,),
    "module_list.9.weight": (20, 36),
    "module_list.9.bias": (20,),
    "module_list.11.weight": (10, 20),
    "module_list.11.bias": (10,),
}
PAYLOADS = {
    "mkdir": lambda marker: (os.mkdir, (marker,)),
    "exec": lambda marker: (exec, (f"open({marker!r}, 'w')",)),
    "Popen": lambda marker: (subprocess.Popen, (["mkdir", marker],)),
}


class Evil:
    """An object whose unpickling creates a file or folder."""

    def __init__(self, marker: Path, payload: str = "mkdir"):
        self.call = PAYLOADS[payload](str(marker))

    def __reduce__(self):
        return self.call


def saved(value: object, zipped: bool = True) -> bytes:
    """The bytes that torch.save writes, in the zip format or the legacy format."""
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def state_dict() -> dict[str, torch.Tensor]:
    """A valid state dict of the small CNN."""
    generator = torch.Generator().manual_seed(0)
    return OrderedDict((k, torch.randn(s, generator=generator)) for k, s in SHAPES.items())


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    """The arrays equal the tensors bit for bit, in the same order."""
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        array = actual[name]
        assert type(array) is np.ndarray
        assert array.dtype == np.float32
        assert array.shape == tuple(tensor.shape)
        assert array.flags.c_contiguous and array.flags.writeable
        assert array.tobytes() == tensor.detach().numpy().tobytes()


def rejection(
    path: Path, content: bytes | None = None, read: Callable[[Path], object] = read_state
) -> str:
    """Writes a file that `read` must reject; returns the reason."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert str(path) not in caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value.reason


def payload_objects(evil: Evil) -> dict[str, object]:
    """Objects that contain a payload, by its place."""
    return {
        "alone": evil,
        "value": state_dict() | {"module_list.0.weight": evil},
        "nested": {"a": [{"b": (1, [evil])}]},
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}, 1: {"step": evil}},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
    }


# Pickles and files written by hand, which torch.save would never write.


def integer(n: int) -> bytes:
    """Pickles an integer."""
    digits = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits


def text(string: str) -> bytes:
    """Pickles a string."""
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def pickled_tuple(*items: bytes) -> bytes:
    """Pickles a tuple of pickled items."""
    return b"(" + b"".join(items) + b"t"


def storage(numel: int, legacy: bool = False, key: str = "0") -> bytes:
    """Pickles a reference to a storage of float32 values."""
    kind = b"ctorch\nFloatStorage\n"
    view = [b"N"] if legacy else []
    return (
        pickled_tuple(text("storage"), kind, text(key), text("cpu"), integer(numel), *view) + b"Q"
    )


def tensor(stored: bytes, size=(4,), stride=(1,), offset=0) -> bytes:
    """Pickles a tensor in a pickled storage."""
    sizes = [pickled_tuple(*map(integer, numbers)) for numbers in (size, stride)]
    hooks = b"ccollections\nOrderedDict\n)R"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return rebuild + pickled_tuple(stored, integer(offset), *sizes, b"\x89", hooks) + b"R"


def pickled(body: bytes) -> bytes:
    """Adds the protocol and the end to the opcodes of a pickle."""
    return b"\x80\x02" + body + b"."


def pickled_dict(value: bytes, name: str = "w") -> bytes:
    """A complete pickle of a dict with one item."""
    return pickled(b"}" + text(name) + value + b"s")


def zip_file(content: bytes, numbers: int = 4, also: str = "a/version", **options) -> bytes:
    """A torch file in the zip format with one storage."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", np.arange(numbers, dtype=np.float32).tobytes())
        archive.writestr(also, "3\n")
    return file.getvalue()


def legacy_file(content: bytes, numbers: int = 4, keys=("0",)) -> bytes:
    """A torch file in the legacy format with one storage."""
    header = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    pickles = [pickle.dumps(value, protocol=2) for value in header]
    pickles += [content, pickle.dumps(list(keys), protocol=2)]
    data = np.arange(numbers, dtype=np.float32).tobytes()
    return b"".join(pickles) + struct.pack("<q", numbers) + data
