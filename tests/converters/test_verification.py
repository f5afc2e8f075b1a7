"""Verification of converted zoos."""

import pytest
import torch

from tests.support.conversions import NOISE, converted, load_tensors, place
from tests.support.torch_zoos import checkpoint, state, trial_name, trials, write_trial, write_zoo
from zoojax.converters.sources import from_trials
from zoojax.converters.verification import verify
from zoojax.errors import ZoojaxError


def test_differences_and_missing_states(tmp_path):
    root = write_zoo(tmp_path / "root", epochs=[0, 1])
    done = converted(root, tmp_path / "zoo", select={"epochs": (0,)})
    file = checkpoint(trials(root)[1], 0)
    tensors = load_tensors(file)
    tensors["module_list.3.weight"][0, 0, 0, 0] += 1
    torch.save(tensors, file)
    result = verify(done.zoo, from_trials(root), NOISE, sample=None)
    assert result.unequal == [place(2, 0)]
    assert result.missing == [place(1, 1), place(2, 1)]
    assert result.worst == place(2, 0)
    assert result.difference > 1e-5
    torch.save(state(1, "vd"), file)
    with pytest.raises(ZoojaxError, match=trial_name(2)):
        verify(done.zoo, from_trials(root), NOISE, sample=None)
    with pytest.raises(ZoojaxError, match="no states in common"):
        other = write_trial(tmp_path / "other", 50, {0: state(1)}).parent
        verify(done.zoo, from_trials(other), NOISE)
