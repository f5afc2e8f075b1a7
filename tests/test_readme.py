"""The README's Python example runs as it is printed."""

import os
import re
import subprocess
import sys

from tests.support import ROOT


def test_python_example(tmp_path):
    text = (ROOT / "README.md").read_text("utf-8")
    example = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    lines = [line for line in example.splitlines() if line]
    assert len(lines) <= 20
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    picture = (tmp_path / "accuracy_over_sparsity.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert "epoch 10/10" in done.stderr
