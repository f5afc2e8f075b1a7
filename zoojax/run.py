"""The ONE driver: epochs x blocks of members, saved epoch by epoch, resumable."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import numpy as np
import polars as pl

from zoojax import data, interrupts, network, population, processes, programs, train
from zoojax.errors import ZoojaxError
from zoojax.inputs import check_image_set, checked_images, checked_params
from zoojax.programs import Recipe, Sets
from zoojax.reading import entries, is_there
from zoojax.zoo import IMAGES, OPTIMIZER, Zoo
from zoojax.zoo_config import ZooConfig
from zoojax.zoo_tables import state_like
from zoojax.zoo_writer import ZooWriter


class Progress(NamedTuple):
    """How far a run is, in member-samples (one training image seen by one member).

    Attributes:
        epoch: the epoch being trained.
        epochs: the last one.
        done: member-samples trained since epoch 0, earlier commands included.
        total: member-samples of the whole run.
    """

    epoch: int
    epochs: int
    done: int
    total: int


Report = Callable[[Progress], None]
Initial = Callable[[slice], tuple[dict[str, Any], dict[str, Any]]]


@dataclass
class Block:
    """Members that run as one program.

    Attributes:
        recipe: the program.
        members: positions in the members table, filled up to the program's size.
        count: how many of them are not filling.
        hyper: their hyper-parameters, on the devices.
        state: their states, on the devices.
    """

    recipe: Recipe
    members: np.ndarray
    count: int
    hyper: train.Hyper
    state: train.State


def recipes(config: ZooConfig, members: pl.DataFrame) -> dict[Recipe, np.ndarray]:
    """Groups members by what shapes their program: {recipe: positions, ascending}."""
    groups: dict[Recipe, list[int]] = {}
    rows = members.select("activation", "optimizer", "dropout").iter_rows()
    for position, (activation, optimizer, dropout) in enumerate(rows):
        recipe = Recipe(
            config.kind,
            config.shape,
            activation,
            optimizer,
            dropout > 0,
            config.batch_size,
            config.data_order,
            network.engine(config.shape, jax.default_backend()),
        )
        groups.setdefault(recipe, []).append(position)
    return {recipe: np.array(positions) for recipe, positions in groups.items()}


def hypers(members: pl.DataFrame) -> train.Hyper:
    """Hyper-parameters of all members, [members]."""
    return train.Hyper(
        members["seed"].to_numpy().astype(np.uint32),
        members["learning_rate"].to_numpy().astype(np.float32),
        members["weight_decay"].to_numpy().astype(np.float32),
        members["dropout"].to_numpy().astype(np.float32),
    )


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
    given = None if data_dir is None else Path(data_dir).expanduser()
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
        "file with --data-dir, or a folder that holds it"
    )


def run(
    writer: ZooWriter, initial: Initial, images: data.ImageSet, report: Report | None = None
) -> Zoo:
    """Trains a zoo to its last epoch, from wherever it is.

    An epoch is saved while the devices compute the next one.

    Args:
        writer: the zoo, begun or to be continued.
        initial: from rows of the members table to the stacked (trainable, fixed) of epoch 0;
            called only if that epoch is not on disk yet.
        images: the zoo's image set.
        report: called where the run begins, and after every block of every epoch; where
            nothing is left to train, once, with everything done.

    Returns:
        The finished zoo.

    Raises:
        ZoojaxError: the disk refused.
    """
    zoo, mesh, rows = writer.zoo, population.make_mesh(), writer.rows
    epochs, total = zoo.config.epochs, zoo.config.epochs * len(zoo) * len(images.train.labels)
    last, save = writer.last_epoch, None
    if last == epochs:
        if report is not None:
            report(Progress(epochs, epochs, total, total))
        return zoo
    sets = population.replicate(programs.sets(images), mesh)
    if last is None:
        trainable, fixed = initial(rows)
        blocks = _blocks(zoo.config, zoo.roster[rows], mesh, trainable, fixed, None)
        save = _saving(writer, 0, blocks, _evaluate_blocks(blocks, sets, mesh))
        last = 0
    else:
        blocks = _saved_blocks(zoo, rows, mesh, last)

    compiled = {b.recipe: jax.jit(programs.epoch(b.recipe, mesh), donate_argnums=0) for b in blocks}
    mine = rows.stop - rows.start

    def tell(epoch: int, trained: int) -> None:
        # Of the others nothing is known before the epoch ends: they are as far as this one.
        if report is not None and epochs:
            done = ((epoch - 1) * mine + trained) * total // (epochs * mine)
            report(Progress(epoch, epochs, done, total))

    tell(last, mine)
    for epoch in range(last + 1, epochs + 1):
        metrics, trained = [], 0
        for block in blocks:
            block.state, measured = compiled[block.recipe](
                block.state, block.hyper, sets, np.int32(epoch)
            )
            if save is not None:
                save()
                save = None
            metrics.append(interrupts.waited(jax.device_get, measured))
            trained += block.count
            interrupts.check()
            tell(epoch, trained)
        save = _saving(writer, epoch, blocks, metrics)
    if save is not None:
        save()
    return zoo


def evaluate(zoo: Zoo, images: data.ImageSet, epoch: int | None = None) -> pl.DataFrame:
    """Measures the members of a saved epoch on a set of images, as epoch 0 of a zoo is.

    Args:
        zoo: the zoo.
        images: any image set of the shape that the members take.
        epoch: which; the newest if None.

    Returns:
        A row a member: losses and accuracies on all three sets, ggap, sparsities.

    Raises:
        ZoojaxError: the epoch is not there or is damaged, or the members cannot be measured
            on these images.
    """
    check_image_set(zoo.config.shape, images)
    epoch = zoo.epochs[-1] if epoch is None and zoo.epochs else epoch
    mesh, rows = population.make_mesh(), processes.share(len(zoo))
    sets = population.replicate(programs.sets(images), mesh)
    state, fixed = _split(zoo.state(epoch, rows=rows))
    blocks = _blocks(zoo.config, zoo.roster[rows], mesh, state, fixed, None)
    mine = _metrics_table(
        zoo.roster[rows], epoch or 0, blocks, _evaluate_blocks(blocks, sets, mesh)
    )
    return processes.together(mine)


def predict(zoo: Zoo, images: np.ndarray, epoch: int | None = None) -> np.ndarray:
    """The classes that the members of a saved epoch take images for.

    Args:
        zoo: the zoo.
        images: normalised as the zoo's were, [n, H, W, C] of a floating type.
        epoch: which; the newest if None.

    Returns:
        [members, n] uint16, in the order of the members table.

    Raises:
        ZoojaxError: the epoch is not there or is damaged, or the images have another shape or
            type.
    """
    images = checked_images(zoo.config.shape, images)
    state, fixed = _split(zoo.state(epoch))
    return _predict(zoo.config, zoo.roster, state, fixed, images)


def predict_params(
    config: ZooConfig, roster: pl.DataFrame, params: dict[str, Any], images: np.ndarray
) -> np.ndarray:
    """As `predict`, of parameters that no zoo on disk has.

    Args:
        config: of the zoo that the members are like.
        roster: a row a member; what matters is its activation.
        params: stacked parameters, thresholds and masks already in them.
        images: normalised, [n, H, W, C] of a floating type.

    Raises:
        ZoojaxError: the parameters or images have another shape or type.
    """
    images = checked_images(config.shape, images)
    params = checked_params(config.shape, params, len(roster))
    engine = network.engine(config.shape, jax.default_backend())
    chunk = population.default_chunk(len(roster), population.make_mesh(), engine)
    config = replace(config, kind="dense", chunk=chunk)
    return _predict(config, roster, {"params": params}, {}, images)


def _predict(
    config: ZooConfig, roster: pl.DataFrame, trainable: dict, fixed: dict, images: np.ndarray
) -> np.ndarray:
    mesh = population.make_mesh()
    placed = population.replicate(images, mesh)
    blocks = _blocks(config, roster, mesh, trainable, fixed, None)
    compiled = {b.recipe: _predictions(b.recipe, mesh) for b in blocks}
    found = [
        interrupts.waited(np.asarray, compiled[b.recipe](b.state, placed)).astype(np.uint16)
        for b in blocks
    ]
    return _in_order(blocks, found)


@functools.cache
def _predictions(recipe: Recipe, mesh) -> Callable:
    """Kept: an analysis predicts many epochs of a zoo."""
    return jax.jit(programs.predictions(recipe, mesh))


def _split(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is saved of an epoch as (trainable, fixed)."""
    fixed = {"mask": state.pop("mask")} if "mask" in state else {}
    return state, fixed


