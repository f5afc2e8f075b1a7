"""Malicious torch files: payloads do not run, and absurd sizes allocate no memory."""

import io
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pytest
import torch

from tests.support import ROOT
from tests.support.torch_files import (
    BIG,
    PAYLOADS,
    Evil,
    assert_equal,
    integer,
    legacy_file,
    payload_objects,
    pickled,
    pickled_dict,
    pickled_tuple,
    rejection,
    saved,
    storage,
    tensor,
    text,
    zip_file,
)
from zoojax.converters.checkpoint_files import read_state


def test_payload_runs_without_safe_loading(tmp_path):
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Evil(marker)))
    assert marker.exists()
    marker.rmdir()
    torch.load(io.BytesIO(saved(payload_objects(Evil(marker))["nested"])), weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("place", ["alone", "value", "nested", "optimizer"])
def test_payloads_are_rejected_by_name_and_do_not_run(tmp_path, payload, place):
    marker = tmp_path / "marker"
    value = payload_objects(Evil(marker, payload))[place]
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
def test_all_opcodes_that_name_a_function_are_checked(tmp_path, monkeypatch, body):
    monkeypatch.chdir(tmp_path)
    for content in (zip_file(pickled_dict(body)), legacy_file(pickled_dict(body)), pickled(body)):
        assert "posix.mkdir" in rejection(tmp_path / "state", content)
        assert not (tmp_path / "MARKER").exists()


@pytest.mark.parametrize(
    "body, reason",
    [
        (b"\x82\x01", "uses EXT1"),
        (storage(4)[:-1] + b"0N", "uses POP"),
        (text("0") + b"Q", "something other than a storage"),
        (pickled_tuple(text("module"), b"NNN") + b"Q", "something other than a storage"),
        (
            tensor(storage(4)) + pickled_tuple(storage(4), integer(0), b")", b")") + b"b",
            "sets the state",
        ),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R", "describes a tensor"),
        (b"ctorch._utils\n_rebuild_parameter\nNNN\x87R", "calls something"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)\x81", "creates an object"),
        (b"ctorch\nFloatStorage\n" + integer(BIG) + b"\x85R", "calls something"),
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
def test_opcodes_that_torch_does_not_write_are_rejected(tmp_path, body, reason):
    assert reason in rejection(tmp_path / "state", zip_file(pickled_dict(body)))


def test_attributes_do_not_hide_dict_methods(tmp_path):
    hiding = b"}" + text("items") + text("x") + b"s" + b"b"
    body = b"ccollections\nOrderedDict\n)R" + text("w") + tensor(storage(4)) + b"s" + hiding
    path = tmp_path / "state"
    path.write_bytes(zip_file(pickled(body)))
    assert_equal(read_state(path), {"w": torch.arange(4.0)})


def test_storage_list_of_legacy_file_must_match(tmp_path):
    body = pickled_dict(tensor(storage(4, True)))
    assert "list of its storages" in rejection(tmp_path / "state", legacy_file(body, keys=()))
    assert "list of its storages" in rejection(
        tmp_path / "state", legacy_file(body, keys=("0", "0"))
    )
    assert "bytes instead of" in rejection(tmp_path / "state", legacy_file(body) + b"\0")
    assert "has another length" in rejection(
        tmp_path / "state", legacy_file(body).replace(struct.pack("<q", 4), struct.pack("<q", BIG))
    )


def renamed(content: bytes, old: bytes, new: bytes) -> bytes:
    """A zip with another name of an entry, in both of its places."""
    assert content.count(old) == 2 and len(old) == len(new)
    return content.replace(old, new)


def test_ambiguous_and_unsafe_zips_are_rejected(tmp_path):
    path = tmp_path / "state"
    good = zip_file(pickled_dict(tensor(storage(4))))
    unsafe = [b"../../xxx", b"/a/xxxxxx", b"a//xxxxxx", b"a\\../xxxx", b"b/version", b"a/ver\0ion"]
    for name in unsafe:
        assert "unsafe name" in rejection(path, renamed(good, b"a/version", name))
    twice = zip_file(pickled_dict(tensor(storage(4))), also="a/DATA/0")
    assert "two zip entries" in rejection(path, twice)
    assert "truncated, or followed" in rejection(path, good + b"x")
    assert "directory is not where" in rejection(path, good[:4] + b"x" + good[4:])
    assert "without data.pkl" in rejection(path, renamed(good, b"a/data.pkl", b"a/date.pkl"))
    data = np.arange(4, dtype=np.float32).tobytes()
    assert "checksum of 'a/data/0'" in rejection(path, good.replace(data, data[::-1]))
    crc = struct.pack("<I", zlib.crc32(b"3\n"))
    assert "checksum of 'a/version'" in rejection(path, good.replace(crc, b"1234"))


def directory_offsets(content: bytes) -> list[int]:
    """Offsets of the entries in a zip's directory."""
    offsets, offset = [], content.index(b"PK\x01\x02")
    while offset >= 0:
        offsets.append(offset)
        offset = content.find(b"PK\x01\x02", offset + 1)
    return offsets


def patched(content: bytes, offset: int, form: str, *values: int) -> bytes:
    """A file with other integers at an offset."""
    changed = bytearray(content)
    struct.pack_into(form, changed, offset, *values)
    return bytes(changed)


def oversized_files() -> dict[str, bytes]:
    """Files that claim far more than they have, by the reason for their rejection."""
    plain = zip_file(pickled_dict(tensor(storage(4))))
    _, _, data, last = directory_offsets(plain)
    big = zip_file(pickled_dict(tensor(storage(2**22))), 2**22, compression=zipfile.ZIP_DEFLATED)
    giant = directory_offsets(big)[2]
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
        f"claims {4 * BIG} bytes, but the file has 16": zip_file(
            pickled_dict(tensor(storage(BIG)))
        ),
        "claims 20 bytes, but the file has 16": zip_file(pickled_dict(tensor(storage(5)))),
        "claims 16 bytes, but the file has 0": zip_file(pickled_dict(tensor(storage(4, key="7")))),
        f"claims {4 * BIG} bytes, but the file has fewer": legacy_file(
            pickled_dict(tensor(storage(BIG, True)))
        ),
        f"{BIG} values at offset 0 of a storage of 4": zip_file(
            pickled_dict(tensor(storage(4), (10**6, 10**6), (0, 0)))
        ),
        f"{10**15} values at offset 0 of a storage of 4": legacy_file(
            pickled_dict(tensor(storage(4, True), (10**5,) * 3, (0, 0, 0)))
        ),
        "4 values at offset 1 of a storage of 4": legacy_file(
            pickled_dict(tensor(storage(4, True), offset=1))
        ),
        "4 values at offset 0 of a storage of 4": legacy_file(
            pickled_dict(tensor(storage(4, True), stride=(BIG,)))
        ),
        "not integers below 2**63": zip_file(pickled_dict(tensor(storage(4), (2**63,)))),
        "100 dimensions": zip_file(pickled_dict(tensor(storage(4), (1,) * 100, (1,) * 100))),
        "take more memory than is allowed": zip_file(shared, 2**12),
        "neither a string nor a number": zip_file(chain),
        "its pickle has more than": zip_file(pickled_dict(b"N" + b"0N" * 2**21)),
    }


def test_oversized_files_are_rejected_in_bounded_memory_and_time(tmp_path):
    """In a separate process with little more memory than torch itself needs."""
    files = oversized_files()
    for i, content in enumerate(files.values()):
        (tmp_path / f"{i:02}").write_bytes(content)
    script = """
import pathlib, re, resource, sys, time
from zoojax.converters.checkpoint_files import read_state
from zoojax.converters.safe_load import UnreadableFileError
used = int(re.search(r"VmSize:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, used + 2**29))
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    try:
        print("READ", len(read_state(path)))
    except UnreadableFileError as error:
        slow = "SLOW " if time.process_time() - start > 5 else ""
        print(slow + error.reason)
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
