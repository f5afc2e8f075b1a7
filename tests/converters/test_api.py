"""Conversion as Python functions; the tests of the commands hold what these write and report."""

import numpy as np
import pytest

from tests.support.torch_zoos import checkpoint, state, trial_name, trials, write_trial, write_zoo
from zoojax import ZoojaxError, converters
from zoojax.converters import DifferenceError, from_torch, to_torch, verify
from zoojax.converters.arguments import parse_epochs


def test_public_names_resolve():
    for name in converters.__all__:
        assert getattr(converters, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = converters.no_such_thing


def test_there_and_back(tmp_path, capfd):
    """Notes and rejected states are returned, not printed; differences raise with the result."""
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    checkpoint(trials(root)[0], 1).write_bytes(b"")
    (root / "dataset.pt").write_bytes(b"")
    done = from_torch(str(root), str(tmp_path / "zoo"))
    assert (len(done.zoo), done.states, list(done.rejected.values())) == (2, 3, ["empty"])
    assert done.zoo.config.name == "zoo"
    (note,) = done.notes
    assert note.startswith("images are left out")
    exported = to_torch(done.zoo, tmp_path / "back", epochs=[0])
    assert (exported.written, exported.notes) == (2, ())
    (tmp_path / "root/dataset.pt").unlink()
    result = verify(done.zoo.path, tmp_path / "back", images=2)
    assert (result.states, result.images, result.unequal) == (2, 2, [])
    other = write_trial(tmp_path / "other", 1, {0: state(77)}).parent
    with pytest.raises(DifferenceError, match="differs from") as raised:
        verify(done.zoo, other, images=2)
    assert raised.value.result.unequal == [f"{trial_name(1)}/checkpoint_000000/checkpoints"]
    assert capfd.readouterr() == ("", "")
    difference = raised.value.result.difference
    assert np.isfinite(difference) and difference > 1e-5


@pytest.mark.parametrize(
    ("epochs", "expected"), [("all", None), ("0,4-6", (0, 4, 5, 6)), (3, (3,)), ([0, 25], (0, 25))]
)
def test_epochs(epochs, expected):
    assert parse_epochs(epochs) == expected


@pytest.mark.parametrize("epochs", [None, 1.5, [1, "2"], {1, 2}])
def test_invalid_epochs(epochs):
    with pytest.raises(ZoojaxError, match=r"^epochs is .*; give 'all' or whole numbers$"):
        parse_epochs(epochs)


def test_invalid_arguments(tmp_path):
    zoo = from_torch(write_zoo(tmp_path / "root", members=1, epochs=[0]), tmp_path / "zoo").zoo
    for call, message in (
        (lambda: to_torch(zoo, tmp_path / "out", format="onnx"), "format is 'onnx'; give one of"),  # pyright: ignore
        (lambda: to_torch(5, tmp_path / "out"), "zoo is 5; give a zoo"),  # pyright: ignore
        (lambda: verify(zoo, tmp_path / "root", sample=-1), "sample is -1; give a whole number"),
        (lambda: verify(zoo, tmp_path / "root", images=0), "images is 0; give a whole number"),
        (lambda: from_torch(None, tmp_path / "out"), "root is None; give the path"),  # pyright: ignore
        (
            lambda: from_torch(tmp_path / "root", tmp_path / "out", preset="usps"),
            "no preset named 'usps'",
        ),
    ):
        with pytest.raises(ZoojaxError, match=message):
            call()
    assert not (tmp_path / "out").exists()
