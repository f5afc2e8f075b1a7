"""Reads the zip format of torch.save: its directory, names and checksums are checked."""

import io
import struct
import zipfile
import zlib

from zoojax.converters.inert import UnsafePickleError, shorten

_ZIP_END = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR = struct.Struct("<4sLQL")
_ZIP64_END = struct.Struct("<4sQ2H2L4Q")


def read_zip(data: bytes, max_entries: int) -> dict[str, memoryview]:
    """Checks a zip as torch writes it and returns its entries without their common folder.

    Torch reads the zip with another library, which might interpret ambiguous bytes
    differently; therefore everything ambiguous is rejected.
    """
    start, count, size = _central_directory(data)
    if count > max_entries or size > 1024 * count:
        raise UnsafePickleError(f"an absurd zip directory: {count} entries in {size} bytes")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
    if not 0 < len(entries) == count:
        raise UnsafePickleError(f"damaged: {len(entries)} zip entries instead of {count}")
    folder = entries[0].filename.partition("/")[0] + "/"
    records = {}
    end = 0
    _refuse_archives({entry.filename.removeprefix(folder) for entry in entries})
    for entry in entries:
        name = entry.filename
        if (
            name != entry.orig_filename
            or "\\" in name
            or not name.startswith(folder)
            or not {"", ".", ".."}.isdisjoint(name.split("/"))
        ):
            raise UnsafePickleError(f"an unsafe name in its zip: {shorten(name)}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise UnsafePickleError(
                f"a compressed zip entry, which torch never writes: {shorten(name)}, "
                f"{entry.file_size} bytes from {entry.compress_size}"
            )
        header = entry.header_offset
        begin = header + 30 + sum(struct.unpack_from("<2H", data, header + 26))
        if header < end or begin + entry.file_size > start:
            raise UnsafePickleError(f"zip entries overlap: {shorten(name)}")
        end = begin + entry.file_size
        record = memoryview(data)[begin:end]
        # Torch does not verify the checksums.
        if zlib.crc32(record) != entry.CRC:
            raise UnsafePickleError(f"damaged: the checksum of {shorten(name)} is wrong")
        records[name.removeprefix(folder)] = record
    if len({name.casefold() for name in records}) < count:
        raise UnsafePickleError("two zip entries of one name")
    return records


def _central_directory(data: bytes) -> tuple[int, int, int]:
    """Start, number of entries and size of a zip's directory, which must be at its end."""
    end = len(data) - _ZIP_END.size
    end64 = end - _ZIP64_LOCATOR.size - _ZIP64_END.size
    if end64 < 0:
        raise UnsafePickleError("truncated")
    signature, *_, count, size, start, _ = _ZIP_END.unpack_from(data, end)
    if signature != b"PK\x05\x06":
        raise UnsafePickleError("truncated, or followed by other bytes: a zip without its end")
    signature, _, located, _ = _ZIP64_LOCATOR.unpack_from(data, end - _ZIP64_LOCATOR.size)
    if signature == b"PK\x06\x07":
        signature, *_, count, size, start = _ZIP64_END.unpack_from(data, end64)
        end = end64
        if signature != b"PK\x06\x06" or located != end:
            raise UnsafePickleError("damaged: the end of its zip contradicts itself")
    if start + size != end:
        raise UnsafePickleError("damaged: its zip directory is not where it should be")
    return start, count, size


def _refuse_archives(names: set[str]) -> None:
    """Refuses archives of programs by name, whose other entries may be compressed."""
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise UnsafePickleError("a TorchScript archive, not a state dict; save model.state_dict()")
    if "models/model.json" in names or "archive_format" in names:
        raise UnsafePickleError("a torch.export archive, not a state dict; save model.state_dict()")
