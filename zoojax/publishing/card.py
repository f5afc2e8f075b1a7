"""The dataset card: README.md with the metadata that the Hugging Face Hub reads."""

import html
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from zoojax.hyperparameters.grid import HYPERPARAMETERS
from zoojax.publishing.about import About
from zoojax.storage.zoo import Zoo
from zoojax.text import printable

_TAGS = ["weight-space-learning", "model-zoo", "sparsity"]
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
# Largest number of values of a hyperparameter that are listed one by one.
_MAX_LISTED = 8


def data_card(folder: Path, zoos: dict[str, Zoo], about: About) -> str:
    """Returns the content of README.md.

    Args:
        folder: Folder with the other files of the dataset.
        zoos: The zoo and its twins by their folder in the dataset; "" for the first.
        about: The publisher's descriptions.
    """
    states = sum(len(zoo) * len(_epochs(folder, name)) for name, zoo in zoos.items())
    header = {
        "pretty_name": about.title,
        "license": about.license,
        "tags": _TAGS,
        "size_categories": [next((name for limit, name in _SIZES if states < limit), "n>1M")],
        "configs": _tables(zoos),
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---",
        f"# {_text(about.title)}",
        _introduction(zoos[""], len(zoos) - 1, states),
        "## Content",
        *(_content(folder, name, zoo) for name, zoo in zoos.items()),
        _files(folder, len(zoos) > 1),
        "## How it was made",
        *(_settings(name, zoo) for name, zoo in zoos.items()),
        "## Load it",
        _LOADING,
        "## License and citation",
        _rights(about),
    ]
    return "\n\n".join(parts) + "\n"


def _tables(zoos: dict[str, Zoo]) -> list[dict[str, Any]]:
    """Returns the tables that `datasets.load_dataset` reads."""
    configs = []
    for name in zoos:
        prefix, start = (f"{name.rpartition('/')[2]}-", f"{name}/") if name else ("", "")
        for table in ("members", "metrics"):
            entry = {"config_name": f"{prefix}{table}", "data_files": f"{start}{table}.parquet"}
            configs.append(entry | ({} if configs else {"default": True}))
    return configs


def _text(value: object) -> str:
    """Escapes foreign text for Markdown."""
    escaped = html.escape(printable(value), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in escaped)


def _epochs(folder: Path, name: str) -> list[int]:
    stems = [file.stem.rpartition("-")[2] for file in (folder / name / "weights").iterdir()]
    return sorted(map(int, stems))


def _introduction(zoo: Zoo, twins: int, states: int) -> str:
    config = zoo.config
    images = "" if config.data is None else f", trained on {_text(config.data.name)}"
    sparse = f", and {twins} sparse twin{'s' if twins > 1 else ''} of it" if twins else ""
    return (
        f"A model zoo: a population of {len(zoo):,} neural networks of one architecture"
        f"{images}{sparse}. It has {states:,} states (members times epochs) with all weights, for "
        "learning from the weights of neural networks."
    )


def _content(folder: Path, name: str, zoo: Zoo) -> str:
    config, epochs = zoo.config, _epochs(folder, name)
    facts = {
        "kind": config.sparsifier.label,
        "members": f"{len(zoo):,}",
        "epochs with weights": f"{len(epochs):,} (from {epochs[0]} to {epochs[-1]})",
        "architecture": config.architecture,
        "parameters per member": f"{config.shape.parameter_count:,}",
        "input channels, classes": f"{config.channels}, {config.classes}",
    }
    if config.data is not None:
        facts["images"] = config.data.name
    if config.data_hash is not None:
        facts["SHA-256 of the images"] = config.data_hash
    if config.parent is not None:
        facts["parent"] = f"{config.parent.name}, epoch {config.parent.epoch}"
    last = zoo.metrics.filter(pl.col("finite"), epoch=zoo.newest_epoch)
    for metric in ("test_acc", "psnr", "sparsity"):
        if metric in last.columns and len(last.drop_nulls(metric)):
            mean, std = last[metric].mean(), last[metric].std(ddof=0)
            facts[f"{metric} at epoch {zoo.newest_epoch}, mean (std)"] = f"{mean:.4g} ({std:.2g})"
    rows = [f"| {_text(key)} | {_text(value)} |" for key, value in facts.items()]
    title = f"### {_text(name or zoo.config.name)}"
    return "\n".join([title, "", "| | |", "|---|---|", *rows])


def _files(folder: Path, has_twins: bool) -> str:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    twins = "\n| `twins/NAME/` | the same files of each twin |" if has_twins else ""
    return f"""Files, {size / 1e6:,.1f} MB in total:

| file | content |
|---|---|
| `members.parquet` | one row per member: id, seed, hyperparameters; of twins, also the parent |
| `metrics.parquet` | one row per member and epoch: losses, accuracies, sparsities |
| `weights/epoch-N.safetensors` | all states of epoch N, stacked in the order of the members |
| `zoo.json` | settings that all members share |
| `checksums.json` | SHA-256 and size of every file |
| `croissant.json` | metadata in the Croissant format |{twins}"""


def _settings(name: str, zoo: Zoo) -> str:
    config, rows = zoo.config, []
    shared = {
        "preset": config.preset,
        "epochs": config.epochs,
        "batch size": config.batch_size,
        "order of the images": config.data_order,
        **config.sparsifier.shared_options(),
    }
    for each in HYPERPARAMETERS:
        if each.name in zoo.members_table.columns:
            shared[each.label] = _values(zoo.members_table[each.name])
    rows = [f"| {_text(k)} | {_text(v)} |" for k, v in shared.items() if v is not None]
    made = ", ".join(f"{library} {version}" for library, version in config.versions.items())
    title = f"### {_text(name or config.name)}"
    lines = [title, "", "| setting | value |", "|---|---|", *rows]
    return "\n".join([*lines, "", f"Made with {_text(made)}."] if made else lines)


def _values(column: pl.Series) -> str:
    values = column.drop_nulls().unique().sort().to_list()
    if len(values) > _MAX_LISTED:
        return f"{len(values):,} values from {values[0]} to {values[-1]}"
    return ", ".join(map(str, values))


_LOADING = """```python
import zoojax

zoo = zoojax.open_zoo("FOLDER")  # or "hf://OWNER/NAME"
zoo.metrics  # a polars frame
zoo.params(zoo.epochs[-1])  # {"LAYER": {"kernel": [members, ...]}}
```

Without zoojax:

```python
from datasets import load_dataset
from safetensors.numpy import load_file

metrics = load_dataset("FOLDER", "metrics", split="train")
weights = load_file("FOLDER/weights/epoch-0.safetensors")
```"""


def _rights(about: About) -> str:
    parts = [f"License: {_text(about.license)}."]
    if about.creator is not None:
        parts.append(f"Published by {_text(about.creator)}.")
    if about.citation is not None:
        # A fence that is longer than any in the text.
        fence = "`" * 3
        while fence in about.citation:
            fence += "`"
        parts.append(f"Please cite:\n\n{fence}\n{about.citation.strip()}\n{fence}")
    parts.append(
        "The method of sparse twins is from "
        '"Sparsified Model Zoo Twins" ([arXiv:2304.13718](https://arxiv.org/abs/2304.13718)).'
    )
    return "\n\n".join(parts)
