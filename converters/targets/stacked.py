"""One safetensors file per epoch with stacked members, and the tables of the zoo."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from zoojax.converters import export
from zoojax.converters.stacked_tensors import TensorType, blocks_of, tensor_types
from zoojax.converters.state_dicts import StateDictInfo
from zoojax.converters.targets.base import Request, TargetFormat
from zoojax.converters.zoo_to_torch import member_infos, select_epochs
from zoojax.filesystem.atomic import atomic_write, write_table
from zoojax.storage.zoo import MEMBERS, METRICS, Zoo

_KINDS = {"float32": "F32", "int64": "I64"}
LAYOUT = "safetensors"


class StackedSafetensors(TargetFormat):
    """epoch_<epoch>.safetensors, members.parquet and metrics.parquet."""

    name: ClassVar = LAYOUT
    label: ClassVar = "one stacked safetensors file per epoch, and the tables"
    unit: ClassVar = "epoch files"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes one file per epoch in torch's names and axes, rows as in members.parquet."""
        epochs = select_epochs(zoo, request.epochs)
        info = member_infos(zoo)[0]
        method = zoo.config.sparsifier.method
        about = {"zoo": zoo.config.name, "kind": method, "fingerprint": zoo.fingerprint}
        about["batch_size"] = str(zoo.config.batch_size)
        files = {epoch: f"epoch_{epoch:06d}.safetensors" for epoch in epochs}
        with export.claim_folder(zoo, out, LAYOUT, (MEMBERS, METRICS, *files.values())):
            write_table(out / MEMBERS, zoo.members_table)
            write_table(out / METRICS, zoo.metrics_history)
            for done, epoch in enumerate(epochs, start=1):
                own = {**about, "epoch": str(epoch)}
                _write_epoch(out / files[epoch], zoo, info, epoch, own)
                request.report(done, len(epochs))
        return len(epochs)


def _write_epoch(
    file: Path, zoo: Zoo, info: StateDictInfo, epoch: int, about: Mapping[str, str]
) -> None:
    """Writes the tensors of all members, block by block."""
    types = tensor_types(zoo, info, epoch)

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            starts = _write_header(stream, types, len(zoo), about)
            for rows, tensors in blocks_of(zoo, info, epoch):
                for name, array in tensors.items():
                    stream.seek(starts[name] + rows.start * array[0].nbytes)
                    stream.write(np.ascontiguousarray(array).data)

    atomic_write(file, write)


def _write_header(
    stream: IO[bytes], types: Mapping[str, TensorType], members: int, about: Mapping[str, str]
) -> dict[str, int]:
    """Writes the header of a safetensors file; returns the positions of the tensors."""
    header: dict[str, object] = {"__metadata__": dict(about)}
    begins, end = {}, 0
    for name, (shape, dtype) in types.items():
        begins[name], start = end, end
        end += members * math.prod(shape) * dtype.itemsize
        kind = _KINDS[dtype.name]
        offsets = [start, end]
        header[name] = {"dtype": kind, "shape": [members, *shape], "data_offsets": offsets}
    text = json.dumps(header).encode()
    # Aligned to 8 bytes, as readers that map files expect.
    text += b" " * (-len(text) % 8)
    stream.write(len(text).to_bytes(8, "little") + text)
    return {name: 8 + len(text) + begin for name, begin in begins.items()}
