"""A pickled dataset of models, in the format that the code of ModelZooDataset and SANE loads.

    dataset.pt    {"trainset", "valset", "testset"}: checkpoints_to_datasets' ModelDatasetBase

The objects have the attributes that this code sets (see `converters.pickled_datasets`). The file
only names their class, which is needed to load the file, but not to write it.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
import polars as pl

from zoojax.converters import export
from zoojax.converters.stacked_tensors import (
    Block,
    TensorType,
    blocks_of,
    plain_info,
    tensor_types,
)
from zoojax.converters.state_dicts import StateDictInfo
from zoojax.converters.targets.base import Request, TargetFormat
from zoojax.converters.torch_pickle import Call, Instance, Tensor, TorchZip, ordered_dict
from zoojax.converters.zoo_to_torch import (
    member_infos,
    result_names,
    select_epochs,
    states_in_order,
    trial_config,
)
from zoojax.filesystem.atomic import atomic_write
from zoojax.storage.zoo import Zoo

FILE = "dataset.pt"
_MODULE, _CLASS = "checkpoints_to_datasets.dataset_base", "ModelDatasetBase"
_SPLITS = ("train", "val", "test")
_SHARES, _SEED = (0.7, 0.15, 0.15), 42
# The published datasets left out members with a larger weight; this one leaves out none.
_NO_THRESHOLD = math.inf


class ModelDatasetFile(TargetFormat):
    """One file with the state dicts and metrics of all members, by split."""

    name: ClassVar = "dataset"
    label: ClassVar = "dataset.pt with splits, in the format of ModelZooDataset and SANE"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes dataset.pt."""
        epochs = select_epochs(zoo, request.epochs)
        infos = member_infos(zoo)
        states = states_in_order(zoo, epochs)
        types = tensor_types(zoo, infos[0], epochs[0], plain=True)
        splits, sentence = _splits(zoo)
        if sentence:
            request.note(sentence)
        names, notes = export.folder_names(zoo)
        for note in notes:
            request.note(note)
        content = {
            f"{split}set": _model_set(zoo, split, splits, states, infos, types, names)
            for split in _SPLITS
        }

        def write(file: Path) -> None:
            with file.open("wb") as stream:
                _write(stream, content, zoo, infos[0], types, states, request)

        with export.claim_folder(zoo, out, self.name, (FILE,)):
            atomic_write(out / FILE, write)
        return len(states)


def _write(
    stream: IO[bytes],
    content: dict[str, Any],
    zoo: Zoo,
    info: StateDictInfo,
    types: dict[str, TensorType],
    states: pl.DataFrame,
    request: Request,
) -> None:
    """Writes the objects, then the storages block by block."""
    done = 0
    with TorchZip(stream, content) as archive:
        for (epoch,), own in states.partition_by("epoch", as_dict=True).items():
            rows, numbers = own["row"].to_numpy(), own["number"].to_numpy()
            for block in blocks_of(zoo, info, epoch, plain=True):
                inside = np.flatnonzero((rows >= block.rows.start) & (rows < block.rows.stop))
                for kind, values in _by_kind(block, types):
                    for i in inside:
                        key = _key(int(numbers[i]), kind)
                        archive.storage(key, values[rows[i] - block.rows.start].tobytes())
                done += len(inside)
                request.report(done, len(states))


def _by_kind(block: Block, types: dict[str, TensorType]) -> Iterator[tuple[str, np.ndarray]]:
    """The concatenated tensors of each type, [rows, values]."""
    for kind in _kinds(types):
        flat = [
            array.reshape(len(array), -1)
            for name, array in block.tensors.items()
            if types[name].dtype.name == kind
        ]
        yield kind, np.concatenate(flat, axis=1)


def _kinds(types: dict[str, TensorType]) -> list[str]:
    return list(dict.fromkeys(each.dtype.name for each in types.values()))


def _key(number: int, kind: str) -> str:
    """The key of the storage of a state's tensors of one type."""
    return str(number) if kind == "float32" else f"{number}_{kind}"


def _splits(zoo: Zoo) -> tuple[pl.Series, str]:
    """The split of each member, and a note if it is not that of the zoo."""
    table = zoo.members_table
    if "split" in table.columns:
        missing = table["split"].null_count()
        note = f"{missing} member(s) without a split are in trainset" if missing else ""
        return table["split"].fill_null(_SPLITS[0]), note
    order = np.random.default_rng(_SEED).permutation(len(table))
    train = round(_SHARES[0] * len(table))
    val = train + round(_SHARES[1] * len(table))
    chosen = np.full(len(table), _SPLITS[0], object)
    chosen[order[train:val]] = _SPLITS[1]
    chosen[order[val:]] = _SPLITS[2]
    note = f"the zoo has no splits; its members are split at random with seed {_SEED}"
    return pl.Series(chosen.tolist(), dtype=pl.String), note


