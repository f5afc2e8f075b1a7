"""State dicts are read to the bit, and files made to harm are not read at all."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from zoojax.converters.safe_load import UnreadableFileError, read_state

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
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path, payload: str = "mkdir"):
        self.call = PAYLOADS[payload](str(marker))

    def __reduce__(self):
        return self.call


def saved(value: object, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def state_dict() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return OrderedDict((k, torch.randn(s, generator=generator)) for k, s in SHAPES.items())


def assert_equal(actual: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        array = actual[name]
        assert type(array) is np.ndarray
        assert array.dtype == np.float32
        assert array.shape == tuple(tensor.shape)
        assert array.flags.c_contiguous and array.flags.writeable
        assert array.tobytes() == tensor.detach().numpy().tobytes()


def rejection(path: Path, content: bytes | None = None, read=read_state) -> str:
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert str(path) not in caught.value.reason
    assert "\n" not in caught.value.reason
    return caught.value.reason


# Pickles by hand: what torch.save would never write.


def number(n: int) -> bytes:
    digits = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits


def text(string: str) -> bytes:
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def together(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def storage(numel: int, legacy: bool = False, key: str = "0") -> bytes:
    kind = b"ctorch\nFloatStorage\n"
    view = [b"N"] if legacy else []
    return together(text("storage"), kind, text(key), text("cpu"), number(numel), *view) + b"Q"


def tensor(held: bytes, size=(4,), stride=(1,), offset=0) -> bytes:
    sizes = [together(*map(number, numbers)) for numbers in (size, stride)]
    hooks = b"ccollections\nOrderedDict\n)R"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return rebuild + together(held, number(offset), *sizes, b"\x89", hooks) + b"R"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def state(value: bytes, name: str = "w") -> bytes:
    return pickled(b"}" + text(name) + value + b"s")


def zipped(content: bytes, numbers: int = 4, also: str = "a/version", **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", np.arange(numbers, dtype=np.float32).tobytes())
        archive.writestr(also, "3\n")
    return file.getvalue()


def legacy(content: bytes, numbers: int = 4, keys=("0",)) -> bytes:
    header = [MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    pickles = [pickle.dumps(value, protocol=2) for value in header]
    pickles += [content, pickle.dumps(list(keys), protocol=2)]
    data = np.arange(numbers, dtype=np.float32).tobytes()
    return b"".join(pickles) + struct.pack("<q", numbers) + data


def directory(content: bytes) -> list[int]:
    """Where the entries of a zip's directory begin."""
    places, place = [], content.index(b"PK\x01\x02")
    while place >= 0:
        places.append(place)
        place = content.find(b"PK\x01\x02", place + 1)
    return places


def patched(content: bytes, place: int, form: str, *values: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, place, *values)
    return bytes(changed)


def bombs() -> dict[str, bytes]:
    """Files that claim far more than they have, by the reason to reject them."""
    plain = zipped(state(tensor(storage(4))))
    _, _, data, last = directory(plain)
    big = zipped(state(tensor(storage(2**22))), 2**22, compression=zipfile.ZIP_DEFLATED)
    giant = directory(big)[2]
    chain = pickled(b"})" + b"\x85" * 200_000 + b"Ns")
    many = b"".join(text(str(i)) + b"h\x00s" for i in range(50_000))
    shared = pickled(b"}" + text("w") + tensor(storage(2**12), (2**12,)) + b"q\x00s" + many)
    return {
        "compressed zip entry": patched(big, giant + 24, "<I", 2**32 - 2),
        "overlap: 'a/data/0'": patched(plain, data + 20, "<II", 2**31, 2**31),
        "overlap: 'a/version'": patched(
            plain, last + 42, "<I", struct.unpack_from("<I", plain, data + 42)[0]
        ),
        "absurd zip directory": patched(plain, len(plain) - 12, "<H", 60000),
        f"claims {4 * BIG} bytes, and the file has 16": zipped(state(tensor(storage(BIG)))),
        "claims 20 bytes, and the file has 16": zipped(state(tensor(storage(5)))),
        "claims 16 bytes, and the file has 0": zipped(state(tensor(storage(4, key="7")))),
        f"claims {4 * BIG} bytes, and the file has fewer": legacy(
            state(tensor(storage(BIG, True)))
        ),
        f"{BIG} numbers in a storage of 4, from 0": zipped(
            state(tensor(storage(4), (10**6, 10**6), (0, 0)))
        ),
        f"{10**15} numbers in a storage of 4, from 0": legacy(
            state(tensor(storage(4, True), (10**5,) * 3, (0, 0, 0)))
        ),
        "4 numbers in a storage of 4, from 1": legacy(state(tensor(storage(4, True), offset=1))),
        "4 numbers in a storage of 4, from 0": legacy(
            state(tensor(storage(4, True), stride=(BIG,)))
        ),
        "or in absurd ones": zipped(state(tensor(storage(4), (2**63,)))),
        "100 dimensions": zipped(state(tensor(storage(4), (1,) * 100, (1,) * 100))),
        "take more memory than is allowed": zipped(shared, 2**12),
        "neither a string nor a number": zipped(chain),
        "its pickle has more than": zipped(state(b"N" + b"0N" * 2**21)),
    }


