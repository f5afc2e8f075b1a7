"""Reads one state dict from a file of any known format and dialect."""

from pathlib import Path

from zoojax.converters.dialects.base import DialectOptions, ReadState, listed
from zoojax.converters.dialects.chain import extra_record, plain_state
from zoojax.converters.foreign_classes import is_foreign_class
from zoojax.converters.safe_load import (
    MIB,
    Limits,
    TorchFile,
    guarded,
    parse_torch_file,
    read_file,
)
from zoojax.converters.safe_tensors import is_safetensors, parse_safetensors
from zoojax.converters.state_dicts import ExtraTensorsError, infer_network
from zoojax.errors import ZoojaxError

MAX_STATE_BYTES = 256 * MIB
_ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pth.tar", ".pt.tar", ".th", ".pt2")
_NAMES = ("checkpoints", "checkpoint", "model", "state_dict")
# First parts of the names of files of training scripts that are not states of networks.
_OTHERS = ("optimizer", "scheduler", "random_states", "training_args", "dataset", "scaler", "rng",
           "statistics", "stats")  # fmt: skip


def is_checkpoint_name(name: str) -> bool:
    """Whether a file has the name of a checkpoint, and not that of an optimizer or the like."""
    lower = name.lower()
    return (lower.endswith(_ENDINGS) or lower in _NAMES) and not lower.startswith((".", *_OTHERS))


def read_state(
    path: Path, *, limit: int = MAX_STATE_BYTES, options: DialectOptions | None = None
) -> ReadState:
    """Reads a state dict of torch.save or safetensors, bare or wrapped, in any known dialect.

    Args:
        path: The file; a symbolic link is followed.
        limit: Maximum bytes of the file, and of the arrays in it.
        options: What may be changed; None for nothing.

    Returns:
        The plain state dict: float32 arrays by name, in the file's order.

    Raises:
        UnreadableFileError: If it is unsafe, damaged, no state dict, or in an unknown dialect.
    """
    options = options or DialectOptions()

    def read() -> ReadState:
        file, container = parse(read_file(path, limit), limit)
        return without_extra(plain_state(file, limit, options, container), options)

    return guarded(path, read)


def parse(data: bytes, limit: int) -> tuple[TorchFile, str]:
    """Parses the content of a checkpoint.

    Args:
        data: The bytes of the file.
        limit: Maximum bytes of the file.

    Returns:
        The content, and the format: "zip", "legacy" or "safetensors".

    Raises:
        UnsafePickleError: If it is unsafe, damaged, or no checkpoint.
    """
    if is_safetensors(data):
        return parse_safetensors(data).tensors, "safetensors"
    container = "zip" if data.startswith(b"PK") else "legacy"
    return parse_torch_file(data, Limits(limit, 4 * MIB, 10_000), is_foreign_class), container


def without_extra(state: ReadState, options: DialectOptions) -> ReadState:
    """Leaves out tensors that belong to no layer, if `options.drop_extra` is set.

    Args:
        state: A plain state dict; its extra tensors are moved to `kept`.
        options: What may be left out.

    Returns:
        The same state dict.
    """
    if not options.drop_extra:
        return state
    try:
        infer_network(state)
    except ExtraTensorsError as error:
        state.kept |= {name: state.pop(name) for name in error.names}
        state.records += (extra_record(error.names),)
        state.notes += (f"tensors of no layer are left out: {listed(error.names)}",)
    except ZoojaxError:
        pass  # The caller infers the network again, and rejects the state.
    return state