class _Facts(NamedTuple):
    """Content of the attributes of a split; one entry per state.

    Attributes:
        states: State dicts, whose tensors have no data yet.
        paths: Trial folders.
        epochs: Epochs.
        properties: Metrics and hyperparameters by name.
    """

    states: list[Call]
    paths: list[Call]
    epochs: list[int]
    properties: dict[str, list[Any]]


def _model_set(
    zoo: Zoo,
    split: str,
    splits: pl.Series,
    states: pl.DataFrame,
    infos: list[StateDictInfo],
    types: dict[str, TensorType],
    names: list[str],
) -> Instance:
    """The object of one split."""
    chosen = states.filter(pl.Series((splits == split).gather(states["row"])))
    root = Call("pathlib", "PosixPath", (zoo.config.name,))
    facts = _facts(zoo, chosen, infos, types, names)
    layers = _layers(infos[0], types)
    labels = [
        f"{zoo.config.name}/{names[row]}#_#epoch_{epoch}#_#layer_{layers}"
        for row, epoch in chosen.select("row", "epoch").iter_rows()
    ]
    results = [*result_names(states), "ggap", "training_iteration"]
    attributes = {
        "layer_lst": layers,
        "epoch_lst": sorted({*facts.epochs}),
        "mode": "checkpoint",
        "task": "reconstruction",
        "use_bias": True,
        "verbosity": 0,
        "weight_threshold": _NO_THRESHOLD,
        "train_val_test": split,
        "ds_split": list(_SHARES),
        "property_keys": {
            "result_keys": [name for name in results if name in facts.properties],
            "config_keys": [name for name in facts.properties if name not in results],
        },
        "root": [root],
        "path_list": list(dict.fromkeys(facts.paths)),
        "data_in": facts.states,
        # Other dicts of the same tensors.
        "data_out": [ordered_dict(state.items or {}) for state in facts.states],
        "labels_in": labels,
        "labels_out": list(labels),
        "paths": facts.paths,
        "epochs": facts.epochs,
        "properties": facts.properties,
    }
    return Instance(_MODULE, _CLASS, attributes)


def _facts(
    zoo: Zoo,
    chosen: pl.DataFrame,
    infos: list[StateDictInfo],
    types: dict[str, TensorType],
    names: list[str],
) -> _Facts:
    metrics = [name for name in (*result_names(chosen), "ggap") if name in chosen.columns]
    rows = chosen["row"].unique().sort().to_list()
    members = zoo.members_table
    configs = {row: trial_config(zoo, members.row(row, named=True)) for row in rows}
    paths = {row: Call("pathlib", "PosixPath", (zoo.config.name, names[row])) for row in rows}
    properties: dict[str, list[Any]] = {name: chosen[name].to_list() for name in metrics}
    properties["training_iteration"] = chosen["epoch"].to_list()
    for name in next(iter(configs.values()), {}):
        properties[name] = [configs[row][name] for row in chosen["row"]]
    return _Facts(
        states=[
            _state(number, infos[row], types)
            for number, row in chosen.select("number", "row").iter_rows()
        ],
        paths=[paths[row] for row in chosen["row"]],
        epochs=chosen["epoch"].to_list(),
        properties=properties,
    )


def _state(number: int, info: StateDictInfo, types: dict[str, TensorType]) -> Call:
    """A state dict with the names of a member, whose tensors are in the storages of a state."""
    sizes = dict.fromkeys(_kinds(types), 0)
    for shape, dtype in types.values():
        sizes[dtype.name] += math.prod(shape)
    offsets = dict.fromkeys(sizes, 0)
    tensors = {}
    names = [layer.key(each) for layer, own in plain_info(info).tensors for each in own]
    for name, (shape, dtype) in zip(names, types.values(), strict=True):
        kind = dtype.name
        tensors[name] = Tensor(_key(number, kind), kind, sizes[kind], offsets[kind], shape)
        offsets[kind] += math.prod(shape)
    return ordered_dict(tensors)


def _layers(info: StateDictInfo, types: dict[str, TensorType]) -> list[tuple[int, str]]:
    """Number and kind of each layer with weights; its position if its name has no number."""
    layers = []
    for position, prefix in enumerate(info.prefixes):
        numbered = re.fullmatch(r"module_list\.([0-9]{1,6})", prefix)
        shape = next((t.shape for n, t in types.items() if n.startswith(f"{prefix}.")), ())
        kind = "conv2d" if len(shape) == 4 else "fc"
        layers.append((int(numbered[1]) if numbered else position, kind))
    return layers
