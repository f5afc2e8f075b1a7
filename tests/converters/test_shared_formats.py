"""Samples of published formats: what comes out has the expected hashes, metrics and reasons.

The samples are written by make_samples.py in the folder that ZOOJAX_FORMATS names.
"""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.samples import check_logits, given
from zoojax import Zoo
from zoojax.converters.api import convert_each, convert_from, to_torch, verify
from zoojax.converters.checkpoint_files import parse
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.dialects.wrappers import find_state
from zoojax.converters.formats.tables import read_rows
from zoojax.converters.zoo_to_torch import rows_with_states, state_dict
from zoojax.errors import ZoojaxError

FORMATS = os.environ.get("ZOOJAX_FORMATS")
ASKED: dict[str, Any] = {"cast": True, "drop_extra": True, "fold_spectral_norm": True}
# Words of the reasons for which samples are refused.
REFUSED = {
    "pdiff_subset": "no known network",
    "sd_ao_pruning": "no mask in the file",
    "sd_complex": "complex64",
    "sd_exported_pt2": "a torch.export archive",
    "sd_torchscript": "a TorchScript archive",
    "sd_whole_module": "a pickled module",
}
# Words of the refusals of what is only taken if it is asked for.
ASKS = {
    "sd_extra_keys": "mean and std are of no known layer",
    "sd_float64": "float64",
    "sd_spectral_norm_new": "--fold-spectral-norm",
    "sd_spectral_norm_old": "--fold-spectral-norm",
}
CONVERTED = (
    "damaged", "hf_repo_per_model", "inr_cifar_nfn", "inr_fmnist_dws", "inr_implicit_zoo",
    "inr_mnist_dws", "inr_sine_ssl", "malicious", "mzd_cnn2", "mzd_large_seed", "mzd_lenet5",
    "mzd_partial_download", "mzd_resnet18", "mzd_preprocessed_dataset", "mzd_small_grid_dropout",
    "mzd_small_seed", "mzd_small_variational", "mzd_unpadded_rows_from_one", "ray2_class_api",
    "ray2_function_api", "rpg_cnn_small", "sd_accelerate", "sd_ao_pruning_with_sparsifier",
    "sd_averaged_model", "sd_bfloat16", "sd_channels_last", "sd_cuda_tags", "sd_data_parallel",
    "sd_float16", "sd_hf_bin", "sd_key_model", "sd_key_model_state_dict", "sd_key_state_dict",
    "sd_legacy", "sd_lightning", "sd_numpy_scalars", "sd_parameters", "sd_pickle_protocol_4",
    "sd_pickle_protocol_5", "sd_pruned", "sd_pruned_biases", "sd_pruned_bool_masks",
    "sd_pruned_removed", "sd_pruned_some_layers", "sd_safetensors", "sd_timm", "sd_torch_compile",
    "sd_torchvision_reference", "sd_views_of_one_storage", "sd_weight_norm_new",
    "sd_weight_norm_old", "small_cnn_zoo", "weightclip_cnn3", "weightclip_resnet18slim",
    "weightclip_wrapped",
)  # fmt: skip
# Their files report no seed, which expected.json does.
WITHOUT_CONFIG = ("sd_accelerate", "sd_torchvision_reference")
# Members of several networks: one zoo each.
SEVERAL = {"cnn_wild_park": 3, "phase_transitions": 2, "vit_zoo": 3}
HAIKU = "model_zoo_jax"
# Samples that --real-width changes.
REAL_WIDTHS = ("mzd_resnet18",)
COLUMNS = (
    "seed", "learning_rate", "weight_decay", "activation", "optimizer", "dropout", "split", "image",
    "label",
)  # fmt: skip

