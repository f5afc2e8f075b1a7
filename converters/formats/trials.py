"""Trial folders of Ray Tune 1 and 2, directly in a folder or in its only zoo."""

import os
from collections import Counter
from pathlib import Path
from typing import ClassVar

from zoojax.converters import sources
from zoojax.converters.dialects.base import DialectOptions
from zoojax.converters.formats.base import Listing, SourceFormat
from zoojax.converters.ray_trials import scan_trials, trial_names
from zoojax.errors import ZoojaxError
from zoojax.filesystem.reading import exists
from zoojax.text import printable

_MAX_DEPTH, _MAX_FOLDERS = 6, 5000


class Trials(SourceFormat):
    """Folders with params.json, result.json or progress.csv, and checkpoint folders."""

    name: ClassVar = "trials"
    label: ClassVar = "trial folders of Ray Tune"

    def recognize(self, path: Path) -> str | None:
        """A folder that contains a trial folder, at some depth."""
        roots = _roots(path)
        if not roots:
            return None
        names = trial_names(roots[0])
        return f"{printable(names[0], 100)} is a trial folder"

    def members(self, path: Path, options: DialectOptions) -> Listing:
        """The trials of the only folder that has any; trials without checkpoints are noted."""
        roots = _roots(path) or [path]
        if len(roots) > 1:
            shown = ", ".join(printable(root.relative_to(path), 80) for root in roots[:3])
            raise ZoojaxError(
                f"{printable(path)} contains {len(roots)} zoos ({shown}, ...); convert each"
            )
        root = roots[0]
        trials = scan_trials(root, any_name=True)
        listed = sources.of_trials(trials, root, options)
        notes = [] if root == path else [f"the trials are in {printable(root.relative_to(path))}"]
        columns = Counter(trial.epoch_column for trial in trials if trial.epoch_column)
        notes += [f"epochs are {name} ({count} trials)" for name, count in columns.items()]
        present = {source.name for source in listed}
        # Trials without a checkpoint are not members; they are only named.
        without = [trial for trial in trials if trial.name not in present]
        for trial in without[:20]:
            failed = "; it failed (error.txt)" if exists(trial.path / "error.txt") else ""
            notes.append(f"{trial.name} has no checkpoint and is left out{failed}")
        if len(without) > 20:
            notes.append(f"{len(without) - 20} more trials have no checkpoint and are left out")
        images = root / "dataset.pt"
        return Listing(listed, notes, images if exists(images) else None)


def _roots(path: Path) -> list[Path]:
    """Finds the outermost folders that contain trial folders, sorted; links are not followed."""
    found, level = [], [path] if path.is_dir() else []
    visited = 0
    for _ in range(_MAX_DEPTH):
        deeper = []
        for folder in level:
            visited += 1
            if visited > _MAX_FOLDERS:
                return found
            if trial_names(folder):
                found.append(folder)
                continue
            try:
                with os.scandir(folder) as entries:
                    deeper += sorted(
                        Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)
                    )
            except OSError:
                continue
        level = deeper
    return found
