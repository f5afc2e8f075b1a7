"""All that is measured of a hyper-representation: tables by name, and as files beside it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from zoojax import population
from zoojax.analysis.paper import published_representations
from zoojax.data import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.files import write_beside
from zoojax.hyper_representation.properties import Parts, probe_table
from zoojax.hyper_representation.reconstruction import (
    ALL,
    ALPHAS,
    WEIGHTS,
    Fidelity,
    Numbers,
    flat,
    functional,
    numbers,
    scatter,
    thresholded,
)
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.samples import PROPERTIES, read
from zoojax.weight_statistics import layer_statistics
from zoojax.zoo import Zoo

FOLDER = "evaluation"
TABLES = (
    *("summary", "reconstruction", "properties", "functional", "embeddings", "scatter"),
    "losses",
)
EMBEDDING = "embedding"
# Orders of the hidden units that the embeddings of a second row of probes are the mean of.
_VIEWS = 8
# Pairs of true and reconstructed numbers kept of each quantity and layer.
_PAIRS = 2000
# The paper's words for PROPERTIES, columns of its Table 3.
_COLUMNS = {"test_acc": "accuracy", "sparsity": "sparsity", "epoch": "epoch", "ggap": "ggap"}

Step = Callable[[str], None]


@dataclass
class Evaluation:
    """What `evaluate` found.

    Attributes:
        tables: polars frames by names of TABLES:
            summary: R2 as the paper's Table 3 has it, a row a kind of `features`, and the
                paper's rows.
            reconstruction: see `Fidelity.table`.
            properties: see `probe_table`.
            functional: see `reconstruction.functional`; of the test split, where the images
                are known.
            embeddings: a row a state: `member`, `epoch`, `part` of the split, `x` and `y`
                (principal components of the training split's embeddings), properties.
            scatter: pairs of the test split, see `reconstruction.scatter`.
            losses: see `Representation.losses`.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)


def evaluate(
    representation: Representation, zoo: Zoo, images: ImageSet | None, step: Step | None = None
) -> Evaluation:
    """Measures reconstruction and what embeddings tell, on members held out of training.

    Args:
        representation: a trained one.
        zoo: that which it was learned from, as `Representation.source` gives it.
        images: of the zoo; without them reconstructed members are not run.
        step: told what is being done.

    Raises:
        ZoojaxError: a state is not there or is damaged.
    """
    tell = step or (lambda what: None)
    walk = _Walk(representation, zoo, images)
    for epoch in representation.config.epochs:
        tell(f"reconstructing epoch {epoch}")
        walk.take(epoch)
    measured = pl.concat(walk.measured)
    targets = _by_part(measured, _properties(measured))
    probes = []
    for name, blocks in walk.features.items():
        tell(f"probing {name}")
        features = _by_part(measured, np.concatenate(blocks))
        probes.append(probe_table({name: features}, targets))
    tables = {"reconstruction": walk.fidelity.table(), "properties": pl.concat(probes)}
    if walk.functional:
        tables["functional"] = pl.concat(walk.functional)
    tell("laying out embeddings")
    tables["embeddings"] = _map(measured, np.concatenate(walk.features[EMBEDDING]))
    tables["scatter"] = pl.concat(walk.pairs)
    tables["losses"] = representation.losses
    tables["summary"] = _summary(tables, zoo.config.name)
    return Evaluation({name: tables[name] for name in TABLES if name in tables})


