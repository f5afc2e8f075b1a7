"""What a worker process of PyTorch's DataLoader runs in tests; imports neither JAX nor zoojax."""

import sys
from typing import Any

import numpy as np

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


class Changing:
    """A dataset whose batches are changed in the worker: a view, a result, and a plain view.

    Attributes:
        dataset: The dataset, without targets.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> tuple[Any, Any, Any]:
        batch = self.dataset[index]
        return batch[:, 1:3], 2 * batch, np.asarray(batch)[:, ::2]


class Caching:
    """A dataset whose worker keeps some batches and sends them again, in place of others.

    Attributes:
        dataset: The dataset, without targets.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self.kept: list[Any] = []
        self.calls = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        batch, self.calls = self.dataset[index], self.calls + 1
        if len(self.kept) < 3:
            self.kept.append(batch)
        return self.kept[self.calls % 3] if self.calls % 5 == 0 else batch