def test_pickles_by_hand_are_those_of_torch(tmp_path):
    path = tmp_path / "state"
    expected = {"w": torch.arange(4.0)}
    for content in (zipped(state(tensor(storage(4)))), legacy(state(tensor(storage(4, True))))):
        path.write_bytes(content)
        assert_equal(read_state(path), expected)
        assert torch.equal(torch.load(path, weights_only=True)["w"], expected["w"])
    transposed = zipped(state(tensor(storage(4), (2, 2), (1, 2))))
    path.write_bytes(transposed)
    assert_equal(read_state(path), {"w": torch.arange(4.0).reshape(2, 2).T.contiguous()})


@pytest.mark.parametrize("zipped", [True, False])
def test_states_are_read_to_the_bit(tmp_path, zipped):
    shared = torch.randn(5, 4)
    expected = state_dict() | {
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "scalar": torch.tensor(-0.0),
        "none": torch.zeros(0, 3),
        "odd": torch.tensor([float("nan"), float("inf"), 1e-45]),
        "view": shared[1:3],
        "tied": shared,
    }
    path = tmp_path / "state"
    path.write_bytes(saved(expected, zipped))
    actual = read_state(path)
    assert_equal(actual, expected)
    actual["tied"][:] = 0
    assert_equal({"view": actual["view"]}, {"view": shared[1:3]})


def test_reference_checkpoints_are_read_to_the_bit(reference):
    paths = sorted(reference.glob("*/*/*/checkpoints"))
    assert len(paths) == 4 * 51 + 4 * 26 + 4 * 5 * 2
    for path in paths:
        assert_equal(read_state(path), torch.load(path, weights_only=True))


def test_a_link_is_followed(tmp_path):
    (tmp_path / "state").write_bytes(saved(state_dict()))
    (tmp_path / "link").symlink_to("state")
    assert_equal(read_state(tmp_path / "link"), state_dict())


