"""`zoojax info`: shows or checks a zoo, or shows what zoojax runs on."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoojax.cli.options import Flag, option
from zoojax.errors import ZoojaxError
from zoojax.runtime.startup import configure_jax

if TYPE_CHECKING:
    from zoojax.storage.zoo import Zoo

# Values of a hyperparameter that are listed one by one.
_MAX_LISTED = 12


@dataclass(frozen=True)
class Info:
    """Show a zoo's configuration, training progress and metrics, or check its files.

    With --system, show the devices and folders that zoojax uses on this machine.

    Example: zoojax info zoos/usps-vd
    """

    zoo: Annotated[Path | None, tyro.conf.Positional, option("[ZOO]")] = None
    """Folder of the zoo."""

    system: Flag = False
    """Show devices, engines and folders instead of a zoo."""

    check: Flag = False
    """Read all files of the zoo and list the damaged ones; exit status 2 if there are any."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress of --check."""

    def run(self) -> None:
        """Prints the requested information."""
        if self.system == (self.zoo is not None) or (self.check and self.zoo is None):
            raise ZoojaxError("give the folder of a zoo, or --system")
        if self.zoo is not None and self.check:
            self._check(self.zoo)
        elif self.zoo is not None:
            self._zoo(self.zoo)
        else:
            self._system()

    def _system(self) -> None:
        """Prints what zoojax runs on."""
        from zoojax.datasets import loading
        from zoojax.runtime import host

        configure_jax()
        import jax

        from zoojax.api.common import versions
        from zoojax.architectures.cnn import small_cnn
        from zoojax.cli.terminal import say, show_json
        from zoojax.ops import kernel

        devices = jax.devices()
        device = devices[0]
        facts: dict[str, Any] = {
            "devices": {
                "count": len(devices),
                "kind": device.device_kind,
                "platform": device.platform,
            },
            "engine": "XLA",
            "data": loading.data_directory(None),
            "kernels": host.cache_dir("kernels"),
            "programs": str(jax.config.values["jax_compilation_cache_dir"]),
            "versions": versions(),
        }
        if device.platform == "cpu":
            spec = small_cnn(channels=1, classes=10).kernel
            reason = kernel.unavailable_reason(spec) if spec else "no chain of operations"
            facts["engine"] = f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel"
        if self.json:
            show_json(facts)
            return
        facts["devices"] = f"{len(devices)} x {device.device_kind} ({device.platform})"
        facts["versions"] = ", ".join(f"{name} {of}" for name, of in versions().items())
        say(*(f"{name:>8}  {value}" for name, value in facts.items()))

    def _check(self, path: Path) -> None:
        """Prints the damaged files of a zoo, or that there are none."""
        from zoojax.cli.progress import count_progress
        from zoojax.cli.terminal import say, show_json
        from zoojax.storage.integrity import find_corrupt_files, find_missing_files
        from zoojax.storage.zoo import open_zoo

        zoo = open_zoo(path)
        with count_progress("check", self.quiet) as report:
            damaged = find_corrupt_files(zoo, report)
        # Damaged tables cannot tell which files are missing.
        missing = [] if damaged else find_missing_files(zoo)
        if self.json:
            epochs = [] if damaged else zoo.epochs
            show_json({"zoo": path, "epochs": len(epochs), "missing": missing, "damaged": damaged})
        elif damaged:
            say(*damaged)
        else:
            say(f"{path}: {len(zoo)} members, {len(zoo.epochs)} epochs, no damage found")
            if missing:
                say(f"epochs without saved states: {', '.join(map(str, missing))}")
            say("(checksums detect accidental damage, not deliberate changes)")
        if damaged:
            raise ZoojaxError(
                f"{path} is damaged; if it was trained here, rerun the command that created it "
                "to resume from the last undamaged epoch"
            )

    def _zoo(self, path: Path) -> None:
        """Prints the configuration of a zoo and its metrics at the last epoch."""
        from zoojax.cli.terminal import say, show, show_json, summary
        from zoojax.storage.zoo import open_zoo

        zoo = open_zoo(path)
        epochs, facts = zoo.epochs, _facts(zoo)
        last = zoo.metrics.filter(epoch=epochs[-1]) if epochs else None
        if self.json:
            rows = [] if last is None else summary(zoo, last).to_dicts()
            show_json({**facts, "config": zoo.config.to_json(), "rows": rows})
            return
        facts["bytes_on_disk"] = (
            f"{facts['bytes_on_disk']:,} ({facts['bytes_on_disk'] / 2**20:.1f} MiB)"
        )
        width = max(map(len, facts))
        say(*(f"{n.replace('_', ' '):>{width}}  {_text(value)}" for n, value in facts.items()))
        if last is not None:
            show(zoo, last, as_json=False, title=f"epoch {epochs[-1]}")


def _facts(zoo: "Zoo") -> dict[str, Any]:
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
        **_hyperparameters(zoo),
        "batch_size": config.batch_size,
        "data_order": config.data_order,
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


def _sparsifier(zoo: "Zoo") -> dict[str, Any]:
    """Returns the label of a twin's sparsifier, and the options that its members share."""
    if zoo.config.is_dense:
        return {}
    sparsifier = zoo.config.sparsifier
    return {"sparsifier": sparsifier.label, "options": sparsifier.shared_options()}


def _hyperparameters(zoo: "Zoo") -> dict[str, list]:
    """Returns the distinct values of each hyperparameter of a zoo's members, ascending.

    Those of the sparsifier's options that differ between members come last.
    """
    from zoojax.analysis.pairing import HYPERPARAMETERS

    names = (*HYPERPARAMETERS, *zoo.config.sparsifier.per_member.values())
    known = [name for name in names if name in zoo.members_table.columns]
    return {name: zoo.members_table[name].unique().sort().to_list() for name in known}


def _text(value: Any) -> str:
    """Formats a fact; of a long list, only its ends."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {each}" for name, each in value.items())
    if not isinstance(value, list):
        return str(value)
    texts = [
        "unknown" if v is None else f"{v:g}" if isinstance(v, int | float) else str(v)
        for v in value
    ]
    if len(texts) > _MAX_LISTED:
        return f"{texts[0]} to {texts[-1]} ({len(texts)} values)"
    return ", ".join(texts)


def _num_bytes(folder: Path) -> int:
    """Returns the size of all readable files in a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total
