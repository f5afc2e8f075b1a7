"""The commands on converted zoos of every family: verify, analyze, sparsify, represent.

Families are the samples of published formats at toy width; make_samples.py in the folder that
ZOOJAX_FORMATS names writes them.
"""

import contextlib
import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import zoojax
from tests.support.samples import check_logits, given
from zoojax import Zoo
from zoojax.converters.api import convert_each, verify

FORMATS = os.environ.get("ZOOJAX_FORMATS")
FAMILIES = (
    "cnn_wild_park", "hf_repo_per_model", "inr_cifar_nfn", "inr_fmnist_dws", "inr_implicit_zoo",
    "inr_mnist_dws", "inr_sine_ssl", "model_zoo_jax", "mzd_cnn2", "mzd_large_seed", "mzd_lenet5",
    "mzd_preprocessed_dataset", "mzd_resnet18", "mzd_small_grid_dropout", "mzd_small_seed",
    "mzd_small_variational", "phase_transitions", "rpg_cnn_small", "sd_pruned", "small_cnn_zoo",
    "vit_zoo", "weightclip_cnn3", "weightclip_resnet18slim",
)  # fmt: skip
# Of the largest logit.
TOLERANCES: dict[str, float] = dict.fromkeys(
    ("mzd_resnet18", "phase_transitions", "vit_zoo", "weightclip_resnet18slim"), 1e-4
)
# Their files do not say the activation, or hold only a part of the network; model-zoo-jax has no
# torch network.
UNKNOWN_NETWORKS = ("hf_repo_per_model", "model_zoo_jax", "rpg_cnn_small")
# Words of the refusals.
NO_IMAGES = "without the images that its members learned"
NO_CLASSES = "need members that classify"
FEW_MEMBERS = "too few to split"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FORMATS is None, reason="needs $ZOOJAX_FORMATS"),
]


def images_for(sample: str, folder: Path, shape: tuple[int, int, int], classes: int) -> Path:
    """A dataset.pt with a few images of a shape (channels, height, width)."""
    generator = torch.Generator().manual_seed(0)
    parts = {
        name: TensorDataset(torch.randn(6, *shape, generator=generator), torch.arange(6) % classes)
        for name in ("trainset", "valset", "testset")
    }
    file = folder / f"images_{sample}.pt"
    torch.save({**parts, "dataset_seed": 42}, file)
    return file


def multiply(root: Path) -> None:
    """Copies each member seven times: a hyper-representation needs at least seven members."""
    if (root / "weights.npy").is_file():
        weights = np.load(root / "weights.npy")
        np.save(root / "weights.npy", np.concatenate([weights] * 4))
        with gzip.open(root / "metrics.csv.gz", "rt") as file:
            header, *lines = file.read().splitlines()
        lines += [line.replace("/zoo/", f"/copy{i}/") for i in range(3) for line in lines]
        with gzip.open(root / "metrics.csv.gz", "wt") as file:
            file.write("\n".join([header, *lines]) + "\n")
        return
    states = {"checkpoints", "checkpoint.pt", "arrays.npy"}
    members = {each.parents[1] for each in root.rglob("*") if each.name in states}
    members |= {each.parent for each in root.rglob("model.safetensors")}
    for member in members - {root}:
        for i in range(7):
            shutil.copytree(member, member.with_name(f"{member.name}_copy{i}"))


def converted(name: str, folder: Path) -> list[tuple[Zoo, Path, dict]]:
    """The zoos of a sample, with images where members classify, their sources, and the outcome."""
    script = Path(FORMATS or "", "make_samples.py")
    command = [sys.executable, script, folder, "--only", name]
    subprocess.run(command, check=True, capture_output=True)
    found = []
    for position, (path, expected) in enumerate(given(folder / name)):
        multiply(path)
        options: dict[str, Any] = {}
        if len(expected.get("input_shape", ())) == 3:
            shape, classes = tuple(expected["input_shape"]), expected.get("classes", 10)
            options["data"] = str(images_for(name, folder, shape, classes))
        results = convert_each(path, folder / f"zoos{position}", quiet=True, **options)
        found += [(result.zoo, path, expected) for result in results.values()]
    return found


def refusal(call) -> str:
    """The one line in which a call is refused."""
    with pytest.raises(zoojax.ZoojaxError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_commands_take_a_family_or_refuse_it_in_one_line(tmp_path, name):
    compared = 0
    for zoo, source, expected in converted(name, tmp_path):
        folder = tmp_path / f"of-{zoo.path.parent.name}-{zoo.path.name}"
        tolerance = TOLERANCES.get(name, 1e-5)
        checked = verify(zoo, source, images=2, sample=0, tolerance=tolerance, quiet=True)
        assert checked.states == len(zoo.metrics) and checked.difference <= tolerance
        if name not in UNKNOWN_NETWORKS:
            compared += check_logits(zoo, tmp_path / name, expected, 10 * tolerance)
        zoojax.analyze(zoo, out=folder / "analysis", quiet=True)
        assert (folder / "analysis" / "report.html").is_file()

        def sparsify(zoo=zoo, folder=folder):
            twin = folder / "twin"
            method = zoojax.MagnitudePruning(ratios=(0.5,))
            return zoojax.sparsify(zoo, method, out=twin, epochs=1, quiet=True)

        def represent(zoo=zoo, folder=folder):
            rep = folder / "rep"
            options = {"epochs": 1, "batch_size": 2, "weights_only": True, "without_behavior": True}
            return zoojax.train_representation(zoo, rep, quiet=True, **options)

        if zoo.config.data_hash is None:
            reason = NO_IMAGES if zoo.config.shape.task.has_own_images else "without images"
            assert reason in refusal(sparsify)
        elif not zoo.config.is_dense:
            assert "twin" in refusal(sparsify)
        else:
            twin = sparsify()
            assert twin.metrics.filter(epoch=1)["sparsity"].to_list() == pytest.approx(
                [0.5] * len(zoo), abs=0.02
            )
        if zoo.config.shape.task.has_own_images:
            assert NO_CLASSES in refusal(represent)
        elif len(zoo) < 7:
            assert FEW_MEMBERS in refusal(represent)
        else:
            # Hidden units behind skips are not permuted.
            is_permuted = bool(zoo.config.shape.permutations)
            warning = pytest.warns(UserWarning, match="describes no permutations")
            with contextlib.nullcontext() if is_permuted else warning:
                represent()
            assert (folder / "rep").is_dir()
    assert compared or name in UNKNOWN_NETWORKS
