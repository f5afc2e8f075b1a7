"""`zoojax info`: shows or checks a zoo, or shows what zoojax runs on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoojax.cli.options import Flag, option
from zoojax.errors import ZoojaxError
from zoojax.runtime.startup import configure_jax

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

    show_command: Flag = False
    """Print the command and the config file that recreate the zoo."""

    json: Flag = False
    """Print JSON on standard output."""

    quiet: Flag = False
    """Show no progress of --check."""

    def run(self) -> None:
        """Prints the requested information."""
        if self.show_command:
            self._print_command()
            return
        if self.system:
            configure_jax()
        from zoojax.cli.terminal import say, show_json
        from zoojax.workflows.info import info

        facts = info(self.zoo, system=self.system, check=self.check, quiet=self.quiet)
        if self.json:
            show_json(facts)
        elif self.zoo is None:
            devices = facts["devices"]
            facts["devices"] = f"{devices['count']} x {devices['kind']} ({devices['platform']})"
            facts["versions"] = ", ".join(f"{name} {of}" for name, of in facts["versions"].items())
            networks = facts.pop("networks")
            say(*(f"{name:>8}  {value}" for name, value in facts.items()))
            say("engines of networks:", *(f"  {name}: {of}" for name, of in networks.items()))
        elif self.check:
            _print_check(self.zoo, facts)
        else:
            _print_zoo(self.zoo, facts)
        if self.check and facts["damaged"]:
            raise ZoojaxError(
                f"{self.zoo} is damaged; if it was trained here, rerun the command that created "
                "it to resume from the last undamaged epoch"
            )

    def _print_command(self) -> None:
        """Prints the config file of the zoo."""
        from zoojax.cli.config_files import recorded
        from zoojax.storage.zoo import open_zoo

        if self.zoo is None:
            raise ZoojaxError("--show-command needs the folder of a zoo")
        print(recorded(open_zoo(self.zoo).path))


def _print_check(path: Path, result: dict[str, Any]) -> None:
    """Prints the damaged files of a zoo, or that there are none."""
    from zoojax.cli.terminal import say
    from zoojax.storage.zoo import open_zoo

    if result["damaged"]:
        say(*result["damaged"])
        return
    say(f"{path}: {len(open_zoo(path))} members, {result['epochs']} epochs, no damage found")
    if result["missing"]:
        say(f"epochs without saved states: {', '.join(map(str, result['missing']))}")
    say("(checksums detect accidental damage, not deliberate changes)")


def _print_zoo(path: Path, facts: dict[str, Any]) -> None:
    """Prints the configuration of a zoo and its metrics at the last epoch."""
    from zoojax.cli.terminal import say, show
    from zoojax.storage.zoo import open_zoo

    size = facts["bytes_on_disk"]
    shown = {name: value for name, value in facts.items() if name not in ("config", "rows")}
    shown["bytes_on_disk"] = f"{size:,} ({size / 2**20:.1f} MiB)"
    width = max(map(len, shown))
    say(*(f"{n.replace('_', ' '):>{width}}  {_text(value)}" for n, value in shown.items()))
    newest = facts["newest_epoch"]
    if newest is not None:
        zoo = open_zoo(path)
        last = zoo.metrics.filter(epoch=newest)
        show(zoo, last, as_json=False, title=f"epoch {newest}")


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
