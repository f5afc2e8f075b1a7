"""Finds the network that most members have; a zoo has members of one network and sparsifier."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from zoojax.converters.batches import BatchState
from zoojax.converters.dialects.base import ReadState
from zoojax.converters.members import Selection, reported_ratio
from zoojax.converters.safe_load import UnreadableFileError
from zoojax.converters.sources import Source
from zoojax.converters.state_dicts import StateDictInfo, UnknownNetworkError, infer_network
from zoojax.errors import ZoojaxError
from zoojax.sparsifiers.dense import Dense


@dataclass(frozen=True)
class CommonNetwork:
    """The members with the most common network and sparsifier.

    Attributes:
        sources: The sources of these members.
        info: Their network and sparsifier; layer names are those of one of them.
        rejected: Reasons by place, of the states of all other members.
    """

    sources: list[Source]
    info: StateDictInfo
    rejected: dict[str, str]


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
        info, reasons = _inspect_newest(source)
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
    members = [source for source, info in valid if signature(info) == majority]
    return CommonNetwork(members, common, rejected)


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
        info, _ = _inspect_newest(source)
        if info is None:
            others.append(source)
            continue
        key = signature(info)
        groups.setdefault(key, []).append(source)
        if key not in names:
            net, method = info.architecture, info.sparsifier.name
            name = f"{net.name}-{net.channels}x{net.size}-{net.classes}"
            name += "" if method == Dense.name else f"-{method}"
            taken = sum(each == name or each.startswith(f"{name}~") for each in names.values())
            names[key] = f"{name}~{taken + 1}" if taken else name
    ordered = sorted(groups, key=lambda key: -len(groups[key]))
    if not ordered:
        return {"": others}
    groups[ordered[0]] += others
    return {names[key]: groups[key] for key in ordered}


def _inspect_newest(source: Source) -> tuple[StateDictInfo | None, dict[str, str]]:
    """Inspects the newest valid state of a member; returns reasons for the newer ones."""
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
    return f"{info.layout.adjective} {net.label}, {net.channels} channel(s), {net.classes} classes"


def rejection_reason(error: Exception) -> str:
    """The reason for which a state is rejected, without the path of its file."""
    return error.reason if isinstance(error, UnreadableFileError) else str(error)
