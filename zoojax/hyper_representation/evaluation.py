"""Evaluates a hyper-representation: reconstruction, properties and embeddings, as named tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from zoojax import presets
from zoojax.analysis.layer_statistics import layer_statistics
from zoojax.analysis.paper import published_representations
from zoojax.architectures.base import vector_layout
from zoojax.architectures.vectors import PARAMS
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation import predictors
from zoojax.hyper_representation.block_mean import BlockMean
from zoojax.hyper_representation.bootstrap import interval_columns
from zoojax.hyper_representation.dataset import PROPERTIES, Samples, read_samples
from zoojax.hyper_representation.evaluation_tables import (
    ALL_ZOOS,
    COLUMNS,
    PAIRS,
    TABLES,
    Evaluation,
    check,
    groups,
    selected,
)
from zoojax.hyper_representation.functional_fidelity import (
    functional_fidelity,
    nearest_epochs,
    summarize,
)
from zoojax.hyper_representation.predictor_registry import make_predictors
from zoojax.hyper_representation.predictors import Predictor
from zoojax.hyper_representation.probes import Ridge
from zoojax.hyper_representation.property_scores import ALL_STATES, PropertyScores, block_numbers
from zoojax.hyper_representation.reconstruction import (
    ALL,
    ALPHAS,
    WEIGHTS,
    LayerValues,
    R2Accumulator,
    r2_inputs,
    scatter_pairs,
    zero_above_threshold,
)
from zoojax.hyper_representation.representation import Representation
from zoojax.hyper_representation.training_zoos import number_origins
from zoojax.runtime import population
from zoojax.storage.zoo import Zoo

EMBEDDING = "embedding"
# The dimensions of z that belong to no single token.
_GLOBAL = f"{EMBEDDING}, global part"
# Orders of the hidden units over which the second kind of embedding is averaged.
_VIEWS = 8
_AVERAGED = f"{EMBEDDING}, mean of {_VIEWS} orders"
_EMBEDDINGS = EMBEDDING, _GLOBAL, _AVERAGED
# Probes of every evaluation; the global part can be all of z.
_PROBES: tuple[Predictor, ...] = (
    *map(Ridge, (EMBEDDING, _GLOBAL, _AVERAGED, predictors.WEIGHTS, predictors.STATISTICS)),
    BlockMean(),
)
# Epochs in the table "functional_summary".
EPOCHS = (0, 10, 25)
StageCallback = Callable[[str], None]


def evaluate(
    representation: Representation,
    zoos: Sequence[Zoo],
    images: Sequence[ImageSet | None],
    on_stage: StageCallback | None = None,
    *,
    predictor_names: Sequence[str] = (),
    epochs: Sequence[int] = EPOCHS,
) -> Evaluation:
    """Measures reconstruction and property prediction on held-out members.

    With several training zoos, all figures are those of the states of all zoos, and of each alone.

    Args:
        representation: A trained hyper-representation.
        zoos: Its training zoos, see `Representation.training_zoos`.
        images: The images of each zoo; if None, predictions of its reconstructed members are not
            measured.
        on_stage: Called with a description at the start of each stage.
        predictor_names: Keys of `predictor_registry.PREDICTORS` to compare the embeddings with.
        epochs: Epochs at which reconstructed members are summarized; of epochs that the samples do
            not have, the nearest is taken.

    Raises:
        ZoojaxError: If a predictor is unknown or does not take the architecture, a state is missing
            or damaged, or an embedding is not finite.
    """
    start_stage = on_stage or (lambda description: None)
    config = representation.config
    added = make_predictors(predictor_names, config.shape, config.settings.seed)
    states = _EvaluationPass(representation, zoos, images)
    for zoo in zoos:
        _check_epochs(representation, zoo)
    for position, entry in enumerate(config.zoos):
        for epoch in entry.epochs:
            start_stage(f"reconstructing {config.labels[position]}, epoch {epoch}")
            states.add_epoch(position, epoch)
    metrics = pl.concat(states.metrics, how="vertical_relaxed")
    features = {name: np.concatenate(blocks) for name, blocks in states.features.items()}
    features[predictors.BLOCKS] = block_numbers(metrics)
    embeddings = [name for name in _EMBEDDINGS if name in features]
    properties, differences = [], []
    for label in groups(config):
        rows = selected(metrics, label)
        scores = PropertyScores(metrics.filter(rows))
        for predictor in (*_PROBES, *added):
            if predictor.inputs not in features:
                continue
            start_stage(f"{label}: predicting properties from {predictor.name}")
            scores.add(predictor, features[predictor.inputs][rows.to_numpy()])
        properties.append(_labeled(scores.table(), label))
        differences.append(_labeled(scores.differences(embeddings), label))
    tables = {
        "reconstruction": pl.concat(
            [_labeled(r2.table(), label) for label, r2 in states.r2.items()]
        ),
        "properties": pl.concat(properties),
        "differences": pl.concat(differences),
    }
    if states.functional:
        tables["functional"] = pl.concat(states.functional)
        tables["functional_summary"] = pl.concat(
            [
                _labeled(
                    summarize(
                        tables["functional"].filter(zoo=label).drop("zoo"),
                        nearest_epochs(epochs, entry.epochs),
                    ),
                    label,
                )
                for label, entry in zip(config.labels, config.zoos, strict=True)
                if label in set(tables["functional"]["zoo"])
            ]
        )
    start_stage("projecting embeddings")
    tables["embeddings"] = _project(metrics.drop("origin"), features[EMBEDDING])
    tables["scatter"] = pl.concat(states.pairs)
    tables["losses"] = representation.losses
    tables["summary"] = _summary(tables, zoos)
    check(config, tables)
    return Evaluation({name: tables[name] for name in TABLES if name in tables})


def _labeled(table: pl.DataFrame, label: str) -> pl.DataFrame:
    """Adds the zoo as the first column."""
    return table.select(pl.lit(label).alias("zoo"), pl.all())


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
        zoos: See `evaluate`.
        images: See `evaluate`.
        r2: Sums for R2 of the reconstruction, by the label of the zoos.
        metrics: One frame per zoo and epoch: `zoo`, `member`, `origin` (number of the dense member
            from which it comes), `epoch`, `part` and properties of all states.
        features: One array [members, ...] per epoch, by the name of the features.
        functional: Frames of the functional fidelity of the test split.
        pairs: Frames of scatter pairs of the test split.
    """

    representation: Representation
    zoos: Sequence[Zoo]
    images: Sequence[ImageSet | None]
    r2: dict[str, R2Accumulator] = field(default_factory=dict)
    metrics: list[pl.DataFrame] = field(default_factory=list)
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    functional: list[pl.DataFrame] = field(default_factory=list)
    pairs: list[pl.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.r2 = {label: R2Accumulator() for label in groups(self.representation.config)}
        self._origins = number_origins(self.zoos)

    def add_epoch(self, position: int, epoch: int) -> None:
        """Reads and reconstructs the states of all parts of the split of a zoo at an epoch."""
        config, codec = self.representation.config, self.representation.codec
        zoo, entry, label = self.zoos[position], config.zoos[position], config.labels[position]
        parts = entry.members._asdict()
        states = read_samples(
            *(zoo, entry.all_members, [epoch]),
            alphas_of=config.alphas_of,
            variational=config.variational,
        )
        part = pl.Series("part", [name for name, part in parts.items() for _ in part])
        origin = pl.Series("origin", [self._origins[position][m] for m in entry.all_members])
        columns = dict.fromkeys(("member", "epoch", *PROPERTIES))
        self.metrics.append(
            states.table.select(pl.lit(label).alias("zoo"), *columns).with_columns(part, origin)
        )
        for name, x in _features(self.representation, states.weights).items():
            self.features.setdefault(name, []).append(x)
        weights, alphas = self.representation.reconstruct(states.weights)
        true_alphas = states.alphas if codec.variational else None
        true = r2_inputs(codec, states.weights, true_alphas)
        reconstructed = r2_inputs(codec, weights, alphas)
        for name in parts:
            rows = np.flatnonzero(part == name)
            values = _take_rows(true, rows), _take_rows(reconstructed, rows)
            for group in self.r2:
                if group in (label, ALL_ZOOS):
                    self.r2[group].add(name, origin.to_numpy()[rows], *values)
        test = np.flatnonzero(part == "test")
        max_pairs = -(-PAIRS // sum(len(each.epochs) for each in config.zoos))
        rng = np.random.default_rng([position, epoch])
        shown = {key: x[test] for key, x in true.items() if key[0] != ALPHAS}
        self.pairs += scatter_pairs(shown, _take_rows(reconstructed, test), max_pairs, rng)
        images = self.images[position]
        if images is not None:
            self._add_functional(position, images, states, (weights, alphas), test)

    def _add_functional(
        self,
        position: int,
        images: ImageSet,
        states: Samples,
        reconstructed: tuple,
        rows: np.ndarray,
    ) -> None:
        """Runs the states of some rows: with all weights and, if any, thresholded by log alphas."""
        zoo, label = self.zoos[position], self.representation.config.labels[position]
        kinds = {False: (states.weights, reconstructed[0])}
        if states.alphas is not None and reconstructed[1] is not None:
            kinds[True] = (
                zero_above_threshold(states.weights, states.alphas),
                zero_above_threshold(*reconstructed),
            )
        for thresholded, params in kinds.items():
            original, copy = (population.take(each, rows) for each in params)
            measured = functional_fidelity(zoo, images.test, states.table[rows], original, copy)
            measured = measured.with_columns(thresholded=pl.lit(thresholded))
            self.functional.append(_labeled(measured, label))


def _features(representation: Representation, weights: dict) -> dict[str, np.ndarray]:
    """Returns the features of states by name, [members, ...] each."""
    embeddings = {
        EMBEDDING: representation.embed(weights),
        _AVERAGED: representation.embed(weights, views=_VIEWS),
    }
    if not all(np.isfinite(z).all() for z in embeddings.values()):
        raise ZoojaxError(f"{representation.path} produces embeddings that are not finite")
    size = representation.codec.module.global_size
    if size < embeddings[EMBEDDING].shape[1]:
        embeddings[_GLOBAL] = embeddings[EMBEDDING][:, :size]
    layout = vector_layout(representation.config.shape)
    return {
        **embeddings,
        predictors.WEIGHTS: layout.flatten({PARAMS: weights}),
        predictors.STATISTICS: layer_statistics(weights),
    }


def _take_rows(values: LayerValues, rows: np.ndarray) -> LayerValues:
    return {key: x[rows] for key, x in values.items()}


def _project(metrics: pl.DataFrame, embeddings: np.ndarray) -> pl.DataFrame:
    """Adds the first two principal components of the embeddings as columns x and y."""
    # Imported here because importing scikit-learn takes seconds.
    from sklearn.decomposition import PCA

    train = embeddings[(metrics["part"] == "train").to_numpy()]
    # One-dimensional embeddings have no second component.
    pca = PCA(min(2, *train.shape), random_state=0).fit(train)
    projected = np.zeros((len(embeddings), 2))
    projected[:, : pca.n_components_] = pca.transform(embeddings)
    return metrics.with_columns(x=pl.Series(projected[:, 0]), y=pl.Series(projected[:, 1]))


def _summary(tables: dict[str, pl.DataFrame], zoos: Sequence[Zoo]) -> pl.DataFrame:
    """Returns R2 on the test split with the columns of the paper's Table 3, and its intervals.

    If the paper reports a zoo of the same preset and images, its row comes first, without
    intervals.
    """
    rows = []
    for name in dict.fromkeys(map(_name_in_paper, zoos)):
        published = published_representations().filter(zoo=name)
        rows += [
            {**row, "zoo": f"{row['zoo']} (paper)", "features": EMBEDDING}
            for row in published.to_dicts()
        ]
    quantities = pl.col("quantity").is_in((WEIGHTS, ALPHAS))
    reconstruction = tables["reconstruction"].filter(quantities, part="test", layer=ALL)
    properties = tables["properties"].filter(scope=ALL_STATES)
    for zoo, features in properties.select("zoo", "features").unique(maintain_order=True).rows():
        row = {"zoo": zoo, "features": features}
        if features == EMBEDDING:
            for measured in reconstruction.filter(zoo=zoo).to_dicts():
                row |= _renamed(measured, measured["quantity"])
        for measured in properties.filter(zoo=zoo, features=features).to_dicts():
            row |= _renamed(measured, COLUMNS[measured["property"]])
        rows.append(row)
    values = [c for name in (WEIGHTS, ALPHAS, *COLUMNS.values()) for c in interval_columns(name)]
    schema = dict.fromkeys(("zoo", "features"), pl.String) | dict.fromkeys(values, pl.Float64)
    return pl.DataFrame(rows, schema=schema)


def _name_in_paper(zoo: Zoo) -> str:
    """Returns the name of a zoo in the paper's tables; empty if it is not in the paper."""
    preset = presets.preset_of(zoo)
    in_paper = preset is not None and zoo.config.data in (None, preset.data)
    return (zoo.config.preset or "") if in_paper else ""


def _renamed(row: dict, name: str) -> dict[str, float | None]:
    """R2 and the ends of its interval under the names of another column."""
    return dict(zip(interval_columns(name), (row[c] for c in interval_columns("r2")), strict=True))
