"""Dialects of state dicts: each is read to the same plain form, and restored bit for bit."""

import argparse
import copy
import io
import warnings
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn
from torch.ao.pruning.sparsifier.weight_norm_sparsifier import WeightNormSparsifier
from torch.nn.utils import parametrizations, prune

from tests.support.torch_files import rejection, saved
from zoojax.converters.checkpoint_files import parse, read_state
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.dialects.chain import is_plain, original_state
from zoojax.converters.dialects.wrappers import find_state
from zoojax.converters.originals import read as read_originals
from zoojax.converters.originals import write as write_originals
from zoojax.errors import ZoojaxError

ASKED = DialectOptions(cast=True, drop_extra=True, fold_spectral_norm=True)


def network() -> nn.Sequential:
    """A small network with a convolution and a linear layer."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4))


def layers(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [each for each in net.modules() if isinstance(each, nn.Conv2d | nn.Linear)]


def changed(change) -> dict[str, torch.Tensor]:
    """The state dict of the network after a change of its layers."""
    net = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for layer in layers(net):
            change(layer)
    if "spectral" in getattr(change, "__name__", ""):
        net.eval()(torch.zeros(1, 1, 3, 3))
    return net.state_dict()


def pruned(names=("weight",), which=(0, 1)) -> dict[str, torch.Tensor]:
    """The state dict of the network with masks."""
    net = network()
    for position in which:
        for name in names:
            prune.random_unstructured(layers(net)[position], name, 0.5)
    return net.state_dict()


def averaged() -> dict[str, torch.Tensor]:
    return torch.optim.swa_utils.AveragedModel(network()).state_dict()


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in network().state_dict().items()}


def typed(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {name: tensor.to(dtype) for name, tensor in network().state_dict().items()}


def ao_pruned() -> dict[str, object]:
    """A file with the state of a sparsifier next to the state dict."""
    net = network()
    sparsifier = WeightNormSparsifier(sparsity_level=0.5, sparse_block_shape=(1, 1))
    sparsifier.prepare(net, [{"tensor_fqn": "3.weight"}])
    sparsifier.step()
    return {"model": net.state_dict(), "sparsifier": sparsifier.state_dict()}


def bool_masks() -> dict[str, torch.Tensor]:
    return {n: t.bool() if n.endswith("_mask") else t for n, t in pruned().items()}


PLAIN = network().state_dict()
# Files whose plain form has the weights of the network.
SAME = {
    "bare": PLAIN,
    "state_dict": {"state_dict": PLAIN, "epoch": 3, "best": torch.tensor(0.5)},
    "model_state_dict": {"model_state_dict": PLAIN, "optimizer_state_dict": {"state": {0: PLAIN}}},
    "twice": {"checkpoint": {"model": PLAIN}},
    "other": {"mine": PLAIN, "optimizer": {"exp_avg": torch.zeros(3)}},
    "average": {"model": PLAIN, "model_ema": averaged()},
    "namespace": {"state_dict": PLAIN, "args": argparse.Namespace(lr=0.1), "d": defaultdict(list)},
    "numpy": {"state_dict": PLAIN, "acc": np.float64(0.5), "n": np.int64(3), "a": np.zeros(2)},
    "parameters": OrderedDict(network().named_parameters()),
    "module": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "nested": prefixed("module._orig_mod.model."),
    "averaged": averaged(),
    "float64": typed(torch.float64),
    "device": {"state_dict": PLAIN, "device": torch.device("cpu"), "shape": torch.Size([1, 2])},
}
# Files whose weights differ from the network's, by their number of masks.
OTHERS = {
    "half": (typed(torch.float16), 0),
    "bfloat16": (typed(torch.bfloat16), 0),
    "mixed": ({**typed(torch.float16), "0.weight": PLAIN["0.weight"]}, 0),
    "pruned": (pruned(), 2),
    "bool masks": (bool_masks(), 2),
    "some layers": (pruned(which=(1,)), 2),
    "biases": (pruned(("weight", "bias")), 2),
    "only biases": (pruned(("bias",)), 0),
    "half pruned": ({n: t.half() for n, t in pruned().items()}, 2),
    "ao": (ao_pruned(), 2),
    "weight norm": (changed(nn.utils.weight_norm), 0),
    "new weight norm": (changed(parametrizations.weight_norm), 0),
    "spectral norm": (changed(nn.utils.spectral_norm), 0),
    "new spectral norm": (changed(parametrizations.spectral_norm), 0),
    "prefix of masks": ({f"module.{name}": t for name, t in pruned().items()}, 2),
}


def restored(content: bytes, path) -> tuple[list, ...]:
    """Names, types, shapes and bytes: of the file, and of its plain form with dialects undone."""
    path.write_bytes(content)
    state = read_state(path, options=ASKED)
    assert all(a.dtype == np.float32 and a.flags.writeable for a in state.values())
    original = original_state(state, state.records, state.kept)
    file, container = parse(content, 2**28)
    found = find_state(file.content, ASKED)
    assert (original.container, original.path) == (container, found.path)
    arrays = {name: file.array(tensor) for name, tensor in found.tensors.items()}
    return tuple(
        [(n, a.dtype.name, np.shape(a), np.asarray(a).tobytes()) for n, a in each.items()]
        for each in (original.arrays, arrays)
    )


@pytest.mark.parametrize("name", SAME)
def test_wrapped_and_renamed_states_are_the_same(tmp_path, name):
    content = saved(SAME[name])
    back, file = restored(content, tmp_path / "state")
    assert back == file
    state = read_state(tmp_path / "state")
    assert [n.removeprefix("module.") for n in state] == list(PLAIN)
    for key, tensor in PLAIN.items():
        np.testing.assert_array_equal(state[key], tensor.numpy())
    assert is_plain(state.records, PLAIN) == (name in ("bare", "parameters"))


@pytest.mark.parametrize("name", OTHERS)
def test_other_states_are_restored(tmp_path, name):
    content, masks = OTHERS[name]
    for zipped in (True, False):
        back, file = restored(saved(content, zipped), tmp_path / "state")
        assert back == file
    names = read_state(tmp_path / "state", options=ASKED)
    assert sum(each.endswith(".weight_mask") for each in names) == masks


@pytest.mark.parametrize("name", ["bare", "module", "float64", "averaged"])
def test_safetensors(tmp_path, name):
    content = SAME[name]
    assert all(isinstance(each, torch.Tensor) for each in content.values())
    back, file = restored(save({n: t.detach() for n, t in content.items()}), tmp_path / "state")
    assert back == file
    state = read_state(tmp_path / "state")
    np.testing.assert_array_equal(state["3.weight"], PLAIN["3.weight"].numpy())


@pytest.mark.parametrize("protocol", range(1, 6))
def test_pickle_protocols(tmp_path, protocol):
    file = io.BytesIO()
    wrapped = {"state_dict": PLAIN, "big": 2**40, "flags": (True, False, None, -1, 0.5)}
    torch.save(wrapped, file, pickle_protocol=protocol)
    (tmp_path / "state").write_bytes(file.getvalue())
    assert list(read_state(tmp_path / "state")) == list(PLAIN)


def test_weights_are_computed_as_torch_computes_them(tmp_path):
    for change in (
        *(nn.utils.weight_norm, parametrizations.weight_norm),
        *(nn.utils.spectral_norm, parametrizations.spectral_norm),
    ):
        net = network()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for layer in layers(net):
                change(layer)
        net.eval().forward(torch.randn(1, 1, 3, 3))
        (tmp_path / "state").write_bytes(saved(net.state_dict()))
        state = read_state(tmp_path / "state", options=ASKED)
        for name, layer in zip(("0", "3"), layers(net), strict=True):
            expected = layer.weight.detach().numpy()
            np.testing.assert_allclose(state[f"{name}.weight"], expected, rtol=2e-6, atol=1e-7)


def test_pruned_values_are_positive_zeros(tmp_path):
    net = network()
    for name in ("weight", "bias"):
        prune.random_unstructured(layers(net)[0], name, 0.5)
    (tmp_path / "state").write_bytes(saved(net.state_dict()))
    bias = read_state(tmp_path / "state")["0.bias"]
    mask = net.state_dict()["0.bias_mask"].numpy()
    assert (bias[mask == 0] == 0).all() and not np.signbit(bias[mask == 0]).any()
    np.testing.assert_array_equal(bias[mask == 1], net.state_dict()["0.bias_orig"][mask == 1])


@pytest.mark.parametrize(
    "content, reason",
    [
        (typed(torch.complex64), "is complex64, which a zoo cannot hold"),
        ({"a.weight": torch.full((2, 2), 1 / 3, dtype=torch.float64)}, "--cast rounds them"),
        (changed(nn.utils.spectral_norm), "--fold-spectral-norm"),
        (changed(parametrizations.spectral_norm), "--fold-spectral-norm"),
        (changed(parametrizations.orthogonal), "of a parametrization that is not known"),
        (ao_pruned()["model"], "has no mask in the file"),
        ({"0.weight": PLAIN["0.weight"], "0.lora_A": torch.zeros(2)}, "is a LoRA adapter"),
        ({"a": PLAIN, "b": PLAIN}, "a and b; choose with --state-key"),
        ({"a.weight_g": torch.zeros(1, 2), "a.weight_v": torch.zeros(2, 2)}, "not the norms"),
        ({"a.weight_mask": torch.full((2, 2), 2)}, "values other than 0 and 1"),
        ({"state_dict": network()}, "a pickled module"),
        ({}, "an empty dict"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, content, reason):
    assert reason in rejection(tmp_path / "state", saved(content))


def test_values_beyond_float32_are_not_rounded(tmp_path):
    state = {"a.weight": torch.full((2, 2), 1e300, dtype=torch.float64)}
    (tmp_path / "state").write_bytes(saved(state))
    with pytest.raises(ZoojaxError, match="beyond the range"):
        read_state(tmp_path / "state", options=ASKED)


def test_rounded_values_are_counted(tmp_path):
    state = {"a.weight": torch.tensor([1 / 3, 0.5], dtype=torch.float64)}
    (tmp_path / "state").write_bytes(saved(state))
    assert read_state(tmp_path / "state", options=ASKED).rounded == 1


def test_one_of_several_state_dicts(tmp_path):
    other = {name: tensor + 1 for name, tensor in PLAIN.items()}
    path = tmp_path / "state"
    path.write_bytes(saved({"model": PLAIN, "state_dict_ema": other}))
    assert "not read: state_dict_ema" in read_state(path).notes
    chosen = read_state(path, options=DialectOptions(state_key="state_dict_ema"))
    np.testing.assert_array_equal(chosen["3.bias"], other["3.bias"].numpy())
    missing = DialectOptions(state_key="ema")
    assert "no state dict named ema" in rejection(
        path, read=lambda p: read_state(p, options=missing)
    )


def test_layers_named_as_prefixes_keep_their_names(tmp_path):
    (tmp_path / "state").write_bytes(
        saved({"module.0.weight": torch.zeros(2, 2), "head.0.weight": torch.zeros(2, 2)})
    )
    assert list(read_state(tmp_path / "state")) == ["module.0.weight", "head.0.weight"]


def test_originals_of_a_zoo_are_checked(tmp_path):
    content = saved(changed(nn.utils.weight_norm))
    (tmp_path / "state").write_bytes(content)
    state = read_state(tmp_path / "state")
    write_originals(tmp_path, 3, 0, {7: (state.records, state.kept)})
    records, kept = read_originals(tmp_path, 3)[7]
    assert original_state(state, records, kept).arrays.keys() == (
        original_state(state, state.records, state.kept).arrays.keys()
    )
    assert read_originals(tmp_path, 4) == {}
    broken = copy.deepcopy(dict(state))
    broken.pop("0.weight")
    with pytest.raises(ZoojaxError, match="record of an original dialect is damaged"):
        original_state(broken, records, kept)
    (file,) = (tmp_path / "dialects").iterdir()
    file.write_bytes(file.read_bytes().replace(b"weight_norm", b"weight_form"))
    records, kept = read_originals(tmp_path, 3)[7]
    with pytest.raises(ZoojaxError, match="damaged"):
        original_state(state, records, kept)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ZoojaxError, match="damaged"):
        read_originals(tmp_path, 3)
