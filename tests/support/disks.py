"""Disks on which nothing more can be written."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def full() -> Iterator[None]:
    """Lets no file of this process grow beyond a few bytes, as on a disk without room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
