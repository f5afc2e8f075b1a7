"""Addresses of zoos on the Hugging Face Hub, and their files: `hf://OWNER/NAME`.

    hf://OWNER/NAME              a published zoo
    hf://OWNER/NAME/twins/TWIN   one of its twins
    hf://OWNER/NAME@REVISION     a branch, tag or commit

Files are downloaded when they are first read, into the cache of huggingface_hub. $HF_ENDPOINT and
$HF_TOKEN work as usual.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from zoojax.errors import ZoojaxError
from zoojax.text import first_line, printable

# `Path` merges the two slashes.
_PREFIX = re.compile(r"hf:/{1,2}(?=[^/])")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_ADDRESS = re.compile(
    rf"(?:datasets/)?(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[A-Za-z0-9][A-Za-z0-9._-]{{0,99}}))?"
    rf"(?P<folder>(?:/{_NAME})*)/?"
)


class Address(NamedTuple):
    """Place of a zoo on the Hub.

    Attributes:
        repo: Repository, OWNER/NAME.
        revision: Branch, tag or commit.
        folder: Folder in the repository, ending in "/"; "" for the repository itself.
    """

    repo: str
    revision: str
    folder: str


def is_address(path: object) -> bool:
    """Whether a path is an address on the Hub."""
    return _PREFIX.match(str(path)) is not None


def parse(path: object) -> Address:
    """Parses an address.

    Args:
        path: A string, or a `Path` of it.

    Raises:
        ZoojaxError: If it has another form.

    Example:
        >>> from zoojax.storage import hub
        >>> hub.parse("hf://me/usps@v1/twins/usps-vd")
        Address(repo='me/usps', revision='v1', folder='twins/usps-vd/')
    """
    found = _ADDRESS.fullmatch(_PREFIX.sub("", str(path), count=1))
    if found is None or ".." in str(path):
        raise ZoojaxError(
            f"{printable(path, 200)} is not an address of a zoo; give hf://OWNER/NAME, followed by "
            "@REVISION or /twins/TWIN if needed"
        )
    folder = found["folder"].strip("/")
    return Address(found["repo"], found["revision"] or "main", f"{folder}/" if folder else "")


class HubFiles:
    """Files of a published zoo on the Hub, downloaded when they are first read.

    Attributes:
        place: The address, for messages.
    """

    def __init__(self, path: object):
        self._address = parse(path)
        repo, revision, folder = self._address
        at = "" if revision == "main" else f"@{revision}"
        self.place = f"hf://{repo}{at}/{folder}".rstrip("/")

    def path(self, name: str) -> Path:
        """Downloads a file unless it is cached; returns its path in the cache.

        All files are from the commit of the first one.

        Args:
            name: Name in the folder of the zoo.

        Raises:
            ZoojaxError: If it is missing or the Hub cannot be reached.
        """
        address, hub = self._address, library()
        file = f"{address.folder}{name}"
        try:
            found = Path(
                hub.hf_hub_download(
                    address.repo, file, repo_type="dataset", revision=address.revision
                )
            )
        except hub.errors.EntryNotFoundError as error:
            raise ZoojaxError(f"{self.place} has no {name}") from error
        except hub.errors.RepositoryNotFoundError as error:
            raise ZoojaxError(
                f"{self.place}: there is no such dataset on the Hub, or it is private (log in "
                "with `hf auth login`)"
            ) from error
        except Exception as error:  # From httpx, the file system and huggingface_hub.
            raise ZoojaxError(
                f"cannot download {self.place}/{name}: {first_line(error)}"
            ) from error
        # .../snapshots/COMMIT/FILE
        commit = found.parents[file.count("/")].name
        self._address = address._replace(revision=commit)
        return found


def library() -> Any:
    """Returns huggingface_hub with its module of errors.

    Raises:
        ZoojaxError: If it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise ZoojaxError(
            "the Hugging Face Hub needs huggingface_hub; install it with: pip install 'zoojax[hub]'"
        ) from error
    huggingface_hub.utils.disable_progress_bars()
    return huggingface_hub
