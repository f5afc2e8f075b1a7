"""Trains dense zoos; `zoojax.api.twins` trains their sparse twins.

    zoo = train_zoo("usps-s-seed", "zoos/usps", members=64)
    zoo = train_zoo(data=(images, labels), grid=Grid(seeds=10), epochs=5)

Each call resumes the zoo in its folder if it was created with the same arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from zoojax import presets
from zoojax.api.common import (
    check_dense,
    check_effects,
    check_training,
    explain_interrupt,
    output_folder_of,
    resolve_chunk,
    versions,
    zoo_writer,
)
from zoojax.api.data import LoadedData
from zoojax.api.extension import train_or_extend
from zoojax.api.network import network_and_images
from zoojax.api.own_images import (
    ALL,
    DEFAULT_GRID,
    DEFAULT_STEPS,
    check_options,
    with_images,
)
from zoojax.api.untrained import untrained_states
from zoojax.architectures.base import Architecture
from zoojax.datasets import specs
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path
from zoojax.hyperparameters.draws import Choice, Distribution
from zoojax.hyperparameters.grid import Grid, as_tuple, changed
from zoojax.presets import Preset
from zoojax.progress import progress_callback
from zoojax.runtime import population
from zoojax.storage.states import StateParts
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_config import ZooConfig
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable
from zoojax.training import trainer
from zoojax.training.callbacks import EpochCallback, checked_callbacks
from zoojax.training.inputs import check_image_set


def train_zoo(
    preset: str | Preset | None = None,
    out: str | Path | Zoo | None = None,
    *,
    data: Any = None,
    architecture: str | Architecture | None = None,
    grid: Grid | None = None,
    members: int | None = None,
    epochs: int | None = None,
    batch_size: int | Sequence[int] | Choice | None = None,
    activation: str | Sequence[str] | Choice | None = None,
    init: str | Sequence[str] | Choice | None = None,
    optimizer: str | Sequence[str] | Choice | None = None,
    learning_rate: float | Sequence[float] | Distribution | None = None,
    weight_decay: float | Sequence[float] | Distribution | None = None,
    dropout: float | Sequence[float] | Distribution | None = None,
    momentum: float | Sequence[float] | Distribution | None = None,
    schedule: str | Sequence[str] | Choice | None = None,
    warmup: float | Sequence[float] | Distribution | None = None,
    step_factor: float | Sequence[float] | Distribution | None = None,
    step_interval: int | Sequence[int] | Choice | None = None,
    init_std: float | Sequence[float] | Distribution | None = None,
    train_fraction: float | Sequence[float] | Choice | None = None,
    augmentation: str | Sequence[str] | Choice | None = None,
    data_order: str = "member",
    steps_per_epoch: int | None = None,
    split: str | None = None,
    first_seed: int = 1,
    name: str | None = None,
    keep_data: bool = False,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    quiet: bool = False,
    report: trainer.ProgressCallback | None = None,
    callbacks: Sequence[EpochCallback] = (),
) -> Zoo:
    """Trains a dense zoo: a population of networks that differ in seed or hyperparameters.

    A zoo in a folder is resumed if it was interrupted, and returned unchanged if it is complete.
    With more epochs or members, it is extended. Existing members and epochs do not change, and the
    result is bit-identical to training in one call with the same chunk. Its twins stay valid.

    Args:
        preset: Name of a preset, such as "usps-s-seed" (see `zoojax.presets`), or a `Preset`.
            None starts from the defaults of `Preset` and `Grid`, and requires `data`.
        out: Folder of the zoo: new, empty, or of the same zoo to resume or extend (or the opened
            zoo). None trains in memory; `Zoo.save` writes such a zoo to a folder.
        data: Images to train on, instead of the preset's: name of an image set; path of an
            .npz file; `DataSpec`; `ImageSet`; arrays (images [n, height, width] or
            [n, height, width, channels], uint8 or floats in [0, 1]; labels [n] integers); or a
            torchvision or Hugging Face dataset. Arrays and datasets are split into 70 %
            training, 15 % validation and 15 % test images, resized, and normalized like the
            preset's. Arrays and datasets are stored in the zoo.
        architecture: Name of an architecture, a `Chain`, or another `Architecture` that is
            registered, instead of the preset's. Images are resized to its input size; their
            channels and classes are those of the zoo.
        grid: Hyperparameters of the members, instead of the preset's.
        members: Members per combination of hyperparameters; None for the grid's.
        epochs: Number of epochs; None for the preset's. 0 saves only the untrained members. A zoo
            whose learning rates depend on this number cannot be extended by epochs.
        batch_size: One or more numbers of images per step; None for the preset's. Every
            combination of several values of this and the next options is trained. From a
            distribution, such as `LogUniform(1e-4, 1e-2)`, every member draws its own value; see
            `Grid`.
        activation: One or more activations; None for the grid's, also in the next options.
        init: Initializations, such as "kaiming_uniform".
        optimizer: Optimizers as in torch.optim: "adam", "adamw", "sgd", "nesterov", "rmsprop".
        learning_rate: Learning rates.
        weight_decay: Weight decays: L2 penalties, or decoupled with "adamw".
        dropout: Dropout rates.
        momentum: Momentum of "sgd" and "nesterov".
        schedule: Schedules of the learning rate over all epochs: "constant", "cosine",
            "one_cycle", "step"; see `zoojax.schedules`.
        warmup: Fractions of all steps in which the learning rate first rises linearly.
        step_factor: Factors of the learning rate in schedule "step".
        step_interval: Epochs between changes of the learning rate in schedule "step".
        init_std: Standard deviations of the initial weights with inits "normal" and
            "truncated_normal".
        train_fraction: Fractions of the training images that a member is trained on; its seed
            determines which images.
        augmentation: Augmentations of the training images, drawn for each member, epoch and image:
            "none", "crop", "flip", "crop_flip"; see `zoojax.augmentations`.
        data_order: "member" (each member shuffles by its own seed) or "shared" (all members
            see the images in one order, which is faster).
        steps_per_epoch: Steps per epoch of members that learn one image each ("siren"), with all
            pixels in each step; None for the preset's, or 100.
        split: Part of the image set that these members learn: "train", "val", "test" or "all"
            (None). Seed 1 learns the first image, seed 2 the second, ...; seeds beyond the last
            image start again with the first.
        first_seed: Lowest seed of the members.
        name: Name of the zoo; None for the preset's, with the suffix "-custom" if more than the
            number of members was changed.
        keep_data: Whether to store the images in the zoo, so that it can be moved without them.
        chunk: Members that a device trains at once; None chooses for this machine.
        data_dir: Folder of image sets; see `zoojax.datasets.loading.data_directory`.
        quiet: Whether to show no progress.
        report: Progress callback, called at the start and after each block of members; replaces
            the progress display.
        callbacks: Functions that receive the metrics of each epoch, such as `TensorBoard()`; see
            `zoojax.training.callbacks`.

    Returns:
        The zoo, with all epochs complete.

    Raises:
        ZoojaxError: An argument is invalid, the folder holds something else, the images are
            missing, or writing failed.

    Example:
        >>> images, labels = np.zeros((80, 8, 8), np.uint8), np.arange(80) % 10
        >>> zoo = zoojax.train_zoo(data=(images, labels), members=3, epochs=1, quiet=True)
        >>> zoo.metrics.filter(epoch=1).select("member", "test_acc").shape
        (3, 2)
    """
    given = {
        "activation": activation,
        "init": init,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "dropout": dropout,
        "momentum": momentum,
        "schedule": schedule,
        "warmup": warmup,
        "step_factor": step_factor,
        "step_interval": step_interval,
        "init_std": init_std,
        "train_fraction": train_fraction,
        "augmentation": augmentation,
    }
    # One batch size is that of the zoo; only several are a column of the members table.
    sizes: Any = () if batch_size is None else as_tuple(batch_size)
    one_size = isinstance(sizes, tuple) and len(sizes) == 1
    given["batch_size"] = None if batch_size is None or one_size else sizes
    base, out = _chosen_preset(preset), output_folder_of(out)
    if base is None and data is None:
        raise ZoojaxError("there is nothing to train on: give a preset or data")
    shape, loaded = network_and_images(base, architecture, data, data_dir)
    check_options(shape, batch_size, steps_per_epoch, split)
    has_own_images, images = shape.task.has_own_images, loaded.images
    defaults = Preset if base is None else base
    if grid is None:
        own_grid = DEFAULT_GRID if has_own_images else Grid()
        grid = own_grid if base is None else base.grid
    if not isinstance(grid, Grid):
        raise ZoojaxError(f"grid is {printable(grid, 80)}; give a zoojax.Grid")
    changes = {
        "architecture": shape.name,
        "data": loaded.spec,
        "grid": changed(grid if members is None else replace(grid, seeds=members), given),
        "epochs": defaults.epochs if epochs is None else epochs,
        "batch_size": sizes[0] if one_size else defaults.batch_size,
        "data_order": data_order,
        "steps_per_epoch": defaults.steps_per_epoch,
    }
    if has_own_images:
        changes["batch_size"] = images.train.images[0, ..., 0].size
        changes["steps_per_epoch"] = steps_per_epoch or defaults.steps_per_epoch or DEFAULT_STEPS
    check_training(changes["epochs"], changes["batch_size"], data_order, chunk)
    default_name, recorded_preset = _names(preset, base, changes, loaded)
    table = changes["grid"].members(first_seed)
    if has_own_images:
        table = with_images(table, images, split or ALL)
    config = ZooConfig(
        name=default_name if name is None else name,
        architecture=shape.name,
        channels=images.train.images.shape[-1],
        classes=images.num_classes,
        data=loaded.spec,
        data_hash=images.hash,
        epochs=int(changes["epochs"]),
        batch_size=int(changes["batch_size"]),
        data_order=data_order,
        chunk=resolve_chunk(out, chunk, len(table), shape),
        preset=recorded_preset,
        versions=versions(),
        steps_per_epoch=changes["steps_per_epoch"],
    ).defined()
    check_image_set(config.shape, images)
    check_effects(config.shape, table)

    def starting(members: pl.DataFrame) -> Callable[[slice], StateParts]:
        return lambda rows: untrained_states(config.shape, members[rows])

    label = preset if isinstance(preset, str) else config.name
    reported = checked_callbacks(callbacks)
    with (
        explain_interrupt(out),
        progress_callback(report, f"train {label}", quiet) as shown,
    ):
        store_images = keep_data or not loaded.has_source
        return train_or_extend(out, config, table, images, store_images, starting, shown, reported)


def _chosen_preset(preset: Any) -> Preset | None:
    """Returns the preset to start from; None without one.

    Raises:
        ZoojaxError: It is unknown, or has no valid image set.
    """
    if isinstance(preset, Preset) and not isinstance(preset.data, specs.DataSpec | None):
        raise ZoojaxError(f"data of the preset is {printable(preset.data, 80)}; give a DataSpec")
    if preset is None or isinstance(preset, Preset):
        return preset
    if not isinstance(preset, str):
        raise ZoojaxError(f"preset is {printable(preset, 100)}; give the name of a preset")
    return presets.preset(preset)


def _names(
    preset: str | Preset | None, base: Preset | None, changes: dict[str, Any], loaded: LoadedData
) -> tuple[str, str | None]:
    """Returns the default name of a zoo, and the preset that it records."""
    if not isinstance(preset, str) or base is None:
        return f"{Path(loaded.images.name).stem}-{changes['architecture']}", None
    if loaded.spec is None:
        return f"{preset}-custom", None
    return presets.recorded(preset, replace(base, **changes))


def train_like(
    out: str | Path | None,
    source: Zoo,
    name: str,
    members: pl.DataFrame,
    *,
    epochs: int,
    initial: Callable[[], dict] | None = None,
    origin: str | None = None,
    chunk: int | None = None,
    data_dir: str | Path | None = None,
    report: trainer.ProgressCallback | None = None,
) -> Zoo:
    """Trains new members with the images, architecture and batches of an existing dense zoo.

    Args:
        out: Folder of the new zoo; None for one in memory.
        source: the existing dense zoo.
        name: name of the new zoo.
        members: members table of the new zoo, with the columns of the source's.
        epochs: number of epochs; 0 saves only the untrained members.
        initial: returns the stacked parameters of epoch 0; None initializes each member by its
            initialization scheme and seed.
        origin: source of those parameters, recorded in the zoo; see `ZooConfig`.
        chunk: members that a device trains at once; None chooses for this machine.
        data_dir: folder of image sets; see `zoojax.datasets.loading.data_directory`.
        report: progress callback, called at the start and after each block of members.

    Returns:
        The new zoo, with all epochs complete.

    Raises:
        ZoojaxError: an argument is invalid, the source is a twin, the images are missing, or
            writing failed.
    """
    out, base = optional_path(out, "out"), source.config
    check_dense(source)
    check_training(epochs, base.batch_size, base.data_order, chunk)
    images = load_images(source, data_dir)
    config = replace(
        base,
        name=name,
        epochs=epochs,
        chunk=resolve_chunk(out, chunk, len(members), base.shape),
        versions=versions(),
        origin=origin,
        earlier=None,
    )

    def first(rows: slice) -> StateParts:
        if initial is None:
            return untrained_states(base.shape, members[rows])
        collections = {}
        if base.shape.collections:
            collections = untrained_states(base.shape, members[rows]).collections
        return StateParts({"params": population.take(initial(), rows)}, {}, collections)

    own = source.store.has_images
    with explain_interrupt(out), zoo_writer(out, config, members, images, own) as writer:
        return trainer.train(writer, first, images, report)