pytestmark = pytest.mark.skipif(FORMATS is None, reason="needs $ZOOJAX_FORMATS")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The folder of all samples that this file converts."""
    folder = tmp_path_factory.mktemp("formats")
    script = Path(FORMATS or "", "make_samples.py")
    names = sorted({*CONVERTED, *REFUSED, *ASKS, *SEVERAL, HAIKU})
    subprocess.run(
        [sys.executable, script, folder, "--only", *names], check=True, capture_output=True
    )
    return folder


def digest(arrays) -> str:
    """SHA-256 as the samples define it; -0.0 counts as +0.0."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(np.asarray(array) + 0.0, "<f4").tobytes())
    return total.hexdigest()


def states_of(zoo: Zoo) -> dict[tuple[str, int], str]:
    """The trial of each state, by the digest of its weights and its epoch."""
    found: dict[tuple[str, int], str] = {}
    table = zoo.members_table
    for epoch, rows in rows_with_states(zoo).items():
        for row in rows:
            state = state_dict(zoo, table["id"][row], epoch)
            weights = [tensor.numpy() for name, tensor in state.items() if is_weight(name)]
            found[digest(weights), epoch] = table["trial"][row]
    return found


def is_weight(name: str) -> bool:
    """Whether a tensor of a plain state dict is a parameter of a plain network."""
    others = ("running_mean", "running_var", "num_batches_tracked", "log_sigma2", "sigma2_bias")
    return not name.endswith(others)


def raw(file: Path, key: str = "") -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """Names, types, shapes and bytes of a state dict in its own dialect."""
    content, _ = parse(file.read_bytes(), 2**28)
    tensors = find_state(content.content, DialectOptions(state_key=key)).tensors
    arrays = {name: content.array(tensor) for name, tensor in tensors.items()}
    return [(n, a.dtype.name, a.shape, a.tobytes()) for n, a in arrays.items()]


def check_metrics(zoo: Zoo, trial: str, epoch: int, expected: dict[str, float]) -> None:
    """The metrics of a state are in the zoo's units."""
    table = zoo.members_table
    member = table["id"][table["trial"].to_list().index(trial)]
    history = zoo.metrics_history
    (row,) = history.filter((history["member"] == member) & (history["epoch"] == epoch)).to_dicts()
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-6), (trial, epoch, name)


def check_columns(zoo: Zoo, trial: str, expected: dict) -> None:
    """The hyperparameters of a member are those that the files report."""
    table = zoo.members_table
    member = table.row(table["trial"].to_list().index(trial), named=True)
    for name in COLUMNS:
        if name in expected and expected[name] is not None:
            value = {"leakyrelu": "leaky_relu"}.get(expected[name], expected[name])
            assert member[name] == value, (trial, name)


@pytest.mark.parametrize("name", [*CONVERTED, *ASKS])
def test_sample_is_converted_and_restored(samples, tmp_path, name):
    folder = samples / name
    matched: set[str] = set()
    for position, (path, expected) in enumerate(given(folder)):
        options: dict[str, Any] = ASKED if name in ASKS else {}
        zoo_path = tmp_path / f"zoo{position}"
        result = convert_from(path, zoo_path, quiet=True, **options)
        assert result.notes[0].startswith("read as ")
        zoo, found = result.zoo, states_of(result.zoo)
        states = {
            (state["sha256"], int(epoch)): (member, state)
            for member in expected["members"]
            for epoch, state in member["states"].items()
        }
        inexact = any("tolerance" in state for _, state in states.values())
        if inexact:
            assert len(found) == len(states)
        else:
            assert found.keys() <= states.keys()
            matched |= {each[0] for each in found}
            if name == "inr_implicit_zoo":
                assert zoo.metrics["psnr"].sort().to_list() == [30.0, 31.0, 32.0]
            for key, trial in found.items():
                member, state = states[key]
                check_metrics(zoo, trial, key[1], state.get("metrics") or {})
                check_columns(zoo, trial, {} if name in WITHOUT_CONFIG else member)
            if position == len(given(folder)) - 1:
                assert matched == {digest for digest, _ in states}
        rejects = expected.get("rejects", {})
        places = [
            place for place in result.rejected if "is no folder" not in result.rejected[place]
        ]
        assert len(places) == len(rejects)
        assert all(any(full.endswith(p) for full in rejects) for p in places)
        assert not (folder / expected.get("canary", "none")).exists()
        check_restored(zoo, path, tmp_path / f"back{position}", expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL_WIDTHS)
