"""The images that a zoo was made with, found again."""

from dataclasses import replace
from pathlib import Path

from zoojax.datasets import loading, specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.filesystem.reading import entries, exists
from zoojax.storage.zoo import IMAGES, Zoo


def load_images(zoo: Zoo, data_dir: str | Path | None) -> specs.ImageSet:
    """The images that a zoo was made with.

    Images of one's own (.npz) are known by their hash: they are also found under another name
    or in another place, in the data directory.

    Args:
        zoo: the zoo.
        data_dir: where image sets are looked for, see `data.data_directory`; or the .npz file.

    Raises:
        ZoojaxError: they are not there, or are others than the zoo's.
    """
    stored, spec = zoo.path / IMAGES, zoo.config.data
    if exists(stored):
        images = loading.load_saved(stored)
    elif spec is None:
        raise ZoojaxError(f"{zoo.path} was converted without images; convert it with --data")
    elif spec.name.endswith(".npz"):
        return _own_images(zoo, spec, data_dir)
    else:
        images = loading.load(spec, data_dir)
    if images.hash != zoo.config.data_hash:
        raise ZoojaxError(
            f"the images of '{images.name}' are not those that {zoo.path} was made with "
            "(their hash differs); point --data-dir to the original files"
        )
    return images


def _own_images(zoo: Zoo, spec: specs.DataSpec, data_dir: str | Path | None) -> specs.ImageSet:
    given = None if data_dir is None else expand_user(data_dir)
    if given is not None and given.suffix == ".npz":
        candidates = [given]
    else:
        folder, name = loading.data_directory(data_dir), Path(spec.name).name
        found = [folder / entry for entry in entries(folder) if entry.endswith(".npz")]
        # Where it was, then those of its name, which are likely to be it.
        candidates = [Path(spec.name), *sorted(found, key=lambda file: file.name != name)]
    reasons = []
    for file in candidates:
        try:
            images = loading.load(replace(spec, name=str(file)))
        except ZoojaxError as error:
            reasons.append(str(error))
            continue
        if images.hash == zoo.config.data_hash:
            return replace(images, name=spec.name)
        reasons.append(f"{file} holds other images")
    raise ZoojaxError(
        f"the images that {zoo.path} was made with are not there ({reasons[0]}); give their .npz "
        "file with --data, or a folder that holds it with --data-dir"
    )
