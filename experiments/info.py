"""`zoojax info`: what a zoo is and how far it is, or what zoojax runs on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from experiments.options import prepare_jax
from zoojax.errors import ZoojaxError


@dataclass(frozen=True)
class Info:
    """Show what a zoo is: members, epochs, training, parent, and how its members do.

    Or what zoojax runs on here, with --system. Example: zoojax info zoos/usps-vd
    """

    zoo: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of the zoo."""

    system: bool = False
    """Show devices, engines and folders instead."""

    check: bool = False
    """Read all of the zoo, and name what is damaged; exit status 2 if anything is."""

    json: bool = False
    """Print JSON on standard output."""

    quiet: bool = False
    """Show no progress while checking."""

    def run(self) -> None:
        """Prints what was asked for."""
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
        import jax

        from experiments.tables import show_json
        from zoojax import data, machine
        from zoojax.architectures import architecture
        from zoojax.make import versions
        from zoojax.ops import kernel

        prepare_jax()
        devices = jax.devices()
        facts = {
            "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
            "engine": "XLA",
            "data": str(data.data_directory(None)),
            "kernels": str(machine.cache("kernels")),
            "programs": str(jax.config.values["jax_compilation_cache_dir"]),
            "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
        }
        if devices[0].platform == "cpu":
            reason = kernel.why_not(architecture("small", 1))
            facts["engine"] = f"XLA (no C++ kernel: {reason})" if reason else "C++ kernel"
        if self.json:
            show_json(facts)
            return
        for name, value in facts.items():
            print(f"{name:>8}  {value}")

    def _check(self, path: Path) -> None:
        """Prints what is damaged of a zoo, or that nothing is."""
        from experiments.progress import counting
        from experiments.tables import show_json
        from zoojax.check import damages
        from zoojax.zoo import open_zoo

        zoo = open_zoo(path)
        with counting("check", self.quiet) as report:
            found = damages(zoo, report)
        if self.json:
            show_json({"zoo": str(path), "epochs": len(zoo.epochs), "damaged": found})
        elif found:
            print("\n".join(found))
        else:
            print(f"{path}: {len(zoo)} members, {len(zoo.epochs)} epochs, all as they were written")
        if found:
            raise ZoojaxError(
                f"{path} is damaged; if it was trained here, the command that made it goes on "
                "from the newest sound epoch"
            )

    def _zoo(self, path: Path) -> None:
        """Prints the zoo's description, and its metrics at the last epoch."""
        from experiments.tables import show, show_json, summary
        from zoojax.zoo import open_zoo

        zoo = open_zoo(path)
        config, epochs = zoo.config, zoo.epochs
        diverged = zoo.members.filter(~zoo.members["diverged_epoch"].is_null())
        varied = [
            name
            for name in zoo.roster.columns
            if name not in ("id", "seed", "parent_id") and zoo.roster[name].n_unique() > 1
        ]
        size = sum(f.stat().st_size for f in zoo.path.rglob("*") if f.is_file())
        facts = {
            "name": config.name,
            "path": str(zoo.path),
            "kind": config.kind,
            "architecture": f"{config.architecture}, {config.channels} channel(s)",
            "data": "none" if config.data_hash is None else getattr(config.data, "name", "its own"),
            "members": len(zoo),
            "varied": ", ".join(["seed", *varied]),
            "epochs saved": len(epochs),
            "newest epoch": f"{epochs[-1] if epochs else 'none'} of {config.epochs}",
            "diverged members": len(diverged),
            "size on disk": f"{size / 2**20:.1f} MiB",
            "chunk": config.chunk,
            "data order": config.data_order,
            "fingerprint": zoo.fingerprint[:16],
        }
        if config.parent is not None:
            facts["parent"] = f"{config.parent.name}, epoch {config.parent.epoch}"
            facts["parent path"] = str((zoo.path / config.parent.path).resolve())
        if config.origin is not None:
            facts["origin"] = config.origin
        last = zoo.metrics.filter(epoch=epochs[-1]) if epochs else None
        if self.json:
            rows = [] if last is None else summary(zoo, last).to_dicts()
            show_json({**facts, "config": config.to_json(), "rows": rows})
            return
        for name, value in facts.items():
            print(f"{name:>17}  {value}")
        if last is not None:
            show(zoo, last, as_json=False, title=f"epoch {epochs[-1]}")
