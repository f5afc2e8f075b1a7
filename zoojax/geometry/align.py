"""Alignment of a zoo: permutes the hidden units of its members into the order of a reference.

The aligned zoo is a zoo with the same functions. Its folder also has `alignment.npz`, with the
order and the factor of every unit.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from zoojax.architectures.units import require_units
from zoojax.errors import ZoojaxError
from zoojax.filesystem.paths import optional_path
from zoojax.geometry.arguments import check_count
from zoojax.geometry.derived import derived_config, transformed_state, write_derived
from zoojax.geometry.descent import Matching
from zoojax.geometry.stored import Alignment, save_alignment
from zoojax.geometry.targets import Match, Targets
from zoojax.geometry.transforms import Symmetry, Transform, checked_symmetries
from zoojax.hyperparameters.declaration import check_whole
from zoojax.storage.opening import as_zoo
from zoojax.storage.parent import parent_of
from zoojax.storage.zoo import Zoo
from zoojax.storage.zoo_images import load_images
from zoojax.text import printable

METHODS = ("weights", "activations")
# References other than a member.
TARGETS: dict[str, Callable[[Targets], Matching]] = {
    "center": Targets.center,
    "canonical": Targets.canonical,
}


def align(
    zoo: Zoo | str | Path,
    out: str | Path | None = None,
    *,
    to: int | Literal["center", "canonical"] = 0,
    method: Literal["weights", "activations"] = "weights",
    symmetries: Sequence[Symmetry] = ("permutation", "sign"),
    epoch: int | None = None,
    restarts: int = 0,
    seed: int = 0,
    images: int = 512,
    data_dir: str | Path | None = None,
) -> Alignment:
    """Permutes the hidden units of all members so that they match a reference.

    The transform of a member is computed at one epoch and applied to all of its saved epochs. The
    functions of the members stay the same, except for rounding. Masks, log alphas and batch
    statistics are also permuted. Members with values that are not finite are not changed.

    Args:
        zoo: The zoo, dense or a twin, or its folder.
        out: Folder of the aligned zoo: new, or of the same alignment; None for a zoo in memory.
        to: Id of the reference member; "center" for the mean of the aligned members, which is
            computed iteratively; or "canonical" for a form that needs no reference.
        method: "weights" for the smallest distance between the parameters (weight matching), or
            "activations" for the largest correlations between units on training images.
        symmetries: Changes to search: "permutation", "sign" and "scale". Signs and scales are used
            where the activation allows them.
        epoch: Epoch to match; None for the newest.
        restarts: Number of further starting points of weight matching with random orders.
        seed: Seed of weight matching.
        images: Number of training images for "activations".
        data_dir: Folder of image sets, for "activations".

    Returns:
        The aligned zoo, with the transform and the distances of its members.

    Raises:
        ZoojaxError: If an argument is invalid, the network has no permutation groups, the
            reference is not finite, or writing failed.

    Example:
        >>> aligned = zoojax.geometry.align(zoo, to=0)
        >>> aligned.distances.columns
        ['member', 'before', 'after']
        >>> bool((aligned.distances["after"] <= aligned.distances["before"]).all())
        True
        >>> after, before = aligned.zoo.apply(images * 2 - 1), zoo.apply(images * 2 - 1)
        >>> bool(abs(after - before).max() < 1e-4)
        True
    """
    zoo, folder = as_zoo(zoo), optional_path(out, "out")
    require_units(zoo.config.shape)
    if method not in METHODS:
        listed = ", ".join(METHODS)
        raise ZoojaxError(f"no method named '{printable(method, 60)}'; there are: {listed}")
    chosen = checked_symmetries(symmetries)
    for name, value in (("restarts", restarts), ("seed", seed), ("images", images)):
        check_count(name, value, least=int(name == "images"))
    epoch = zoo.newest_epoch if epoch is None else check_whole("epoch", epoch)
    pixels = None
    if method == "activations":
        if zoo.config.shape.task.has_own_images:
            raise ZoojaxError(
                f"members of {zoo.path} learn one image each; align them with method 'weights'"
            )
        if to in TARGETS:
            raise ZoojaxError(f"to is '{to}', which is defined by weights; give method 'weights'")
        pixels = load_images(zoo, data_dir).train.images[: int(images)]
    targets = Targets(zoo, epoch, Match(chosen, int(restarts), int(seed), pixels))
    if isinstance(to, str):
        if to not in TARGETS:
            listed = ", ".join(TARGETS)
            raise ZoojaxError(f"to is '{printable(to, 60)}'; give the id of a member or: {listed}")
        matching, target = TARGETS[to](targets), f"their {to}"
    else:
        matching, target = targets.member(to), f"member {to}"
    settings = f"restarts {restarts}, seed {seed}" if pixels is None else f"{len(pixels)} images"
    settings = f"{', '.join(chosen)}, {settings}"
    origin = f"aligned to {target} by {method} at epoch {epoch} ({settings})"
    aligned = _write(folder, zoo, matching.transform, origin)
    ids = zoo.members_table["id"]
    measured = {"member": ids, "before": matching.before, "after": matching.after}
    distances = pl.DataFrame(measured).fill_nan(None)
    result = Alignment(aligned, matching.transform, distances, zoo.fingerprint)
    if folder is not None:
        save_alignment(result, folder)
    return result


def align_twin(twin: Zoo | str | Path, alignment: Alignment, out: str | Path | None = None) -> Zoo:
    """Applies the alignment of a dense zoo to one of its twins.

    Args:
        twin: The twin, or its folder.
        alignment: Alignment of its parent; see `align` and `open_alignment`.
        out: Folder of the aligned twin: new, or of the same alignment; None for a twin in memory.

    Returns:
        The aligned twin, whose parent is the aligned zoo.

    Raises:
        ZoojaxError: If a member's parent is not in the aligned zoo, or writing failed.

    Example:
        >>> pruning = zoojax.MagnitudePruning(ratios=(0.5,))
        >>> twin = zoojax.sparsify(zoo, pruning, epochs=0, quiet=True)
        >>> aligned = zoojax.geometry.align(zoo, to=0)
        >>> zoojax.geometry.align_twin(twin, aligned).config.parent.name == aligned.zoo.config.name
        True
    """
    twin, folder = as_zoo(twin, "twin"), optional_path(out, "out")
    base, dense = twin.config, alignment.zoo
    if base.parent is None or "parent_id" not in twin.members_table.columns:
        raise ZoojaxError(f"{twin.path} has no parent; align it with align")
    if base.shape != dense.config.shape:
        raise ZoojaxError(f"{twin.path} has another architecture than {dense.path}")
    if alignment.source != base.parent.fingerprint:
        raise ZoojaxError(
            f"{dense.path} is not an alignment of the parent of {twin.path}; give that of "
            f"{printable(base.parent.name, 100)}"
        )
    rows = dense.row_indices(twin.members_table["parent_id"])
    parent = parent_of(dense, base.parent.epoch, folder)
    origin = f"aligned as its parent {dense.fingerprint[:16]}"
    return _write(folder, twin, alignment.transform.take(rows), origin, parent)


def _write(
    folder: Path | None, zoo: Zoo, transform: Transform, origin: str, parent: Any = None
) -> Zoo:
    """Writes a zoo with permuted and rescaled units."""
    config = derived_config(zoo, "aligned", origin, zoo.newest_epoch, parent)
    activations = zoo.members_table["activation"].to_list()

    def derive(epoch: int) -> tuple[dict[str, Any], pl.DataFrame]:
        state = zoo.state(epoch)
        # Arrays of converted zoos that are never used.
        state.pop("unused", None)
        changed = transformed_state(zoo.config, state, transform, activations)
        return changed, zoo.metrics.filter(epoch=epoch)

    return write_derived(folder, config, zoo.members_table, zoo, zoo.epochs, derive)
