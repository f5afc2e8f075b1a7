"""The interface of a source format: it recognizes a path, and lists the members in it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.sources import Source


@dataclass
class Listing:
    """The members in a path.

    Attributes:
        sources: The members; states are read only when they are needed.
        notes: Remarks for the user.
        images: The file with the zoo's own images; None if there is none.
    """

    sources: list[Source]
    notes: list[str] = field(default_factory=list)
    images: Path | None = None


class SourceFormat(ABC):
    """One format of foreign zoos.

    Attributes:
        name: Its name on the command line.
        label: Describes it in a few words.
    """

    name: ClassVar[str]
    label: ClassVar[str]

    @abstractmethod
    def recognize(self, path: Path) -> str | None:
        """Decides whether a path is in this format, from names and a few bytes.

        Args:
            path: A file or folder.

        Returns:
            The reason, to complete "because ..."; None if it is in another format.
        """

    @abstractmethod
    def members(self, path: Path, options: DialectOptions) -> Listing:
        """Lists the members.

        Args:
            path: A file or folder in this format.
            options: What may be changed in states.

        Raises:
            ZoojaxError: If there are none, or something cannot be read.
        """
