"""Trial folders in the layout of Ray Tune 1.8 and the zoos' original code."""

from pathlib import Path
from typing import ClassVar

from zoojax.converters.targets.base import Request, TargetFormat
from zoojax.converters.zoo_to_torch import write_trials
from zoojax.storage.zoo import Zoo


class Trials(TargetFormat):
    """One folder per member: params.json, result.json, checkpoint_<epoch>/checkpoints."""

    name: ClassVar = "trials"
    label: ClassVar = "trial folders with plain state dicts"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes trial folders; files that an interrupted call has completed are kept."""
        return _write(zoo, out, request)


class PruneTrials(TargetFormat):
    """Trial folders with weight_orig and weight_mask."""

    name: ClassVar = "trials-prune"
    label: ClassVar = "trial folders with torch.nn.utils.prune's keys for pruned members"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes trial folders."""
        return _write(zoo, out, request, keep_masks=True)


class ShrunkTrials(TargetFormat):
    """Trial folders of smaller networks."""

    name: ClassVar = "trials-shrunk"
    label: ClassVar = "trial folders without unused hidden units"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes trial folders."""
        return _write(zoo, out, request, shrunk=True)


class OriginalTrials(TargetFormat):
    """Trial folders with the states of a converted zoo as they were."""

    name: ClassVar = "trials-original"
    label: ClassVar = "trial folders with the original names, types and files of a converted zoo"

    def write(self, zoo: Zoo, out: Path, request: Request) -> int:
        """Writes trial folders."""
        return _write(zoo, out, request, original=True)


def _write(zoo: Zoo, out: Path, request: Request, **form: bool) -> int:
    return write_trials(
        *(zoo, out), epochs=request.epochs, report=request.report, note=request.note, **form
    )
