"""`zoojax.initialize` twice in a process, and after JAX has started with other devices."""

import os
import subprocess
import sys

from tests.support import ROOT

CODE = """
import jax
import zoojax
from zoojax.runtime import host

zoojax.initialize()
jax.devices()
zoojax.initialize()
host.cpu_count = lambda: jax.device_count() + 1
try:
    zoojax.initialize()
except zoojax.ZoojaxError as error:
    print(error)
"""


def test_called_twice_and_too_late(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-c", CODE]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("JAX is already in use in this process; call zoojax.initialize")