def _saved_blocks(zoo: Zoo, rows: slice, mesh, epoch: int) -> list[Block]:
    """The population as it was after an epoch."""
    if not (zoo.path / OPTIMIZER).is_dir():
        raise ZoojaxError(
            f"{zoo.path} has no optimiser state to go on from; "
            "it can be read, but not trained further"
        )
    # Before training all moments are zero.
    optimizer = zoo.optimizer(epoch, rows, _moments_like(zoo)) if epoch else None
    trainable, fixed = _split(zoo.state(epoch, rows=rows))
    return _blocks(zoo.config, zoo.roster[rows], mesh, trainable, fixed, optimizer)


def _moments_like(zoo: Zoo) -> dict[str, Any]:
    """Shapes and types of all moments of a zoo, as they are saved."""
    trainable = state_like(zoo.config, len(zoo))
    trainable.pop("mask", None)
    return {
        name: flax.serialization.to_state_dict(
            jax.eval_shape(_fresh(name), trainable, {}).optimizer
        )
        for name in zoo.roster["optimizer"].unique()
    }


def _evaluate_blocks(blocks: list[Block], sets: Sets, mesh) -> list[dict[str, jax.Array]]:
    """Their metrics, still being computed."""
    compiled = {b.recipe: jax.jit(programs.evaluation(b.recipe, mesh)) for b in blocks}
    return [compiled[b.recipe](b.state, sets) for b in blocks]