def test_what_is_no_file_is_rejected(tmp_path):
    assert "No such file" in rejection(tmp_path / "none")
    assert rejection(tmp_path) == "a folder"
    os.mkfifo(tmp_path / "pipe")
    assert rejection(tmp_path / "pipe") == "not a regular file"
    assert rejection(tmp_path / "file", b"") == "empty"
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 2**28 + 1)
    assert "more than the 268435456 allowed" in rejection(path)
    path.write_bytes(saved(state_dict()))
    assert "more than the 1000 allowed" in rejection(path, read=lambda p: read_state(p, limit=1000))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_rejected(tmp_path):
    path = tmp_path / "state"
    path.touch(mode=0)
    assert "Permission denied" in rejection(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value, reason",
    [
        ([torch.zeros(3)], "a list, not a state dict"),
        (torch.zeros(3), "a Tensor, not a state dict"),
        ({1: torch.zeros(3)}, "a key is a int, not a string"),
        ({(1, 2): torch.zeros(3)}, "a key is neither a string nor a number"),
        ({"a": 3}, "'a' is a int, not a tensor"),
        ({"a": {"b": torch.zeros(3)}}, "'a' is a dict, not a tensor"),
        ({"a": torch.zeros(3, dtype=torch.float64)}, "'a' is torch.float64, not torch.float32"),
        ({"a": torch.zeros(3, dtype=torch.float16)}, "'a' is torch.float16, not torch.float32"),
        ({"a": torch.zeros(3, dtype=torch.bfloat16)}, "'a' is torch.bfloat16, not"),
        ({"a": torch.zeros(3, dtype=torch.int64)}, "'a' is torch.int64, not torch.float32"),
        ({"a": torch.zeros(1).expand(1000)}, "absurd tensor size: 1000 numbers in a storage of 1"),
        ({"a": np.zeros(3)}, "multiarray._reconstruct"),
        ({"a": torch.zeros(3).to_sparse()}, "torch._utils._rebuild_sparse_tensor"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_what_is_no_state_dict_is_rejected(tmp_path, value, reason, zipped):
    assert reason in rejection(tmp_path / "state", saved(value, zipped))


def hidden(evil: Evil) -> dict[str, object]:
    return {
        "alone": evil,
        "value": state_dict() | {"module_list.0.weight": evil},
        "nested": {"a": [{"b": (1, [evil])}]},
        "optimizer": {
            "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}, 1: {"step": evil}},
            "param_groups": [{"lr": 0.1, "params": [0, 1]}],
        },
    }


def test_the_payload_of_these_tests_would_run(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()
    marker.rmdir()
    torch.load(io.BytesIO(saved(hidden(Evil(marker))["nested"])), weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["alone", "value", "nested", "optimizer"])
def test_payloads_are_rejected_by_name_and_do_not_run(tmp_path, payload, place):
    marker = tmp_path / "marker"
    value = hidden(Evil(marker, payload))[place]
    files = [saved(value), saved(value, zipped=False)]
    if place in ("alone", "nested"):
        files += [pickle.dumps(value, protocol) for protocol in range(6)]
    for content in files:
        reason = rejection(tmp_path / "state", content)
        assert f".{payload}" in reason
        assert "nothing was run" in reason
        assert not marker.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"(cposix\nmkdir\n" + text("MARKER") + b"o",  # OBJ
        b"(" + text("MARKER") + b"iposix\nmkdir\n",  # INST
        text("posix") + text("mkdir") + b"\x93" + text("MARKER") + b"\x85R",  # STACK_GLOBAL
    ],
)
def test_every_way_to_name_a_function_is_seen(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    for content in (zipped(state(body)), legacy(state(body)), pickled(body)):
        assert "posix.mkdir" in rejection(tmp_path / "state", content)
        assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    "body, reason",
    [
        (b"\x82\x01", "uses EXT1"),
        (storage(4)[:-1] + b"0N", "uses POP"),
        (text("0") + b"Q", "something else than a storage"),
        (together(text("module"), b"NNN") + b"Q", "something else than a storage"),
        (tensor(storage(4)) + together(storage(4), number(0), b")", b")") + b"b", "sets the state"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "describes a tensor"),
        (b"ctorch._utils\n_rebuild_parameter\nNNN\x87R", "calls something"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)\x81", "creates an object"),
        (b"ctorch\nFloatStorage\n" + number(BIG) + b"\x85R", "calls something"),
        (b"ctorch._utils\n_rebuild_wrapper_subclass\n)R", "torch._utils._rebuild_wrapper_subclass"),
        (b"ccollections\nCounter\n)R", "collections.Counter"),
        (text("a") + b"N" + b"a", "adds items"),
        (b"]NNs", "adds items"),
        (b"\x87", "runs out of objects"),
        (b"t", "damaged"),
        (b"h\x05", "damaged"),
        (tensor(storage(4)) + b"0", "uses POP"),
    ],
)
def test_pickles_that_torch_would_not_write_are_rejected(tmp_path, body, reason):
    assert reason in rejection(tmp_path / "state", zipped(state(body)))


def test_attributes_cannot_hide_methods(tmp_path):
    hiding = b"}" + text("items") + text("x") + b"s" + b"b"
    body = b"ccollections\nOrderedDict\n)R" + text("w") + tensor(storage(4)) + b"s" + hiding
    path = tmp_path / "state"
    path.write_bytes(zipped(pickled(body)))
    assert_equal(read_state(path), {"w": torch.arange(4.0)})


def test_storages_of_the_old_form_are_all_listed(tmp_path):
    body = state(tensor(storage(4, True)))
    assert "list of its storages" in rejection(tmp_path / "state", legacy(body, keys=()))
    assert "list of its storages" in rejection(tmp_path / "state", legacy(body, keys=("0", "0")))
    assert "bytes instead of" in rejection(tmp_path / "state", legacy(body) + b"\0")
    assert "torch cannot read it" in rejection(
        tmp_path / "state", legacy(body).replace(struct.pack("<q", 4), struct.pack("<q", BIG))
    )


def renamed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) == 2 and len(old) == len(new)
    return content.replace(old, new)


def test_ambiguous_and_unsafe_zips_are_rejected(tmp_path):
    path = tmp_path / "state"
    good = zipped(state(tensor(storage(4))))
    unsafe = [b"../../xxx", b"/a/xxxxxx", b"a//xxxxxx", b"a\\../xxxx", b"b/version", b"a/ver\0ion"]
    for name in unsafe:
        assert "unsafe name" in rejection(path, renamed(good, b"a/version", name))
    twice = zipped(state(tensor(storage(4))), also="a/DATA/0")
    assert "two zip entries" in rejection(path, twice)
    assert "truncated, or followed" in rejection(path, good + b"x")
    assert "directory is not where" in rejection(path, good[:4] + b"x" + good[4:])
    assert "without data.pkl" in rejection(path, renamed(good, b"a/data.pkl", b"a/date.pkl"))
    data = np.arange(4, dtype=np.float32).tobytes()
    assert "checksum of 'a/data/0'" in rejection(path, good.replace(data, data[::-1]))
    crc = struct.pack("<I", zlib.crc32(b"3\n"))
    assert "checksum of 'a/version'" in rejection(path, good.replace(crc, b"1234"))


def test_bombs_are_refused_within_bounded_memory_and_time(tmp_path):
    """In a process of its own, which may take little more memory than torch itself."""
    files = bombs()
    for i, content in enumerate(files.values()):
        (tmp_path / f"{i:02}").write_bytes(content)
    script = """
import pathlib, re, resource, sys, time
from zoojax.converters.safe_load import UnreadableFileError, read_state
used = int(re.search(r"VmSize:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        print("READ", len(read_state(path)))
    except UnreadableFileError as rejected:
        slow = "SLOW " if time.process_time() - start > 5 else ""
        print(slow + rejected.reason)
"""
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    reasons = result.stdout.splitlines()
    assert not any(reason.startswith("SLOW") for reason in reasons)
    for expected, reason in zip(files, reasons, strict=True):
        assert expected in reason


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_garbled_files_are_rejected(tmp_path, zipped):
    content = saved(state_dict(), zipped)
    for cut in np.linspace(1, len(content) - 1, 30).astype(int):
        rejection(tmp_path / "state", content[:cut])
    generator = np.random.default_rng(0)
    for size in (1, 10, 1000, 100_000):
        rejection(tmp_path / "state", generator.bytes(size))
        rejection(tmp_path / "state", content[:4] + generator.bytes(size))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("zipped", [True, False])
@settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(edits=edits, in_pickle=st.booleans())
@example(edits=[("flip", 0.5, b"\0")], in_pickle=False)
def test_edited_files_are_rejected_or_read(folder, zipped, edits, in_pickle):
    """The checksums of the zip let no changed number through; the old form has none."""
    expected = state_dict()
    content = bytearray(saved(expected, zipped))
    for kind, where, data in edits:
        # The pickle is at the start of both forms, and the most of what can go wrong.
        place = int(where * (min(1500, len(content)) if in_pickle else len(content)))
        if kind == "flip" and place < len(content):
            content[place] ^= data[0]
        elif kind == "cut":
            del content[place : place + len(data)]
        else:
            content[place:place] = data
    path = folder / "state"
    path.write_bytes(content)
    try:
        actual = read_state(path)
    except UnreadableFileError as rejected:
        assert rejected.reason
        return
    assert all(array.dtype == np.float32 for array in actual.values())
    if zipped:
        assert_equal(actual, expected)
