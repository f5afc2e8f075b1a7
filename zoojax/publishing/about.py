"""Descriptions that a publisher gives of a dataset."""

import re
from dataclasses import dataclass
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

_LICENSE = re.compile("[a-z0-9][a-z0-9.+-]{0,59}")
_MAX_LENGTH = 10_000


@dataclass(frozen=True)
class About:
    """Descriptions that a publisher gives of a dataset.

    Attributes:
        title: Title.
        license: License, as the Hub names it.
        creator: Person or organization; None if unnamed.
        citation: How to cite it; None if not given.
    """

    title: str
    license: str
    creator: str | None
    citation: str | None

    @staticmethod
    def of(title: Any, license: Any, creator: Any, citation: Any, zoo: Zoo) -> "About":
        """Checks the descriptions of a dataset.

        Raises:
            ZoojaxError: A value is not text, too long, or has control characters; or the license
                is not named as on the Hub.
        """
        given = {"title": title, "creator": creator, "citation": citation}
        for name, value in given.items():
            if value is None:
                continue
            lines = value.splitlines() if isinstance(value, str) else []
            plain = all(printable(line) == line for line in lines)
            if not lines or not plain or len(value) > _MAX_LENGTH:
                raise ZoojaxError(f"{name} is {printable(value, 80)}; give a text")
            if len(lines) > 1 and name != "citation":
                raise ZoojaxError(f"{name} has {len(lines)} lines; give one")
        license = "unknown" if license is None else license
        if not isinstance(license, str) or not _LICENSE.fullmatch(license):
            raise ZoojaxError(
                f"license is {printable(license, 80)}; give its name on the Hub, such as cc-by-4.0 "
                "or mit"
            )
        return About(title or f"Model zoo {zoo.config.name}", license, creator, citation)
