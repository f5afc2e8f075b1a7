"""The file rejects.csv: escaped text, and damage."""

import pytest
import torch

from tests.support.conversions import converted
from tests.support.torch_zoos import state, write_trial
from zoojax.converters import rejects
from zoojax.converters.torch_to_zoo import REJECTS
from zoojax.errors import ZoojaxError
from zoojax.text import is_printable


def test_hostile_text_is_escaped(tmp_path):
    root = tmp_path / "root"
    hostile = {"=cmd()_trainable_\x1b[31m\n": "k\x1b[2J\n" * 10**5, "-a_trainable_b": "\ud800"}
    write_trial(root, 1, {0: state(1)})
    for name, key in hostile.items():
        write_trial(root, 2, {0: {**state(1), key: torch.zeros(1)}}, name=name)
    done = converted(root, tmp_path / "zoo")
    assert len(done.rejected) == 2
    for text in (*done.rejected, *done.rejected.values()):
        assert is_printable(text)
        assert len(text) <= 300
    lines = (tmp_path / "zoo" / REJECTS).read_text().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("'") for line in lines[1:])
    # The file reads back as what was written.
    written = (tmp_path / "zoo" / REJECTS).read_bytes()
    assert rejects.read(tmp_path / "zoo" / REJECTS) == done.rejected
    rejects.write(tmp_path / "copy.csv", done.rejected)
    assert (tmp_path / "copy.csv").read_bytes() == written


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"state,reason\nx\n", b"state,reason\n\xff,\n",
                                     b'state,reason\n"' + b"x" * 200_000])  # fmt: skip
def test_damaged_file_is_refused_on_resume(three_trials, tmp_path, content):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        converted(three_trials, tmp_path / "zoo", report=stop)
    (tmp_path / "zoo" / REJECTS).write_bytes(content)
    with pytest.raises(ZoojaxError, match=f"{REJECTS} is damaged, remove it"):
        converted(three_trials, tmp_path / "zoo")
