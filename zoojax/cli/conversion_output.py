"""Prints the results of `zoojax convert`."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoojax.text import printable

if TYPE_CHECKING:
    from zoojax.converters.api import Export
    from zoojax.converters.torch_to_zoo import Conversion

_MAX_REMARKS = 40


def print_export(export: "Export", format: str, out: Path) -> None:
    """Prints the notes of an export and how much was written."""
    from zoojax.cli.terminal import say
    from zoojax.converters.targets.registry import TARGETS

    _print_notes(export.notes)
    target = TARGETS.get(format)
    unit = "states" if target is None else target.unit
    say(f"{export.written} {unit} in {out}")


def print_conversion(result: "Conversion", out: Path, as_json: bool) -> None:
    """Prints a summary of a conversion."""
    from zoojax.cli.terminal import say, show_json
    from zoojax.converters.torch_to_zoo import REJECTS

    reasons = Counter(result.rejected.values())
    if as_json:
        summary = {"zoo": str(out), "members": len(result.zoo), "states": result.states}
        lists = {"rejected": dict(reasons), "notes": result.notes, "remarks": result.remarks}
        show_json({**summary, **lists})
        return
    _print_notes(result.notes)
    members, states, rejected = len(result.zoo), result.states, len(result.rejected)
    say(f"{result.zoo}")
    say(f"members: {members}, states: {states}, rejected: {rejected}")
    for reason, count in reasons.most_common(20):
        say(f"  {count} x {reason}")
    if reasons:
        say(f"all rejected states are listed in {out / REJECTS}")
    remarks = list(result.remarks.items())
    for remark, count in remarks[:_MAX_REMARKS]:
        say(f"  {count:>7}  {printable(remark, 200)}")
    if len(remarks) > _MAX_REMARKS:
        say(f"  {len(remarks) - _MAX_REMARKS} more remarks are in the notes of the members table")


def _print_notes(notes: Sequence[str]) -> None:
    """Prints notes on standard error, one line each."""
    for note in notes:
        print(f"zoojax: note: {printable(note, 2000)}", file=sys.stderr)