def _blocks(
    config: ZooConfig,
    roster: pl.DataFrame,
    mesh,
    trainable: dict,
    fixed: dict,
    optimizer: dict | None,
) -> list[Block]:
    """Lays the population over blocks; fresh moments where none are given."""
    result, hyper = [], hypers(roster)
    for recipe, positions in recipes(config, roster).items():
        for members in population.blocks(positions, config.chunk, mesh):
            parts = population.take((trainable, fixed), members)
            # On the host: laying out a device array would compile a slice of every leaf.
            state = jax.device_get(_fresh(recipe.optimizer)(*parts))
            if optimizer is not None:
                saved = population.take(optimizer[recipe.optimizer], members)
                moments = flax.serialization.from_state_dict(state.optimizer, saved)
                state = state._replace(optimizer=moments)
            count = len(np.unique(members))
            placed = population.place((population.take(hyper, members), state), mesh)
            result.append(Block(recipe, members, count, *placed))
    return result


@functools.cache
def _fresh(optimizer: str) -> Callable[[dict, dict], train.State]:
    """Stacked (trainable, fixed) to states before their first step: one program, kept."""
    return jax.jit(jax.vmap(lambda t, f: train.init_state(t, f, optimizer)))


def _in_order(blocks: list[Block], trees: list[Any], members: int | None = None) -> Any:
    """One stacked pytree in the order of the members table (NumPy), from one a block.

    Rows of members that are in no block, where there are `members`, are zero.
    """
    total = _size(blocks) if members is None else members
    interrupts.waited(jax.block_until_ready, trees)

    def gathered(*leaves: jax.Array | np.ndarray) -> np.ndarray:
        whole = np.zeros((total, *leaves[0].shape[1:]), leaves[0].dtype)
        for block, leaf in zip(blocks, leaves, strict=True):
            for at, part in _parts(leaf):
                rows = block.members[: block.count][at]
                whole[rows] = part[: len(rows)]
        return whole

    return jax.tree.map(gathered, *trees)


def _size(blocks: list[Block]) -> int:
    """Members in all blocks of a population."""
    return max(int(b.members.max()) for b in blocks) + 1


def _parts(x: jax.Array | np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """What each device has of a stacked array. (Asked for all of it, JAX keeps a copy.)"""
    if not isinstance(x, jax.Array):
        yield slice(None), x
        return
    for shard in x.addressable_shards:
        yield shard.index[0], np.asarray(shard.data)


def _saving(
    writer: ZooWriter, epoch: int, blocks: list[Block], metrics: list[dict]
) -> Callable[[], None]:
    """What saves an epoch. It has the states on the host: the devices may train on."""
    # Of the whole zoo: this process's share may have fewer.
    optimizers = sorted(writer.zoo.roster["optimizer"].unique())
    state = _in_order(blocks, [{**b.state.trainable, **b.state.fixed} for b in blocks])
    moments = _moments(blocks, optimizers)

    def save() -> None:
        table = _metrics_table(writer.zoo.roster[writer.rows], epoch, blocks, metrics)
        writer.append(epoch, state, moments, table)

    return save


def _moments(blocks: list[Block], optimizers: list[str]) -> dict[str, Any]:
    """The optimisers' moments by optimiser, stacked by member; those of members with
    another optimiser are zero, so that positions stay those of the members table."""
    total, result = _size(blocks), {}
    for name in optimizers:
        mine = [b for b in blocks if b.recipe.optimizer == name]
        if mine:
            stacked = _in_order(mine, [b.state.optimizer for b in mine], total)
        else:
            state = blocks[0].state
            like = jax.eval_shape(_fresh(name), state.trainable, state.fixed).optimizer
            stacked = jax.tree.map(lambda x: np.zeros((total, *x.shape[1:]), x.dtype), like)
        result[name] = flax.serialization.to_state_dict(stacked)
    return result


def _metrics_table(
    roster: pl.DataFrame, epoch: int, blocks: list[Block], metrics: list[dict]
) -> pl.DataFrame:
    measured = _in_order(blocks, metrics)
    layers = [f"sparsity_{layer}" for layer in blocks[0].recipe.architecture.layers]
    measured["ggap"] = measured["train_acc"] - measured["test_acc"]
    columns = [
        *(f"{split}_{what}" for split in ("train", "val", "test") for what in ("loss", "acc")),
        "ggap",
        "sparsity",
        *layers,
        "finite",
    ]
    return pl.DataFrame(
        {
            "member": roster["id"],
            "epoch": pl.Series([epoch] * len(roster), dtype=pl.Int64),
            **{name: pl.Series(measured[name]) for name in columns},
        }
    )
