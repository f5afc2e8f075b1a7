"""Croissant metadata of a dataset: https://docs.mlcommons.org/croissant/docs/croissant-spec.html."""

import datetime
from pathlib import Path
from typing import Any

import polars as pl

from zoojax.publishing.about import About
from zoojax.storage.checkpoints import file_digest
from zoojax.storage.zoo import Zoo

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FORMATS = {
    ".parquet": "application/x-parquet",
    ".safetensors": "application/octet-stream",
    ".json": "application/json",
    ".npz": "application/zip",
    ".md": "text/markdown",
}
_TABLES = {
    "members": "One row per member of the zoo.",
    "metrics": "One row per member and epoch.",
}


def croissant(folder: Path, zoos: dict[str, Zoo], about: About) -> dict[str, Any]:
    """Returns the content of croissant.json.

    Args:
        folder: Folder with the other files of the dataset.
        zoos: The zoo and its twins by their folder in the dataset; "" for the first.
        about: The publisher's descriptions.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    content = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about.title,
        "description": _description(zoos),
        "license": about.license,
        "datePublished": datetime.date.today().isoformat(),
        "version": "1.0.0",
        "keywords": ["weight-space-learning", "model-zoo", "sparsity"],
        "distribution": [_file_object(folder, path) for path in files],
        "recordSet": [
            _record_set(f"{name}/{table}" if name else table, text, _table(zoo, table))
            for name, zoo in zoos.items()
            for table, text in _TABLES.items()
        ],
    }
    if about.citation is not None:
        content["citeAs"] = about.citation
    if about.creator is not None:
        content["creator"] = {"@type": "sc:Person", "name": about.creator}
    return content


def _description(zoos: dict[str, Zoo]) -> str:
    zoo = zoos[""]
    twins = f" and its {len(zoos) - 1} sparse twins" if len(zoos) > 1 else ""
    return (
        f"{len(zoo)} neural networks ({zoo.config.architecture}) over {len(zoo.epochs)} "
        f"epochs{twins}: weights, hyperparameters and metrics."
    )


def _table(zoo: Zoo, table: str) -> pl.DataFrame:
    return zoo.members_table if table == "members" else zoo.metrics_history


def _file_object(folder: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _FORMATS.get(path.suffix, "application/octet-stream"),
        "sha256": file_digest(path),
    }


def _record_set(name: str, text: str, table: pl.DataFrame) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "dataType": _data_type(kind),
            "source": {
                "fileObject": {"@id": f"{name}.parquet"},
                "extract": {"column": column},
            },
            **({"repeated": True} if kind.is_nested() else {}),
        }
        for column, kind in table.schema.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": text,
        "field": fields,
    }


def _data_type(kind: pl.DataType) -> str:
    inner = getattr(kind, "inner", kind)
    if inner == pl.Boolean:
        return "sc:Boolean"
    if inner.is_integer():
        return "sc:Integer"
    return "sc:Float" if inner.is_numeric() else "sc:Text"
