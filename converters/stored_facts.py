"""Plain values that a file stores with the weights: configs, metrics, a label.

Foreign objects are read as data: argparse.Namespace by its attributes, Lightning's AttributeDict by
its items, omegaconf's DictConfig and ListConfig by their content.
"""

from collections.abc import Mapping
from typing import Any

from zoojax.converters.config_names import normalized_config
from zoojax.converters.inert import Stub
from zoojax.converters.reported import MAX_EPOCH, Row, parse_integer, parse_row

# Entries with the config of a member, the preferred one first.
_CONFIGS = ("config", "hyper_parameters", "hparams", "hyperparameters", "args", "cfg")
# Entries with metrics.
_METRICS = ("last_result", "metrics", "results", "result")
# Entries with the epoch; Ray counts iterations.
_EPOCHS = ("epoch", "iteration", "training_iteration")
_MAX_DEPTH, _MAX_VALUES = 8, 10_000
_MAX_TEXT = 10_000


def plain_values(content: Mapping[Any, Any]) -> dict[str, Any]:
    """Converts the entries of a file that are not tensors to plain values.

    Args:
        content: The mapping in the file.

    Returns:
        Numbers, text, lists and mappings by name; state dicts, optimizers and other objects are
        left out.
    """
    budget = [_MAX_VALUES]
    found = {}
    for key, value in content.items():
        is_config = key in _CONFIGS or key in _METRICS
        if isinstance(key, str) and (is_config or not isinstance(value, dict | Stub)):
            plain = _plain(value, _MAX_DEPTH, budget)
            if plain is not None:
                found[key] = plain
    return found


def stored_config(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the config among stored values, under the names of the zoos' original code."""
    for key in _CONFIGS:
        if isinstance(stored.get(key), dict):
            return normalized_config(stored[key])
    return {}


def stored_row(stored: Mapping[str, Any]) -> Row:
    """Returns the metrics among stored values; empty if there are none."""
    row: Row = {}
    for key in _METRICS:
        if isinstance(stored.get(key), dict):
            row |= parse_row(stored[key])
    numbers = {k: v for k, v in stored.items() if isinstance(v, int | float)}
    # timm's saver names the accuracy of the validation images "metric".
    if "arch" in stored and "metric" in numbers:
        numbers.setdefault("test_acc", numbers["metric"])
    return parse_row(numbers) | row


def stored_epoch(stored: Mapping[str, Any]) -> int | None:
    """Returns the epoch among stored values; None if there is none."""
    epochs = (parse_integer(stored.get(key), MAX_EPOCH) for key in _EPOCHS)
    return next((epoch for epoch in epochs if epoch is not None), None)


def _plain(value: object, depth: int, budget: list[int]) -> Any:
    """Converts a value; None if it cannot be converted, or is too deep or too large."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        return None
    if isinstance(value, Stub):
        return _plain(_content_of(value), depth - 1, budget)
    if isinstance(value, str):
        return value if len(value) <= _MAX_TEXT else None
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each, depth - 1, budget) for each in value[:_MAX_VALUES]]
    if isinstance(value, dict):
        return {
            key: _plain(each, depth - 1, budget)
            for key, each in value.items()
            if isinstance(key, str)
        }
    return None


def _content_of(stub: Stub) -> object:
    """Returns the plain value of a foreign object."""
    for name in ("_content", "_val"):  # Of omegaconf.
        if name in stub.state:
            return stub.state[name]
    return stub.items or stub.state
