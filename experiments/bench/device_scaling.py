"""Weak scaling over devices and processes of one machine: `bench --device-scaling`.

Every device trains the same number of members. The baseline is independent zoos: one process per
core, each with its own zoo.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from zoojax.experiments.bench.member_scaling import images_file, train
from zoojax.runtime import host

# Per device: the members of a small zoo; and as many training images as USPS has.
_MEMBERS, _IMAGES = 128, 6000


class Topology(NamedTuple):
    """Layout of a population over processes and devices.

    Attributes:
        processes: number of processes.
        devices: virtual CPU devices per process.
        together: whether the processes train one zoo together, or one zoo each.
    """

    processes: int
    devices: int
    together: bool = True

    def __str__(self) -> str:
        if not self.together:
            return f"{self.processes} independent zoos, each in a process with one device"
        devices = f"{self.devices} device{'s' if self.devices > 1 else ''}"
        return f"{self.processes} process{'es' if self.processes > 1 else ''} x {devices}"


def topologies(cores: int) -> list[Topology]:
    """Lists the topologies to measure; the baseline is the first."""
    devices = [Topology(1, n) for n in dict.fromkeys((1, cores, 2 * cores))]
    return [Topology(cores, 1, together=False), *devices, Topology(cores, 1)]


def measure(topology: Topology) -> dict[str, Any]:
    """Trains a zoo with a topology; each process runs on its own cores.

    Returns:
        `topology`; `members`: total number of members; `samples_per_second`: total speed, with
        evaluation and saving; `saving`: fraction of the time that gathering and saving take.
    """
    pinned = hasattr(os, "sched_setaffinity")  # not on macOS
    cores = sorted(os.sched_getaffinity(0)) if pinned else list(range(host.cpu_count()))
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        images_file(Path(folder), _IMAGES)
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
        free.close()
        started = []
        for index in range(topology.processes):
            assigned = cores[: topology.devices] if topology.processes == 1 else [cores[index]]
            task = {"folder": folder, "port": port, "index": index, "cores": assigned}
            task |= topology._asdict()
            started.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "zoojax.experiments.bench.device_scaling",
                        json.dumps(task),
                    ],
                    env={**os.environ, "JAX_NUM_CPU_DEVICES": str(topology.devices)},
                )
            )
        for process in started:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, process.args)
        results = [json.loads(file.read_text()) for file in Path(folder).glob("result-*")]
    seconds = max(one["epoch_seconds"] for one in results)
    members = _MEMBERS * topology.devices * topology.processes
    return {
        "topology": str(topology),
        "members": members,
        "samples_per_second": members * _IMAGES / seconds,
        "saving": max(one["saving_seconds"] for one in results) / seconds,
    }


def _run(
    folder: str,
    port: int,
    index: int,
    cores: list[int],
    processes: int,
    devices: int,
    together: bool,
) -> dict[str, Any]:
    # Before XLA counts the cores.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    from zoojax.runtime.startup import ProcessGroup, configure_jax

    single = processes == 1 or not together
    configure_jax(None if single else ProcessGroup(f"localhost:{port}", processes, index))
    out = Path(folder) / ("zoo" if together else f"zoo-{index}")
    members = _MEMBERS * devices * (processes if together else 1)
    return train(out, Path(folder) / "images.npz", members, _IMAGES, None)


if __name__ == "__main__":
    try:
        task = json.loads(sys.argv[1])
        file = Path(task["folder"]) / f"result-{task['index']}"
        file.write_text(json.dumps(_run(**task)))
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # A normal exit would wait for the other processes.
