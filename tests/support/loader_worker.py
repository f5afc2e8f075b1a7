"""What a worker process of PyTorch's DataLoader runs in tests; imports neither JAX nor zoojax."""

import sys
from typing import Any

LOADED = ("jax", "jaxlib", "flax", "orbax", "tensorstore")


class Reporting:
    """A dataset whose items also tell which slow modules the process has imported.

    Attributes:
        dataset: The dataset.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> tuple[Any, list[str]]:
        return self.dataset[index], [name for name in LOADED if name in sys.modules]
