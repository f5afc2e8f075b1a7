"""How time and memory of a training run grow with its members: what `bench --growth` runs.

`python -m zoojax.experiments.bench.growth '{"members": 1000, "images": 400}'` trains a zoo on
synthetic images in a process of its own, and prints what it took as JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Epoch 1 compiles. Then epochs beside which the one before is saved alternate with epochs beside
# which nothing is: what saving takes is the difference. Short epochs differ by chance, so there
# are up to so many pairs of them, as long as they train no more samples than that.
_PAIRS, _SAMPLES = 5, 5_000_000


def measured(members: int, images: int) -> dict[str, Any]:
    """What a run of some members takes, measured in a process of its own.

    Args:
        members: of the small CNN, batch size 10.
        images: training images of an epoch.

    Returns:
        `members`, `images`; `epoch_seconds`: of an epoch, its evaluation and saving within;
        `saving_seconds`: by how much it is longer than one without saving, which by chance
        may be less than zero (both medians); `memory_bytes`: the most that was resident.
    """
    task = json.dumps({"members": members, "images": images})
    command = [sys.executable, "-m", "zoojax.experiments.bench.growth", task]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _memory() -> int:
    """The most bytes that this process had resident."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        # Kilobytes on other Unixes, bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # Unlike ru_maxrss it does not begin with what the parent process had.
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def images_file(folder: Path, images: int) -> Path:
    """Writes so many random training images, and 200 others."""
    import numpy as np

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (images + 200, 28, 28, 1), np.uint8)
    labels = generator.integers(0, 10, images + 200).astype(np.int32)
    labels[:10] = range(10)
    np.savez(folder / "images.npz", images=pixels, labels=labels)
    return folder / "images.npz"


def train(out: Path, file: Path, members: int, images: int, chunk: int | None) -> dict[str, Any]:
    """Trains a zoo in this process; see `measured`."""
    from unittest.mock import patch

    import numpy as np

    from zoojax import DataSpec, Grid, train_zoo
    from zoojax.storage.writer import ZooWriter

    pairs = max(1, min(_PAIRS, _SAMPLES // (members * images)))
    moments: list[float] = []
    append = ZooWriter.append

    def timed(writer: ZooWriter, epoch: int, *rest: Any) -> None:
        moments.append(time.perf_counter())
        if epoch == 0 or epoch % 2:
            append(writer, epoch, *rest)

    with patch.object(ZooWriter, "append", timed):
        spec, grid = DataSpec(str(file), train=images, val=100), Grid(seeds=members)
        train_zoo(out, "growth", grid, "small", spec, epochs=1 + 2 * pairs, chunk=chunk)
    lengths = np.diff(moments)[1:]
    saved, unsaved = np.median(lengths[::2]), np.median(lengths[1::2])
    return {
        "members": members,
        "images": images,
        "epoch_seconds": float(saved),
        "memory_bytes": _memory(),
        "saving_seconds": float(saved - unsaved),
    }


def _run(members: int, images: int) -> dict[str, Any]:
    from zoojax.runtime.startup import configure_jax

    configure_jax()
    with tempfile.TemporaryDirectory() as folder:
        file = images_file(Path(folder), images)
        return train(Path(folder) / "zoo", file, members, images, None)


if __name__ == "__main__":
    print(json.dumps(_run(**json.loads(sys.argv[1]))))