def test_sample_of_real_width_is_converted_and_restored(tmp_path, name):
    script = Path(FORMATS or "", "make_samples.py")
    command = [sys.executable, script, tmp_path, "--real-width", "--only", name]
    subprocess.run(command, check=True, capture_output=True)
    ((path, expected),) = given(tmp_path / name)
    zoo = convert_from(path, tmp_path / "out", quiet=True).zoo
    states = [state for each in expected["members"] for state in each["states"].values()]
    assert {key for key, _ in states_of(zoo)} == {state["sha256"] for state in states}
    check_restored(zoo, path, tmp_path / "back", expected)


def check_restored(zoo: Zoo, root: Path, out: Path, expected: dict) -> None:
    """Every state is written as it was, bit for bit: names, order, types and values."""
    to_torch(zoo, out, dialect="original", quiet=True)
    written = {file: raw(file) for file in sorted(out.rglob("*")) if is_state(file)}
    restored = 0
    for member in expected["members"]:
        for state in member["states"].values():
            # Places start at the folder `zoo` of the sample.
            original = Path(expected["zoo"], state["place"])
            if not original.is_relative_to(root) and root.is_dir():
                continue
            tensors = raw_entry(Path(expected["zoo"]), root, state["place"])
            copies = [file for file, content in written.items() if content == tensors]
            assert copies, state["place"]
            if original.is_file():
                assert any(file.read_bytes()[:2] == original.read_bytes()[:2] for file in copies)
                restored += 1
    assert restored or expected["name"] in ("small_cnn_zoo", "mzd_preprocessed_dataset")


def is_state(file: Path) -> bool:
    """Whether an exported file is a state, not a table or a config."""
    return file.is_file() and file.suffix not in (".json", ".csv")


def raw_entry(zoo: Path, root: Path, place: str) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """Names, types, shapes and bytes of a state in a file, a pickled dataset or a matrix."""
    if (zoo / place).is_file():
        return raw(zoo / place)
    if ".npy[" in place:
        return matrix_row(root, int(place.partition("[")[2][:-1]))
    name, _, entry = place.partition(": ")
    content, _ = parse((zoo / name).read_bytes(), 2**28)
    split, _, index = entry[:-1].partition("[")
    data: Any = content.content
    arrays = {n: content.array(t) for n, t in data[split].state["data_in"][int(index)].items()}
    return [(n, a.dtype.name, a.shape, a.tobytes()) for n, a in arrays.items()]


def matrix_row(root: Path, row: int) -> list[tuple[str, str, tuple[int, ...], bytes]]:
    """A row of a matrix as a torch state dict: weights, then biases."""
    values = np.load(root / "weights.npy")[row]
    found = {}
    for variable in read_rows(root / "layout.csv"):
        shape = tuple(int(n) for n in re.findall("[0-9]+", variable["shape"]))
        array = values[int(variable["start_idx"]) : int(variable["end_idx"])].reshape(shape)
        layer, _, leaf = variable["varname"].removeprefix("sequential/").partition("/")
        axes = (3, 2, 0, 1) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
        array = np.ascontiguousarray(array.transpose(axes))
        name = f"{layer}.{'weight' if 'kernel' in leaf else 'bias'}"
        found[name] = (name, array.dtype.name, array.shape, array.tobytes())
    return [found[n] for n in sorted(found, key=lambda n: (n.split(".")[0], n.endswith("bias")))]


