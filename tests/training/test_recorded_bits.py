"""A small zoo and both its twins have the recorded bits."""

import json
import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.recorded_bits import machine, recorded


def test_zoo_and_twins_have_the_recorded_bits(tmp_path):
    key = machine()
    if key not in recorded():
        pytest.skip(
            f"no bits are recorded for {key}; "
            "record them with `python -m tests.support.recorded_bits record`"
        )
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.recorded_bits", "make", str(tmp_path)],
        # Fully optimized, on one device, as users run it.
        env={
            **{name: value for name, value in os.environ.items() if name != "NPROC"},
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",
            "JAX_NUM_CPU_DEVICES": "1",
            "JAX_PLATFORMS": "cpu",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[key] == recorded()[key]
