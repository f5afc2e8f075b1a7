"""Time and memory of a training run by the number of its members: `bench --member-scaling`.

`python -m zoojax.experiments.bench.member_scaling '{"members": 1000, "images": 400}'` trains a zoo
on synthetic images and prints its time and memory as JSON.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Each epoch is saved while the next one trains. After epoch 1, which includes compilation, every
# second save is skipped, and the difference between the two kinds of epochs is the time that saving
# takes. Short epochs vary by chance, so several pairs are measured, up to this number of pairs and
# of trained samples.
_MAX_PAIRS, _MAX_SAMPLES = 5, 5_000_000


def measure(members: int, images: int) -> dict[str, Any]:
    """Measures a training run in a separate process.

    Args:
        members: number of members, with the small CNN and batch size 10.
        images: number of training images.

    Returns:
        `members` and `images`; `epoch_seconds`: duration of an epoch with evaluation and saving;
        `saving_seconds`: the part of it that saving takes, which may be negative by chance (both
        are medians); `memory_bytes`: peak resident memory.
    """
    task = json.dumps({"members": members, "images": images})
    command = [sys.executable, "-m", "zoojax.experiments.bench.member_scaling", task]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def _memory() -> int:
    """Returns the peak resident memory of this process in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        # In kilobytes on other Unix systems, in bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # Unlike ru_maxrss, VmHWM does not include the memory of the parent process.
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def images_file(folder: Path, images: int) -> Path:
    """Writes random training images, and 200 images for validation and test.

    Args:
        folder: an existing folder.
        images: number of training images.

    Returns:
        The file, images.npz.
    """
    import numpy as np

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (images + 200, 28, 28, 1), np.uint8)
    labels = generator.integers(0, 10, images + 200).astype(np.int32)
    labels[:10] = range(10)
    np.savez(folder / "images.npz", images=pixels, labels=labels)
    return folder / "images.npz"


def train(out: Path, file: Path, members: int, images: int, chunk: int | None) -> dict[str, Any]:
    """Trains a zoo in this process and measures it; see `measure`."""
    from unittest.mock import patch

    import numpy as np

    from zoojax import DataSpec, Grid, train_zoo
    from zoojax.storage.writer import ZooWriter

    pairs = max(1, min(_MAX_PAIRS, _MAX_SAMPLES // (members * images)))
    times: list[float] = []
    append = ZooWriter.append

    def timed(writer: ZooWriter, epoch: int, *rest: Any) -> None:
        times.append(time.perf_counter())
        if epoch == 0 or epoch % 2:
            append(writer, epoch, *rest)

    with patch.object(ZooWriter, "append", timed):
        spec, grid = DataSpec(str(file), train=images, val=100), Grid(seeds=members)
        train_zoo(
            out=out,
            name="growth",
            grid=grid,
            data=spec,
            epochs=1 + 2 * pairs,
            chunk=chunk,
            quiet=True,
        )
    durations = np.diff(times)[1:]
    saved, unsaved = np.median(durations[::2]), np.median(durations[1::2])
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
