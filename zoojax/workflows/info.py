"""Facts about a zoo, and about what zoojax runs on."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax

from zoojax.analysis.pairing import HYPERPARAMETERS
from zoojax.analysis.summaries import summary
from zoojax.api.common import versions
from zoojax.architectures.base import Architecture
from zoojax.architectures.registry import (
    architecture,
    architectures,
    family_examples,
    is_reference,
)
from zoojax.datasets import loading
from zoojax.errors import ZoojaxError
from zoojax.ops import kernel
from zoojax.progress import count_progress
from zoojax.runtime import host
from zoojax.storage.integrity import find_corrupt_files, find_missing_files
from zoojax.storage.opening import as_zoo
from zoojax.storage.zoo import Zoo
from zoojax.training import engine


def info(
    zoo: Zoo | str | Path | None = None,
    *,
    system: bool = False,
    check: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Describes a zoo, checks its files, or describes what zoojax runs on.

    Args:
        zoo: Zoo, or its folder.
        system: Whether to describe devices, engines and folders instead of a zoo.
        check: Whether to read all files of the zoo and list the damaged ones instead.
        quiet: Whether to show no progress of `check`.

    Returns:
        Facts by name. Of a zoo: its settings, hyperparameters, progress and size (in bytes), its
        "config" as in zoo.json, and "rows", the means over members of its metrics at the newest
        epoch. With `check`: "zoo" (its folder), "epochs" (their number), "missing" (epochs
        without saved states) and "damaged" (one sentence per damaged file; empty if all are
        intact). With `system`: those of `system_info`.

    Raises:
        ZoojaxError: Neither a zoo nor `system` is given, or both; or the zoo cannot be opened.

    Example:
        >>> zoojax.info(zoo)["epochs_saved"]
        3
        >>> zoojax.info(zoo, check=True)["damaged"]
        []
    """
    if system == (zoo is not None) or (check and zoo is None):
        raise ZoojaxError("give the folder of a zoo, or --system")
    if zoo is None:
        return system_info()
    return _check(as_zoo(zoo), quiet) if check else _describe(as_zoo(zoo))


def system_info() -> dict[str, Any]:
    """Describes what zoojax runs on.

    Returns:
        Facts by name: "devices" (their "count", "kind" and "platform"), "engine" of the small CNN,
        "networks" (the engine of each; why it is not the C++ kernel, or why the kernel does not
        take the steps of Adam), the folders "data", "kernels" and "programs" (None without a
        compilation cache), and "versions" of the libraries by name.

    Raises:
        ZoojaxError: The home folder in a path cannot be determined.

    Example:
        >>> system_info()["devices"]["count"] >= 1
        True
    """
    devices = jax.devices()
    device = devices[0]
    names = (*architectures(), *family_examples())
    networks = {
        name: _engine_and_steps(architecture(name, 1), device.platform)
        for name in names
        if not is_reference(name)
    }
    return {
        "devices": {
            "count": len(devices),
            "kind": device.device_kind,
            "platform": device.platform,
        },
        "engine": _engine(architecture("small", 1), device.platform),
        "networks": networks,
        "data": loading.data_directory(None),
        "kernels": host.cache_dir("kernels"),
        "programs": str(jax.config.values["jax_compilation_cache_dir"]),
        "versions": versions(),
    }


def _engine(network: Architecture, platform: str) -> str:
    """Names the engine of a network; for XLA, with the reason why it is not the C++ kernel."""
    gap = engine.kernel_gap(network, platform)
    return "C++ kernel" if gap is None else f"XLA (no C++ kernel: {gap})"


def _engine_and_steps(network: Architecture, platform: str) -> str:
    """Names the engine of a network and, for the C++ kernel, why XLA takes the steps of Adam."""
    name = _engine(network, platform)
    if network.kernel is None or engine.kernel_gap(network, platform) is not None:
        return name
    gap = kernel.step_gap(network.kernel)
    return name if gap is None else f"{name} (steps of Adam on XLA: {gap})"


def _check(zoo: Zoo, quiet: bool) -> dict[str, Any]:
    with count_progress("check", quiet) as report:
        damaged = find_corrupt_files(zoo, report)
    # Damaged tables cannot tell which files are missing.
    missing, epochs = ([], []) if damaged else (find_missing_files(zoo), zoo.epochs)
    return {"zoo": zoo.path, "epochs": len(epochs), "missing": missing, "damaged": damaged}


def _describe(zoo: Zoo) -> dict[str, Any]:
    epochs, rows = zoo.epochs, []
    if epochs:
        rows = summary(zoo, zoo.metrics.filter(epoch=epochs[-1])).to_dicts()
    return {**_facts(zoo), "config": zoo.config.to_json(), "rows": rows}


def _facts(zoo: Zoo) -> dict[str, Any]:
    """Returns the configuration, progress and size of a zoo by name."""
    config, epochs = zoo.config, zoo.epochs
    diverged = zoo.members.filter(~zoo.members["diverged_epoch"].is_null())
    facts: dict[str, Any] = {
        "name": config.name,
        "path": zoo.path,
        "kind": config.sparsifier.method,
        **_sparsifier(zoo),
        "preset": config.preset,
        "architecture": config.architecture,
        "channels": config.channels,
        "classes": config.classes,
        "data": None if config.data_hash is None else getattr(config.data, "name", "its own"),
        "members": len(zoo),
        "batch_size": config.batch_size,
        **_hyperparameters(zoo),
        "data_order": config.data_order,
        **({} if config.steps_per_epoch is None else {"steps_per_epoch": config.steps_per_epoch}),
        "epochs": config.epochs,
        "epochs_saved": len(epochs),
        "newest_epoch": epochs[-1] if epochs else None,
        "diverged_members": len(diverged),
        "bytes_on_disk": _num_bytes(zoo.path),
        "chunk": config.chunk,
        "fingerprint": zoo.fingerprint[:16],
    }
    if config.parent is not None:
        facts["parent"] = config.parent.name
        facts["parent_epoch"] = config.parent.epoch
        facts["parent_path"] = (zoo.path / config.parent.path).resolve()
    if config.origin is not None:
        facts["origin"] = config.origin
    return facts


def _sparsifier(zoo: Zoo) -> dict[str, Any]:
    """Returns the label of a twin's sparsifier, and the options that its members share."""
    if zoo.config.is_dense:
        return {}
    sparsifier = zoo.config.sparsifier
    return {"sparsifier": sparsifier.label, "options": sparsifier.shared_options()}


def _hyperparameters(zoo: Zoo) -> dict[str, list]:
    """Returns the distinct values of each hyperparameter of a zoo's members, ascending.

    Those of the sparsifier's options that differ between members come last.
    """
    names = (*HYPERPARAMETERS, *zoo.config.sparsifier.per_member.values())
    known = [name for name in names if name in zoo.members_table.columns]
    return {name: zoo.members_table[name].unique().sort().to_list() for name in known}


def _num_bytes(folder: Path) -> int:
    """Returns the size of all readable files in a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total
