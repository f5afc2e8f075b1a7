"""Counts of what a conversion left out, filled in or does not know: the table at its end."""

from collections import Counter

from zoojax.storage.zoo import Zoo

_SEPARATOR = "; "


def count_remarks(zoo: Zoo) -> dict[str, int]:
    """Counts the notes of a converted zoo's members, and the values that its tables lack.

    Args:
        zoo: The zoo.

    Returns:
        Counts by remark, the most frequent first: members by note, members without a seed,
        (member, epoch) pairs without a state, and rows of metrics that are null.
    """
    members, metrics = zoo.members_table, zoo.metrics_history
    remarks: Counter[str] = Counter()
    for notes in members["notes"] if "notes" in members.columns else ():
        remarks.update(set((notes or "").split(_SEPARATOR)) - {""})
    remarks["members without a seed"] = members["seed"].null_count()
    if "missing_epochs" in members.columns:
        missing = members["missing_epochs"].list.len().sum()
        remarks["states missing of some member at some epoch"] = int(missing or 0)
    for name in metrics.columns:
        # Only states show the sparsity of a layer.
        if not name.startswith("sparsity") and metrics[name].null_count():
            remarks[f"rows of metrics without {name}"] = metrics[name].null_count()
    return {text: count for text, count in remarks.most_common() if count}
