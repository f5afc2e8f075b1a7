"""ResNet-50 of the phase-transition zoos, written with the network of make_samples.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.samples import check_logits, given
from zoojax import Zoo
from zoojax.converters.api import convert_each, convert_from, to_torch, verify
from zoojax.converters.checkpoint_files import read_state
from zoojax.errors import ZoojaxError

FORMATS = os.environ.get("ZOOJAX_FORMATS")
# Two widths, one behind DataParallel, as in the sample of ResNet-18.
SCRIPT = """
import sys
import make_samples as m

sample = m.Sample(sys.argv[1], "resnet50", 0)
for i, (width, wrapped) in enumerate(((2, False), (2, True), (4, False))):
    name = f"NN_tune_trainable_bf0b6_{i:05d}_{i}_model_width={width},seed={i}_2024-05-22_11-30-52"
    config = {**m.PTMZ, "model::type": "Resnet50_width", "model::width": width, "seed": i}
    net = m.ResNet(width, 100, blocks=(3, 4, 6, 3), expansion=4)
    m.phase_trial(sample, name, config, net, [0, 2], wrapped)
sample.say(classes=100, input_shape=[3, 32, 32], architecture={"type": "Resnet50_width"})
sample.finish()
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FORMATS is None, reason="needs $ZOOJAX_FORMATS"),
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> tuple[Path, dict]:
    """The folder of the sample, and the expected outcome."""
    folder = tmp_path_factory.mktemp("resnet50")
    environment = {**os.environ, "PYTHONPATH": FORMATS or ""}
    command = [sys.executable, "-c", SCRIPT, folder]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    ((path, expected),) = given(folder)
    return path, expected


@pytest.fixture(scope="module")
def zoos(sample, tmp_path_factory) -> list[Zoo]:
    results = convert_each(sample[0], tmp_path_factory.mktemp("zoos"), quiet=True)
    assert not any(result.rejected for result in results.values())
    return [result.zoo for result in results.values()]


def test_each_width_is_a_zoo_and_is_restored(sample, zoos, tmp_path):
    root, expected = sample
    found = {zoo.config.architecture: len(zoo) for zoo in zoos}
    assert found == {"resnet50-2": 2, "resnet50-4": 1}
    assert all(zoo.config.classes == 100 and zoo.epochs == [0, 2] for zoo in zoos)
    for zoo in zoos:
        to_torch(zoo, tmp_path / zoo.path.name, dialect="original", quiet=True)
    for member in expected["members"]:
        for state in member["states"].values():
            (copy,) = tmp_path.glob(f"*/{state['place']}")
            restored, original = read_state(copy), read_state(root / state["place"])
            assert list(restored) == list(original)
            assert all(restored[n].tobytes() == original[n].tobytes() for n in original)


def test_other_bottlenecks_are_refused_in_one_line(sample, tmp_path):
    """A convolution of another shape: the names alone do not make a ResNet-50."""
    root = tmp_path / "root"
    trial = next(sample[0].glob("*00000_0*"))
    file = root / trial.name / "checkpoint_000000" / "checkpoints"
    file.parent.mkdir(parents=True)
    state = torch.load(trial / "checkpoint_000000" / "checkpoints", weights_only=True)
    state["layer1.0.conv2.weight"] = torch.zeros(2, 2, 5, 5)
    torch.save(state, file)
    with pytest.raises(ZoojaxError, match="no known network") as caught:
        convert_from(root, tmp_path / "zoo", quiet=True)
    assert "\n" not in str(caught.value)


def test_networks_of_torch_and_zoojax_agree(sample, zoos):
    root, expected = sample
    compared = 0
    for zoo in zoos:
        checked = verify(zoo, root, images=2, tolerance=1e-4, quiet=True)
        assert checked.difference <= 1e-4 and not checked.unequal
        compared += check_logits(zoo, root.parent, expected, 1e-4)
    assert compared == 6
