"""The results of a benchmark."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Benchmark:
    """The result of `bench`.

    Attributes:
        facts: Device, engine, versions of the libraries, and skipped backends, by name.
        gflops: Speed of matrix products in GFLOP/s, once per repetition.
        gigabytes: Speed of memory in GB/s read and written, once per repetition.
        rows: One per case and backend: `architecture`, `kind`, `batch_size`, `backend`,
            `samples_per_second` (once per repetition), `median`, `times_torch` (relative to
            PyTorch), `share_of_gemm` (relative to matrix products) and `share_of_ceiling`
            (relative to the lower of two ceilings: matrix products, and memory traffic); None
            where unknown.
        member_scaling: One row per number of members, see `member_scaling.measure`.
        device_scaling: One row per topology, see `device_scaling.measure`.
    """

    facts: dict[str, Any]
    gflops: list[float]
    gigabytes: list[float]
    rows: list[dict[str, Any]]
    member_scaling: list[dict[str, Any]] = field(default_factory=list)
    device_scaling: list[dict[str, Any]] = field(default_factory=list)
