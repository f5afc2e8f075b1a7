"""Simulates full disks."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full() -> Iterator[None]:
    """Limits the size of files that this process writes to a few bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
