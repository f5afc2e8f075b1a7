"""The images that a zoo was made with, found again."""

from dataclasses import replace
from pathlib import Path

from zoojax import data
from zoojax.errors import ZoojaxError
from zoojax.paths import expanded
from zoojax.reading import entries, is_there
from zoojax.zoo import IMAGES, Zoo


def load_images(zoo: Zoo, data_dir: str | Path | None) -> data.ImageSet:
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
    if is_there(stored):
        images = data.load_saved(stored)
    elif spec is None:
        raise ZoojaxError(f"{zoo.path} was converted without images; convert it with --data")
    elif spec.name.endswith(".npz"):
        return _own_images(zoo, spec, data_dir)
    else:
        images = data.load(spec, data_dir)
    if images.hash != zoo.config.data_hash:
        raise ZoojaxError(
            f"the images of '{images.name}' are not those that {zoo.path} was made with "
            "(their hash differs); point --data-dir to the original files"
        )
    return images


def _own_images(zoo: Zoo, spec: data.DataSpec, data_dir: str | Path | None) -> data.ImageSet:
    given = None if data_dir is None else expanded(data_dir)
    if given is not None and given.suffix == ".npz":
        candidates = [given]
    else:
        folder, name = data.data_directory(data_dir), Path(spec.name).name
        found = [folder / entry for entry in entries(folder) if entry.endswith(".npz")]
        # Where it was, then those of its name, which are likely to be it.
        candidates = [Path(spec.name), *sorted(found, key=lambda file: file.name != name)]
    reasons = []
    for file in candidates:
        try:
            images = data.load(replace(spec, name=str(file)))
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
