"""The interface of a target format: it writes a zoo as files of other tools."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from zoojax.storage.zoo import Zoo


@dataclass(frozen=True)
class Request:
    """What is written, and how progress is reported.

    Attributes:
        epochs: The epochs; None for all.
        report: Called with the number of states or files written and their total.
        note: Called with each remark for the user, one sentence per call.
    """

    epochs: Sequence[int] | None = None
    report: Callable[[int, int], None] = lambda done, total: None
    note: Callable[[str], None] = lambda sentence: None


class TargetFormat(ABC):
    """One format that a zoo is written in.

    Attributes:
        name: Its name on the command line.
        label: Describes it in a few words.
        unit: What `write` counts.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    unit: ClassVar[str] = "states"

    @abstractmethod
    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes a zoo.

        Args:
            zoo: The zoo.
            out: The folder to write to: new, or of an interrupted call of the same export.
            request: What is written.

        Returns:
            The number of units written.

        Raises:
            ZoojaxError: If the format cannot hold the zoo, an epoch is missing or damaged, the
                folder contains other files, or writing fails. No file is half-written.
        """
