"""Finds the network that most members have; a zoo has members of one network and sparsifier."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from zoojax.architectures.base import Architecture
from zoojax.converters.batches import BatchState
from zoojax.converters.dialects.base import ReadState, listed
from zoojax.converters.members import Selection, reported_ratio
from zoojax.converters.reported import MAX_EPOCH, parse_integer
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import (
    State,
    StateDictInfo,
    UnknownNetworkError,
    infer_network,
)
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.dense import Dense


@dataclass(frozen=True)
class CommonNetwork:
    """The members with the most common network and sparsifier.

    Attributes:
        sources: The sources of these members.
        info: Their network and sparsifier; layer names are those of one of them.
        rejected: Reasons for rejecting the states of all other members, by place.
        notes: Remarks for the user: how many members have other networks.
    """

    sources: list[Source]
    info: StateDictInfo
    rejected: dict[str, str]
    notes: tuple[str, ...] = ()


def find_common_network(sources: Sequence[Source], selection: Selection) -> CommonNetwork:
    """Inspects one state of each member and selects the members of the majority.

    Args:
        sources: The sources of all members; their `layers` and `pruned` are filled in.
        selection: Whether the first rejected state is an error.

    Raises:
        ZoojaxError: If no state is valid, or any is rejected and the selection is strict.
    """
    valid: list[tuple[Source, StateDictInfo]] = []
    rejected: dict[str, str] = {}
    for source in sources:
        rejected |= source.skipped
        info, reasons = inspect_newest(source)
        if info is None:
            rejected |= reasons
        else:
            valid.append((source, info))
    if not valid:
        place, reason = next(iter(rejected.items()))
        raise ZoojaxError(f"no state can be converted; the first, {place}: {reason}")
    majority = Counter(signature(info) for _, info in valid).most_common(1)[0][0]
    common = next(info for _, info in valid if signature(info) == majority)
    for source, info in valid:
        if signature(info) != majority:
            reason = f"{describe(info)}; the zoo's network is: {describe(common)}"
            rejected |= dict.fromkeys(source.places.values(), reason)
    if selection.strict and rejected:
        raise ZoojaxError("{}: {}".format(*next(iter(rejected.items()))))
    others = Counter(describe(info) for _, info in valid if signature(info) != majority)
    notes = []
    if others:
        notes.append(
            f"{others.total()} of {len(valid)} members have another network or sparsifier and are "
            f"left out ({listed(others)}); --each-network writes a zoo for each"
        )
    members = [source for source, info in valid if signature(info) == majority]
    return CommonNetwork(members, common, rejected, tuple(notes))


def group_by_network(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Groups members by their network and sparsifier.

    Args:
        sources: The sources of all members.

    Returns:
        Members by a name for the folder of their zoo, the largest group first; members without a
        valid state are in that group.
    """
    groups: dict[Hashable, list[Source]] = {}
    names: dict[Hashable, str] = {}
    others = []
    for source in sources:
        info, _ = inspect_newest(source)
        if info is None:
            others.append(source)
            continue
        key = signature(info)
        groups.setdefault(key, []).append(source)
        if key not in names:
            net, method = info.architecture, info.sparsifier.name
            name = f"{net.name}-{image_channels(net)}"
            name += "" if net.task.has_own_images else f"x{net.size}-{net.classes}"
            name += "" if method == Dense.name else f"-{method}"
            taken = sum(each == name or each.startswith(f"{name}~") for each in names.values())
            names[key] = f"{name}~{taken + 1}" if taken else name
    ordered = sorted(groups, key=lambda key: -len(groups[key]))
    if not ordered:
        return {"": others}
    groups[ordered[0]] += others
    return {names[key]: groups[key] for key in ordered}


def inspect_newest(source: Source) -> tuple[StateDictInfo | None, dict[str, str]]:
    """Inspects the newest valid state of a member.

    Args:
        source: The member; what its file says is filled in.

    Returns:
        The network and sparsifier, None without a valid state; and the reasons, by place, why
        newer states are not valid.
    """
    reads = [*source.states.values()]
    if reads and isinstance(reads[-1], BatchState) and reads[-1].batch.layout is not None:
        # The states of a batch have the same network; they are read later, many at a time.
        info = reads[-1].batch.layout.info
        source.layers = info.prefixes
        return info, {}
    reasons = {}
    for epoch in sorted(source.states, reverse=True):
        try:
            return _inspect(source, epoch), reasons
        except (UnreadableFileError, UnknownNetworkError) as error:
            reasons[source.places[epoch]] = rejection_reason(error)
    return None, reasons


def _use_stored_iterations(source: Source) -> None:
    """Replaces the numbers of folders with the iterations that Ray stores in the files.

    Numbers of folders may count checkpoints. If a file has no iteration, or two have the same one,
    the numbers are kept, with a note.
    """
    dated: dict[int, int] = {}
    for epoch, read in source.states.items():
        try:
            iteration = _iteration(read())
        except UnreadableFileError:
            iteration = None
        if iteration is not None:
            dated[epoch] = iteration
    if len(set(dated.values())) < len(source.states):
        source.notes.append("iterations in its files repeat; its folders number the epochs")
        return
    source.states = {dated[epoch]: read for epoch, read in source.states.items()}
    source.places = {dated[epoch]: place for epoch, place in source.places.items()}
    source.notes.append("epochs are the iterations in its files, not the numbers of its folders")


def _iteration(state: State) -> int | None:
    """The iteration that Ray's class interface stores in a file; None if there is none."""
    stored = state.stored if isinstance(state, ReadState) else {}
    return parse_integer(stored.get("iteration"), MAX_EPOCH) if "last_result" in stored else None


def _inspect(source: Source, epoch: int) -> StateDictInfo:
    """Reads one state of a member and fills in the source's `layers` and `pruned`.

    Raises:
        UnreadableFileError: If the file cannot be read safely.
        UnknownNetworkError: If the network or the pruning ratio is unknown.
    """
    state = source.states[epoch]()
    info = infer_network(state)
    masks = [state[name] for name in info.mask_names()]
    if masks:
        pruned = 1 - sum(float((m != 0).sum()) for m in masks) / sum(m.size for m in masks)
        if pruned == 1 and reported_ratio(source) is None:
            raise UnknownNetworkError("its masks leave no weight, and it reports no prune::amount")
        source.pruned = pruned
    source.layers = info.prefixes
    if isinstance(state, ReadState):
        source.notes += [note for note in state.notes if note not in source.notes]
        source.learn(epoch, state.stored)
    if _iteration(state) not in (None, epoch):
        _use_stored_iterations(source)
    return info


def signature(info: StateDictInfo) -> Hashable:
    """What the members of a zoo have in common: everything but the names of their layers.

    Options of the sparsifier that torch files do not show, such as the scope of pruning, are
    not compared.
    """
    return info.architecture, type(info.sparsifier), tuple(tensors for _, tensors in info.tensors)


def describe(info: StateDictInfo) -> str:
    """Describes a network and its sparsifier in a few words."""
    net = info.architecture
    text = f"{info.layout.adjective} {net.label}, {image_channels(net)} channel(s)"
    return text if net.task.has_own_images else f"{text}, {net.classes} classes"


def image_channels(net: Architecture) -> int:
    """Returns the channels of the images that a network takes, or of the image that it learned."""
    return net.classes if net.task.has_own_images else net.channels


def rejection_reason(error: Exception) -> str:
    """The reason for which a state is rejected, without the path of its file."""
    return error.reason if isinstance(error, UnreadableFileError) else str(error)
