"""Batches in the shared memory of PyTorch's workers.

PyTorch copies each batch of a worker into new shared memory, whose pages the kernel must first
provide, which takes longer than to compute the batch. Here, a worker reuses its shared memory: a
batch is copied into a segment that the main process no longer uses, and the main process gets
tensors in this segment, without a copy. When these are freed, so is the segment.

A segment is a shared tensor of bytes. It starts with a byte per array that is 1 as long as the main
process uses the array, and one for the worker. A segment without such bytes is free.
"""

import sys
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np

# A torch.Tensor. The processes that use this module have imported PyTorch; others need not.
Tensor = Any

# The most arrays of a batch, and bytes at the start of a segment.
_ARRAYS, _HEADER = 32, 64
# Segments of a worker: batches that wait, one in use, and one that is filled.
_SEGMENTS = 8

_segments: list[Tensor] = []


class _Lease:
    """The memory of an array in a segment, in use until the last view of the array is freed."""

    def __init__(self, segment: Tensor, byte: int, interface: dict[str, Any]):
        self._in_use = segment.numpy()[byte : byte + 1]
        self._in_use[:] = 1
        # The base of all views of an array is this object, not another array: see `np.asarray`.
        self.__array_interface__ = {**interface, "version": 3}

    def __del__(self):
        self._in_use[:] = 0


class SharedArray(np.ndarray):
    """An array in a segment, which the main process receives as a tensor in the same memory.

    Attributes:
        place: Its segment and its number, until it is sent. Without it, as in views and results of
            computations, the array is copied.
    """

    place: tuple[Tensor, int] | None = None


def share(batch: Any) -> Any:
    """Moves a batch to shared memory, if this process is a worker of PyTorch's DataLoader.

    Args:
        batch: An array, or a nested dict or tuple of arrays.

    Returns:
        The batch, with arrays of the same values and shapes. The same batch if this process is not
        a worker, or all of its segments are in use.
    """
    data = sys.modules.get("torch.utils.data")
    if data is None or data.get_worker_info() is None:
        return batch
    arrays: list[np.ndarray] = []
    _collect(batch, arrays)
    ends = np.cumsum([_HEADER, *(_aligned(array.nbytes) for array in arrays)])
    segment = _free_segment(int(ends[-1])) if 0 < len(arrays) <= _ARRAYS else None
    if segment is None:
        return batch
    return _moved(batch, segment, iter(enumerate(ends[:-1].tolist())))


def _aligned(size: int) -> int:
    return -(-size // _HEADER) * _HEADER


def _collect(batch: Any, arrays: list[np.ndarray]) -> None:
    """Lists the arrays of a batch."""
    if isinstance(batch, np.ndarray):
        arrays.append(batch)
    else:
        for value in batch.values() if isinstance(batch, dict) else batch:
            _collect(value, arrays)


def _free_segment(size: int) -> Tensor | None:
    """A segment that is not in use; None if there are too many."""
    for segment in list(_segments):
        if not segment[:_HEADER].any():
            if len(segment) >= size:
                return segment
            _segments.remove(segment)
    if len(_segments) == _SEGMENTS:
        return None
    torch = sys.modules["torch"]
    _segments.append(torch.zeros(size, dtype=torch.uint8).share_memory_())
    return _segments[-1]


def _moved(batch: Any, segment: Tensor, places: Any) -> Any:
    """Copies arrays to a segment.

    Args:
        batch: The batch.
        segment: The segment.
        places: Yields the number and the offset of each array.
    """
    if isinstance(batch, dict):
        return {name: _moved(value, segment, places) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_moved(value, segment, places) for value in batch)
    number, offset = next(places)
    interface = _interface(segment, offset, batch.shape, batch.dtype.str)
    result = np.asarray(_Lease(segment, _ARRAYS + number, interface)).view(SharedArray)
    np.copyto(result, batch)
    result.place = segment, number
    return result


def _interface(segment: Tensor, offset: int, shape: tuple[int, ...], kind: str) -> dict[str, Any]:
    """NumPy's description of an array in a segment."""
    return {"data": (segment.data_ptr() + offset, False), "shape": shape, "typestr": kind}


def _reduce(array: SharedArray) -> tuple[Any, ...]:
    """Describes an array to the main process."""
    if array.place is None:
        torch = sys.modules["torch"]
        return torch.as_tensor, (torch.as_tensor(np.array(array)),)
    (segment, number), array.place = array.place, None
    segment[number] = 1
    offset = array.ctypes.data - segment.data_ptr()
    return _receive, (segment, number, offset, array.shape, array.dtype.str)


def _receive(
    segment: Tensor, number: int, offset: int, shape: tuple[int, ...], kind: str
) -> Tensor:
    """Returns the tensor of an array, in the main process."""
    lease = _Lease(segment, number, _interface(segment, offset, shape, kind))
    return sys.modules["torch"].from_numpy(np.asarray(lease))


# Queues of worker processes use it; others, such as files, keep arrays.
ForkingPickler.register(SharedArray, _reduce)
