"""Random damage to states: each is rejected, or converted bit for bit."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.conversions import NOISE, converted, place, read_rejects
from tests.support.torch_zoos import checkpoint, state, trials, write_zoo
from zoojax.converters.sources import from_trials
from zoojax.converters.verification import verify

KINDS = ("dense", "mp", "vd")
DTYPES = (torch.float64, torch.float16, torch.int32, torch.bool, torch.complex64)
NAMES = ("module_list.1", "module_list.99", "0", "", "module_list.\u00b2", "a.b.c", "9" * 5000)


@pytest.fixture(scope="module")
def two_trials(tmp_path_factory):
    """Trial folders of two_trials members with one epoch, and the folder of the zoo."""
    folder = tmp_path_factory.mktemp("fuzz")
    return write_zoo(folder / "root", epochs=[0]), folder / "zoo"


@st.composite
def damaged_bytes(draw: st.DrawFn):
    """A function that writes a truncated or changed file in the zip or legacy format."""
    zipped, complete = draw(st.booleans()), draw(st.booleans())
    cut = 1.0 if complete else draw(st.floats(0, 1))
    flips = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4))

    def damage(file):
        tensors = state(2)
        torch.save(tensors, file, _use_new_zipfile_serialization=zipped)
        data = bytearray(file.read_bytes())
        for position, flip in flips:
            data[int(position * (len(data) - 1))] ^= flip
        file.write_bytes(data[: int(cut * len(data))])

    return damage


@st.composite
def damaged_content(draw: st.DrawFn):
    """A function that writes a state dict with other names, shapes, types, values or kinds."""
    kind = draw(st.sampled_from(KINDS))
    edits = draw(
        st.lists(
            st.tuples(
                st.integers(0, 19),
                st.sampled_from(("rename", "move", "drop", "shape", "dtype", "value", "swap")),
                st.integers(0, 10),
            ),
            min_size=1,
            max_size=3,
        )
    )

    def damage(file):
        tensors = state(2, kind)
        for which, edit, choice in edits:
            if not tensors:
                break
            name = list(tensors)[which % len(tensors)]
            value = tensors.pop(name)
            prefix, _, leaf = name.rpartition(".")
            if edit == "rename":
                tensors[f"{NAMES[choice % len(NAMES)]}.{leaf}"] = value
            elif edit == "move":
                moved = {k: tensors.pop(k) for k in list(tensors) if k.startswith(f"{prefix}.")}
                for old, tensor in {name: value, **moved}.items():
                    new = old.removeprefix(f"{prefix}.")
                    tensors[f"{NAMES[choice % len(NAMES)]}.{new}"] = tensor
            elif edit == "shape":
                flat = value.flatten()  # An earlier edit may have left a scalar.
                shapes = (flat, flat[:1], value[None], value.new_zeros(0), value.sum())
                tensors[name] = shapes[choice % len(shapes)]
            elif edit == "dtype":
                tensors[name] = value.real.to(DTYPES[choice % len(DTYPES)])
            elif edit == "value":
                values = (float("nan"), float("inf"), 1e38, 0.0, -0.0, 1e-45)
                tensors[name] = torch.full(value.shape, values[choice % len(values)])
            elif edit == "swap":
                tensors[name] = (
                    value.mT.contiguous().mT if value.ndim > 1 else value.flatten().flip(0)
                )
        torch.save(dict(tensors), file)

    return damage


def assert_rejected_or_verified(two_trials, damage) -> None:
    """Either the damaged state is rejected, or it is in the zoo bit for bit."""
    root, out = two_trials
    shutil.rmtree(out, ignore_errors=True)
    damage(checkpoint(trials(root)[1], 0))
    done = converted(root, out)
    valid = 2 - len(done.rejected)
    assert list(done.rejected) in ([], [place(2, 0)])
    assert (done.states, len(read_rejects(done.zoo))) == (valid, 2 - valid)
    if done.rejected:
        return
    result = verify(done.zoo, from_trials(root), NOISE[:1], sample=None)
    assert (result.states, result.unequal, result.missing) == (2, [], [])
    # The legacy format has no checksums: changed bytes can result in a weight of any size.
    values = [v for layer in done.zoo.params(0).values() for v in layer.values()]
    if max(np.abs(v).max() for v in values) < 1e3:
        assert result.difference <= 1e-5


def fuzz(strategy, examples):
    """Runs a test with this many examples."""

    def decorate(function):
        health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        limits = settings(max_examples=examples, deadline=None, suppress_health_check=health)
        return limits(given(damage=strategy)(function))

    return decorate


@fuzz(damaged_bytes(), 50)
def test_damaged_bytes(two_trials, damage):
    assert_rejected_or_verified(two_trials, damage)


@fuzz(damaged_content(), 50)
def test_damaged_content(two_trials, damage):
    assert_rejected_or_verified(two_trials, damage)


@pytest.mark.slow
@fuzz(st.one_of(damaged_bytes(), damaged_content()), 500)
def test_many_damages(two_trials, damage):
    assert_rejected_or_verified(two_trials, damage)