@dataclass
class _Walk:
    """What one pass over the epochs gathers; of states themselves it keeps the features.

    Attributes:
        representation, zoo, images: see `evaluate`.
        fidelity: sums for R2 of the reconstruction.
        measured: a frame an epoch: `member`, `epoch`, `part` and properties of all states.
        features: an array [members, ...] an epoch, by their name.
        functional, pairs: frames of the test split.
    """

    representation: Representation
    zoo: Zoo
    images: ImageSet | None
    fidelity: Fidelity = field(default_factory=Fidelity)
    measured: list[pl.DataFrame] = field(default_factory=list)
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    functional: list[pl.DataFrame] = field(default_factory=list)
    pairs: list[pl.DataFrame] = field(default_factory=list)

    def take(self, epoch: int) -> None:
        """Reads the states of an epoch, all parts at once, and reconstructs them."""
        config, codec = self.representation.config, self.representation.codec
        parts = config.members._asdict()
        members = [member for part in parts.values() for member in part]
        states = read(self.zoo, members, [epoch], alphas_of=config.alphas_of)
        part = pl.Series("part", [name for name, part in parts.items() for _ in part])
        columns = dict.fromkeys(("member", "epoch", *PROPERTIES))
        self.measured.append(states.table.select(*columns).with_columns(part))
        for name, x in _features(self.representation, states.weights).items():
            self.features.setdefault(name, []).append(x)
        weights, alphas = self.representation.reconstruct(states.weights)
        known = states.alphas if codec.variational else None
        true, guess = numbers(codec, states.weights, known), numbers(codec, weights, alphas)
        for name in parts:
            rows = np.flatnonzero(part == name)
            self.fidelity.add(name, _rows(true, rows), _rows(guess, rows))
        held = np.flatnonzero(part == "test")
        most = -(-_PAIRS // len(config.epochs))
        rng = np.random.default_rng(epoch)
        shown = {key: x[held] for key, x in true.items() if key[0] != ALPHAS}
        self.pairs += scatter(shown, _rows(guess, held), most, rng)
        if self.images is not None:
            original = population.take(thresholded(states.weights, known), held)
            copy = population.take(thresholded(weights, alphas), held)
            table = states.table[held]
            self.functional.append(functional(self.zoo, self.images.test, table, original, copy))


def _features(representation: Representation, weights: dict) -> dict[str, np.ndarray]:
    """What properties are probed from, [members, ...] by name."""
    raw = flat(weights)
    return {
        EMBEDDING: representation.embed(weights),
        f"{EMBEDDING}, mean of {_VIEWS} orders": representation.embed(weights, views=_VIEWS),
        "weights": np.concatenate([raw[layer] for layer in sorted(raw)], axis=1),
        "layer statistics": layer_statistics(weights),
    }


def _rows(found: Numbers, rows: np.ndarray) -> Numbers:
    return {key: x[rows] for key, x in found.items()}


def _by_part(measured: pl.DataFrame, x: np.ndarray) -> Parts:
    return Parts(*(x[(measured["part"] == name).to_numpy()] for name in Parts._fields))


def _properties(measured: pl.DataFrame) -> np.ndarray:
    """[states, properties] float64; NaN for what was not measured."""
    columns = [measured[name].cast(pl.Float64).to_numpy() for name in PROPERTIES]
    return np.stack(columns, axis=1)


def _map(measured: pl.DataFrame, embeddings: np.ndarray) -> pl.DataFrame:
    """States with two principal components of their embeddings."""
    # Only here: it takes seconds to import.
    from sklearn.decomposition import PCA

    train = _by_part(measured, embeddings).train
    # Of one dimension there is no second component.
    fitted = PCA(min(2, *train.shape), random_state=0).fit(train)
    places = np.zeros((len(embeddings), 2))
    places[:, : fitted.n_components_] = fitted.transform(embeddings)
    return measured.with_columns(x=pl.Series(places[:, 0]), y=pl.Series(places[:, 1]))


def _summary(tables: dict[str, pl.DataFrame], name: str) -> pl.DataFrame:
    """R2 of the test split in the columns of the paper's Table 3, its own rows first."""
    published = published_representations()
    published = published.with_columns(
        pl.format("{} (paper)", "zoo").alias("zoo"), pl.lit(EMBEDDING).alias("features")
    )
    whole = tables["reconstruction"].filter(part="test", layer=ALL)
    reconstructed = dict(whole.select("quantity", "r2").iter_rows())
    rows = []
    for features in tables["properties"]["features"].unique(maintain_order=True):
        told = tables["properties"].filter(features=features)
        row = {_COLUMNS[p]: r2 for p, r2 in told.select("property", "r2").iter_rows()}
        if features == EMBEDDING:
            row |= {n: reconstructed.get(n) for n in (WEIGHTS, ALPHAS)}
        rows.append({"zoo": name, "features": features, **row})
    columns = ["zoo", "features", WEIGHTS, ALPHAS, *_COLUMNS.values()]
    schema = {c: pl.String if c in ("zoo", "features") else pl.Float64 for c in columns}
    return pl.concat([published.select(columns), pl.DataFrame(rows, schema=schema)])


def write(evaluation: Evaluation, folder: Path) -> None:
    """Writes every table as Parquet and CSV; files of an earlier evaluation are replaced.

    Raises:
        ZoojaxError: the disk refused.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZoojaxError(f"cannot create {folder}: {error.strerror or error}") from error
    for name in TABLES:
        table = evaluation.tables.get(name)
        for suffix in ("parquet", "csv"):
            file = folder / f"{name}.{suffix}"
            if table is None:
                file.unlink(missing_ok=True)
            else:
                write_beside(file, getattr(table, f"write_{suffix}"), durable=False)


def read_evaluation(representation: Representation) -> Evaluation:
    """What was written beside a hyper-representation.

    Raises:
        ZoojaxError: it has not been evaluated, or was trained since, or a file is damaged.
    """
    folder, command = representation.path / FOLDER, "zoojax represent evaluate"
    tables = {}
    for name in TABLES:
        file = folder / f"{name}.parquet"
        if not file.exists():
            continue
        try:
            tables[name] = pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ZoojaxError(f"{file} is damaged: {error}") from error
    if "losses" not in tables:
        raise ZoojaxError(
            f"{representation.path} has not been evaluated; run '{command} {representation.path}'"
        )
    if not tables["losses"].equals(representation.losses):
        raise ZoojaxError(
            f"{representation.path} was trained since it was evaluated; run '{command} "
            f"{representation.path}' again"
        )
    return Evaluation(tables)
