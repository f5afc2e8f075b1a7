"""Uploads a dataset to the Hugging Face Hub."""

import re
from pathlib import Path
from typing import Any

from zoojax.errors import ZoojaxError
from zoojax.storage.hub import library
from zoojax.text import first_line, printable

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def check_repo_id(repo_id: Any) -> None:
    """Checks the name of a repository, and that huggingface_hub is installed.

    Raises:
        ZoojaxError: It is not OWNER/NAME, or the library is missing.
    """
    if not isinstance(repo_id, str) or not _REPO.fullmatch(repo_id):
        raise ZoojaxError(f"repo_id is {printable(repo_id, 100)}; give OWNER/NAME")
    library()


def upload(folder: Path, repo_id: str, private: bool) -> None:
    """Uploads the files of a dataset; creates the repository if it does not exist.

    Args:
        folder: Folder of the dataset.
        repo_id: OWNER/NAME.
        private: Whether a new repository is private.

    Raises:
        ZoojaxError: If the upload failed; the folder is unchanged.
    """
    hub = library()
    try:
        api = hub.HfApi()
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, repo_type="dataset")
    except Exception as error:  # From httpx, the file system and huggingface_hub.
        raise ZoojaxError(
            f"cannot upload {folder} to {repo_id}: {first_line(error)}; the folder is complete: "
            "rerun the command to upload it"
        ) from error