def test_haiku_parameters_are_converted_and_restored(samples, tmp_path):
    ((path, expected),) = given(samples / HAIKU)
    zoo = convert_from(path, tmp_path / "zoo", quiet=True).zoo
    table = zoo.members_table
    native: dict[tuple[str, int], str] = {}
    for epoch, rows in rows_with_states(zoo).items():
        params = zoo.state(epoch)["params"]
        for row in rows:
            leaves = [params[layer][leaf][row] for layer in zoo.config.shape.layers
                      for leaf in ("kernel", "bias")]  # fmt: skip
            native[digest(leaves), epoch] = table["trial"][row]
    to_torch(zoo, tmp_path / "back", dialect="original", quiet=True)
    count = 0
    for member in expected["members"]:
        for epoch, state in member["states"].items():
            trial = native[state["sha256_native"], int(epoch)]
            assert member["id"].endswith(trial)
            check_metrics(zoo, trial, int(epoch), state["metrics"])
            check_columns(zoo, trial, member)
            original = Path(expected["zoo"], state["place"])
            copy = tmp_path / "back" / trial / epoch / "arrays.npy"
            assert copy.read_bytes() == original.read_bytes()
            count += 1
    assert count == len(native) == 4


def only(expected: dict, zoo: Zoo) -> dict:
    """The expected outcome for the members of one of several zoos."""
    trials = zoo.members_table["trial"].to_list()
    members = [m for m in expected["members"] if m["id"].endswith(tuple(trials))]
    return {**expected, "members": members}


@pytest.mark.parametrize("name", SEVERAL)
def test_each_network_of_a_sample_has_a_zoo(samples, tmp_path, name):
    found: set[str] = set()
    expected: dict[str, Any] = {}
    count = 0
    for position, (path, described) in enumerate(given(samples / name)):
        expected = described
        results = convert_each(path, tmp_path / str(position), quiet=True)
        count += len(results)
        for network, result in results.items():
            assert not result.rejected
            for trial in result.zoo.members_table["trial"]:
                (member,) = (m for m in described["members"] if m["id"].endswith(trial))
                check_columns(result.zoo, trial, member)
            back = tmp_path / f"back{position}-{network}"
            check_restored(result.zoo, path, back, only(described, result.zoo))
            found |= {key for key, _ in states_of(result.zoo)}
    states = [state for each in expected["members"] for state in each["states"].values()]
    assert found == {state["sha256"] for state in states}
    assert count == SEVERAL[name]


@pytest.mark.parametrize("name, tolerance", [("small_cnn_zoo", 1e-5), ("vit_zoo", 1e-4)])
def test_networks_of_torch_and_zoojax_agree(samples, tmp_path, name, tolerance):
    """Outputs equal those of the torch module, and those of the network that wrote the sample."""
    compared, states = 0, 0
    for position, (path, expected) in enumerate(given(samples / name)):
        states = sum(len(member["states"]) for member in expected["members"])
        for result in convert_each(path, tmp_path / str(position), quiet=True).values():
            zoo = result.zoo
            checked = verify(zoo, path, images=2, tolerance=tolerance, quiet=True)
            assert checked.states == len(zoo.metrics) > 0
            assert checked.difference <= tolerance and not checked.unequal
            compared += check_logits(zoo, samples / name, expected, tolerance)
    assert compared == states > 0


@pytest.mark.parametrize("name", REFUSED)
def test_sample_is_refused(samples, tmp_path, name):
    ((path, _),) = given(samples / name)
    with pytest.raises(ZoojaxError) as caught:
        convert_from(path, tmp_path / "zoo", quiet=True)
    assert REFUSED[name] in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize("name", ASKS)
def test_sample_needs_an_option(samples, tmp_path, name):
    ((path, _),) = given(samples / name)
    with pytest.raises(ZoojaxError) as caught:
        convert_from(path, tmp_path / "zoo", quiet=True)
    assert ASKS[name] in str(caught.value)
