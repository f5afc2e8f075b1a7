"""Chooses the images of a converted zoo."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from zoojax.converters.pickled_images import ImageFile, read_image_set
from zoojax.datasets import loading
from zoojax.datasets.specs import DataSpec, ImageSet
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import expand_user
from zoojax.presets import preset
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable


def choose_images(
    data: str | None,
    preset_name: str | None,
    own_file: Path | None,
    parent: Zoo | None,
    data_dir: Path | None,
    note: Callable[[str], None],
) -> tuple[DataSpec | None, ImageSet] | None:
    """Loads the requested images, else the preset's, else the zoo's own, else the parent's.

    Args:
        data: The requested images: the path of a .pt file, or the name of an image set.
        preset_name: The name of a preset.
        own_file: The file with the zoo's own images. Images that were not requested and cannot
            be read are left out with a note.
        parent: The dense zoo, if the members are twins.
        data_dir: The folder of image sets.
        note: Called with each remark for the user.

    Returns:
        The images, and their spec unless they are from a file; None without images.

    Raises:
        ZoojaxError: If the requested images cannot be loaded, or an image set is requested
            without a preset.
    """
    is_name = data is not None and not data.endswith(".pt")
    file = None if data is None or is_name else expand_user(data)
    if data is None and preset_name is None:
        file = own_file
    if file is not None:
        try:
            return None, to_image_set(read_image_set(file), file)
        except ZoojaxError as error:
            if data is not None:
                raise
            note(f"images are left out: {printable(error, 600)}")
    if preset_name is not None:
        spec = preset(preset_name).data
        if is_name and data is not None:
            spec = replace(spec, name=data, train=None, val=None, crop=False)
        return spec, loading.load(spec, data_dir)
    if is_name:
        raise ZoojaxError(f"--data {data} needs --preset, which defines its normalization")
    if parent is not None and parent.config.data_hash is not None:
        return parent.config.data, load_images(parent, data_dir)
    return None


def to_image_set(file: ImageFile, path: Path) -> ImageSet:
    """Converts a zoo's own images to an image set.

    Without validation images, the test images serve as both.

    Args:
        file: The images.
        path: The path of their file.

    Raises:
        ZoojaxError: If there are no training or no test images.
    """
    splits = file.splits
    for split in ("train", "test"):
        if split not in splits or not len(splits[split].labels):
            raise ZoojaxError(f"{path} has no images in a {split}set")
    train, test = splits["train"], splits["test"]
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return loading.make(path.name, train, splits.get("val", test), test, classes)
