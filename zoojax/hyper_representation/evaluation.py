"""Evaluates a hyper-representation: reconstruction, probes and embeddings, as named tables."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from zoojax import presets
from zoojax.analysis.layer_statistics import layer_statistics
from zoojax.analysis.paper import published_representations
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.dataset import PROPERTIES, read_samples
from zoojax.hyper_representation.evaluation_tables import COLUMNS, PAIRS, TABLES, Evaluation, check
from zoojax.hyper_representation.probes import SplitArrays, probe_table
from zoojax.hyper_representation.reconstruction import (
    ALL,
    ALPHAS,
    WEIGHTS,
    LayerValues,
    R2Accumulator,
    flatten_layers,
    functional_fidelity,
    r2_inputs,
    scatter_pairs,
    zero_above_threshold,
)
from zoojax.hyper_representation.representation import Representation
from zoojax.runtime import population
from zoojax.storage.zoo import Zoo

EMBEDDING = "embedding"
# Orders of the hidden units over which the second kind of embedding is averaged.
_VIEWS = 8
StageCallback = Callable[[str], None]


def evaluate(
    representation: Representation,
    zoo: Zoo,
    images: ImageSet | None,
    on_stage: StageCallback | None = None,
) -> Evaluation:
    """Measures reconstruction and property probes on held-out members.

    Args:
        representation: A trained hyper-representation.
        zoo: Its training zoo, see `Representation.training_zoo`.
        images: The zoo's images; if None, predictions of reconstructed members are not measured.
        on_stage: Called with a description at the start of each stage.

    Raises:
        ZoojaxError: If a state is missing or damaged, or an embedding is not finite.
    """
    start_stage = on_stage or (lambda description: None)
    states = _EvaluationPass(representation, zoo, images)
    _check_epochs(representation, zoo)
    for epoch in representation.entry(zoo).epochs:
        start_stage(f"reconstructing epoch {epoch}")
        states.add_epoch(epoch)
    metrics = pl.concat(states.metrics)
    targets = _by_part(metrics, _properties(metrics))
    probes = []
    for name, blocks in states.features.items():
        start_stage(f"probing {name}")
        features = _by_part(metrics, np.concatenate(blocks))
        probes.append(probe_table({name: features}, targets))
    tables = {"reconstruction": states.r2.table(), "properties": pl.concat(probes)}
    if states.functional:
        tables["functional"] = pl.concat(states.functional)
    start_stage("projecting embeddings")
    tables["embeddings"] = _project(metrics, np.concatenate(states.features[EMBEDDING]))
    tables["scatter"] = pl.concat(states.pairs)
    tables["losses"] = representation.losses
    tables["summary"] = _summary(tables, zoo)
    check(representation.config, tables)
    return Evaluation({name: tables[name] for name in TABLES if name in tables})


def _check_epochs(representation: Representation, zoo: Zoo) -> None:
    """Raises ZoojaxError if the zoo lacks an epoch of the training samples."""
    alphas_of = representation.config.alphas_of
    needed = [*representation.entry(zoo).epochs, *([] if alphas_of is None else [alphas_of])]
    for epoch in needed:
        if epoch not in zoo.epochs:
            raise ZoojaxError(
                f"{zoo.path} has no epoch {epoch}, on which {representation.path} was trained"
            )


@dataclass
class _EvaluationPass:
    """Accumulates the results of one pass over the epochs; states are not kept.

    Attributes:
        representation: See `evaluate`.
        zoo: See `evaluate`.
        images: See `evaluate`.
        r2: Sums for R2 of the reconstruction.
        metrics: One frame per epoch: `member`, `epoch`, `part` and properties of all states.
        features: One array [members, ...] per epoch, by the name of the features.
        functional: One frame per epoch of the functional fidelity of the test split.
        pairs: Frames of scatter pairs of the test split.
    """

    representation: Representation
    zoo: Zoo
    images: ImageSet | None
    r2: R2Accumulator = field(default_factory=R2Accumulator)
    metrics: list[pl.DataFrame] = field(default_factory=list)
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    functional: list[pl.DataFrame] = field(default_factory=list)
    pairs: list[pl.DataFrame] = field(default_factory=list)

    def add_epoch(self, epoch: int) -> None:
        """Reads and reconstructs the states of all parts of the split at an epoch."""
        config, codec = self.representation.config, self.representation.codec
        entry = self.representation.entry(self.zoo)
        parts = entry.members._asdict()
        members = [member for part in parts.values() for member in part]
        states = read_samples(self.zoo, members, [epoch], alphas_of=config.alphas_of)
        part = pl.Series("part", [name for name, part in parts.items() for _ in part])
        columns = dict.fromkeys(("member", "epoch", *PROPERTIES))
        self.metrics.append(states.table.select(*columns).with_columns(part))
        for name, x in _features(self.representation, states.weights).items():
            self.features.setdefault(name, []).append(x)
        weights, alphas = self.representation.reconstruct(states.weights)
        true_alphas = states.alphas if codec.variational else None
        true = r2_inputs(codec, states.weights, true_alphas)
        reconstructed = r2_inputs(codec, weights, alphas)
        for name in parts:
            rows = np.flatnonzero(part == name)
            self.r2.add(name, _take_rows(true, rows), _take_rows(reconstructed, rows))
        test = np.flatnonzero(part == "test")
        max_pairs = -(-PAIRS // len(entry.epochs))
        rng = np.random.default_rng(epoch)
        shown = {key: x[test] for key, x in true.items() if key[0] != ALPHAS}
        self.pairs += scatter_pairs(shown, _take_rows(reconstructed, test), max_pairs, rng)
        if self.images is not None:
            original = population.take(zero_above_threshold(states.weights, true_alphas), test)
            copy = population.take(zero_above_threshold(weights, alphas), test)
            table = states.table[test]
            self.functional.append(
                functional_fidelity(self.zoo, self.images.test, table, original, copy)
            )


def _features(representation: Representation, weights: dict) -> dict[str, np.ndarray]:
    """Returns the features of the probes by name, [members, ...] each."""
    raw = flatten_layers(weights)
    embeddings = {
        EMBEDDING: representation.embed(weights),
        f"{EMBEDDING}, mean of {_VIEWS} orders": representation.embed(weights, views=_VIEWS),
    }
    if not all(np.isfinite(z).all() for z in embeddings.values()):
        raise ZoojaxError(f"{representation.path} produces embeddings that are not finite")
    return {
        **embeddings,
        "weights": np.concatenate([raw[layer] for layer in sorted(raw)], axis=1),
        "layer statistics": layer_statistics(weights),
    }


def _take_rows(values: LayerValues, rows: np.ndarray) -> LayerValues:
    return {key: x[rows] for key, x in values.items()}


def _by_part(metrics: pl.DataFrame, x: np.ndarray) -> SplitArrays:
    return SplitArrays(*(x[(metrics["part"] == name).to_numpy()] for name in SplitArrays._fields))


def _properties(metrics: pl.DataFrame) -> np.ndarray:
    """Returns [states, properties] float64; NaN for missing values."""
    columns = [metrics[name].cast(pl.Float64).to_numpy() for name in PROPERTIES]
    return np.stack(columns, axis=1)


def _project(metrics: pl.DataFrame, embeddings: np.ndarray) -> pl.DataFrame:
    """Adds the first two principal components of the embeddings as columns x and y."""
    # Imported here because importing scikit-learn takes seconds.
    from sklearn.decomposition import PCA

    train = _by_part(metrics, embeddings).train
    # One-dimensional embeddings have no second component.
    pca = PCA(min(2, *train.shape), random_state=0).fit(train)
    projected = np.zeros((len(embeddings), 2))
    projected[:, : pca.n_components_] = pca.transform(embeddings)
    return metrics.with_columns(x=pl.Series(projected[:, 0]), y=pl.Series(projected[:, 1]))


def _summary(tables: dict[str, pl.DataFrame], zoo: Zoo) -> pl.DataFrame:
    """Returns R2 on the test split with the columns of the paper's Table 3.

    If the paper reports a zoo of the same preset and images, its row comes first.
    """
    preset = presets.preset_of(zoo)
    in_paper = preset is not None and zoo.config.data in (None, preset.data)
    published = published_representations().filter(zoo=zoo.config.preset if in_paper else "")
    published = published.with_columns(
        pl.format("{} (paper)", "zoo").alias("zoo"), pl.lit(EMBEDDING).alias("features")
    )
    all_layers = tables["reconstruction"].filter(part="test", layer=ALL)
    reconstruction = dict(all_layers.select("quantity", "r2").iter_rows())
    rows = []
    for features in tables["properties"]["features"].unique(maintain_order=True):
        probes = tables["properties"].filter(features=features)
        row = {COLUMNS[p]: r2 for p, r2 in probes.select("property", "r2").iter_rows()}
        if features == EMBEDDING:
            row |= {n: reconstruction.get(n) for n in (WEIGHTS, ALPHAS)}
        rows.append({"zoo": zoo.config.name, "features": features, **row})
    columns = ["zoo", "features", WEIGHTS, ALPHAS, *COLUMNS.values()]
    schema = {c: pl.String if c in ("zoo", "features") else pl.Float64 for c in columns}
    return pl.concat([published.select(columns), pl.DataFrame(rows, schema=schema)])
