"""Samples of published formats: what comes out has the expected hashes, metrics and reasons.

The samples are written by make_samples.py in the folder that ZOOJAX_FORMATS names.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoojax import Zoo
from zoojax.converters.api import convert_each, convert_from, to_torch
from zoojax.converters.checkpoint_files import parse
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.dialects.wrappers import find_state
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
    "damaged", "hf_repo_per_model", "malicious", "mzd_cnn2", "mzd_large_seed", "mzd_lenet5",
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
SEVERAL = {"phase_transitions": 2, "vit_zoo": 3}
COLUMNS = ("seed", "learning_rate", "weight_decay", "activation", "optimizer", "dropout")

pytestmark = pytest.mark.skipif(FORMATS is None, reason="needs $ZOOJAX_FORMATS")


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The folder of all samples that this file converts."""
    folder = tmp_path_factory.mktemp("formats")
    script = Path(FORMATS or "", "make_samples.py")
    names = sorted({*CONVERTED, *REFUSED, *ASKS, *SEVERAL})
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


def given(folder: Path) -> list[tuple[Path, dict]]:
    """What to convert, and the expected outcome."""
    expected = json.loads((folder / "expected.json").read_text())
    paths = expected["give"] if isinstance(expected["give"], list) else [expected["give"]]
    expected["zoo"] = str(folder / "zoo")
    return [(folder / path, expected) for path in paths]


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
        if name not in ("sd_float64", "small_cnn_zoo", "mzd_preprocessed_dataset"):
            check_restored(zoo, path, tmp_path / f"back{position}", expected)


def check_restored(zoo: Zoo, root: Path, out: Path, expected: dict) -> None:
    """Every state is written as it was, bit for bit, to a file of its name."""
    to_torch(zoo, out, dialect="original", quiet=True)
    restored = 0
    for member in expected["members"]:
        for state in member["states"].values():
            # Places start at the folder `zoo` of the sample.
            original = Path(expected["zoo"], state["place"])
            copy = out / original.relative_to(root) if original.is_relative_to(root) else out
            # States of a run without a folder are written by epoch.
            if copy.is_file() and original.is_file():
                assert raw(copy) == raw(original)
                assert (copy.read_bytes()[:2] == b"PK") == (original.read_bytes()[:2] == b"PK")
                restored += 1
    assert restored or expected["name"] == "rpg_cnn_small"


@pytest.mark.parametrize("name", SEVERAL)
def test_each_network_of_a_sample_has_a_zoo(samples, tmp_path, name):
    found: set[str] = set()
    expected: dict[str, Any] = {}
    count = 0
    for position, (path, described) in enumerate(given(samples / name)):
        expected = described
        results = convert_each(path, tmp_path / str(position), quiet=True)
        count += len(results)
        for result in results.values():
            assert not result.rejected
            found |= {key for key, _ in states_of(result.zoo)}
    states = [state for each in expected["members"] for state in each["states"].values()]
    assert found == {state["sha256"] for state in states}
    assert count == SEVERAL[name]


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
