"""Finds and loads the images that a zoo was created with."""

from dataclasses import replace
from pathlib import Path

from zoojax.datasets import loading, objects, specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path
from zoojax.filesystem.reading import entries
from zoojax.storage.stores import IMAGES
from zoojax.storage.zoo import Zoo


def load_images(zoo: Zoo, data_dir: str | Path | None) -> specs.ImageSet:
    """Loads the images that a zoo was created with.

    Custom images (.npz) are identified by their hash, so they are found in the data directory
    even if they were moved or renamed.

    Args:
        zoo: The zoo.
        data_dir: Data directory (see `zoojax.datasets.loading.data_directory`), or the .npz
            file itself.

    Returns:
        The image set.

    Raises:
        ZoojaxError: If the images are missing, or do not match the zoo's data hash.
    """
    stored, spec = zoo.store.images(), zoo.config.data
    if stored is not None:
        images = stored
    elif spec is None and zoo.config.shape.task.has_own_images:
        raise ZoojaxError(
            f"{zoo.path} was converted from files without the images that its members learned"
        )
    elif spec is None:
        raise ZoojaxError(f"{zoo.path} was converted without images; convert it with --data")
    elif spec.name == objects.NAME:
        raise ZoojaxError(f"{zoo.path} was trained on arrays, and its {IMAGES} is missing")
    elif spec.name.endswith(".npz"):
        return _load_custom_images(zoo, spec, data_dir)
    else:
        images = loading.load(spec, data_dir)
    if images.hash != zoo.config.data_hash:
        raise ZoojaxError(
            f"the images of '{images.name}' are not those that {zoo.path} was created with "
            "(their hash differs); point --data-dir to the original files"
        )
    return images


def _load_custom_images(
    zoo: Zoo, spec: specs.DataSpec, data_dir: str | Path | None
) -> specs.ImageSet:
    """Loads the .npz file with the zoo's hash from the candidate locations."""
    given = optional_path(data_dir, "data_dir")
    if given is not None and given.suffix == ".npz":
        candidates = [given]
    else:
        folder, name = loading.data_directory(data_dir), Path(spec.name).name
        files = [folder / entry for entry in entries(folder) if entry.endswith(".npz")]
        # The original location first, then files of the same name: the most likely matches.
        candidates = [Path(spec.name), *sorted(files, key=lambda file: file.name != name)]
    reasons = []
    for file in candidates:
        try:
            images = loading.load(replace(spec, name=str(file)))
        except ZoojaxError as error:
            reasons.append(str(error))
            continue
        if images.hash == zoo.config.data_hash:
            return replace(images, name=spec.name)
        reasons.append(f"{file} contains different images")
    raise ZoojaxError(
        f"the images that {zoo.path} was created with cannot be found ({reasons[0]}); give their "
        ".npz file with --data, or the folder that contains it with --data-dir"
    )
