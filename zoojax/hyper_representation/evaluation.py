"""All that is measured of a hyper-representation: tables by name."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from zoojax import presets
from zoojax.analysis.layer_statistics import layer_statistics
from zoojax.analysis.paper import published_representations
from zoojax.datasets.specs import ImageSet
from zoojax.errors import ZoojaxError
from zoojax.hyper_representation.dataset import PROPERTIES, read
from zoojax.hyper_representation.evaluated import COLUMNS, PAIRS, TABLES, Evaluation, check
from zoojax.hyper_representation.probes import Parts, probe_table
from zoojax.hyper_representation.reconstruction import (
    ALL,
    ALPHAS,
    WEIGHTS,
    Numbers,
    R2Accumulator,
    flatten_layers,
    functional_fidelity,
    r2_inputs,
    scatter,
    thresholded,
)
from zoojax.hyper_representation.representation import Representation
from zoojax.runtime import population
from zoojax.storage.zoo import Zoo

EMBEDDING = "embedding"
# Orders of the hidden units that the embeddings of a second row of probes are the mean of.
_VIEWS = 8
Step = Callable[[str], None]


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
    walk = _EvaluationPass(representation, zoo, images)
    _check_epochs(representation, zoo)
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
    tables["summary"] = _summary(tables, zoo)
    check(representation.config, tables)
    return Evaluation({name: tables[name] for name in TABLES if name in tables})


def _check_epochs(representation: Representation, zoo: Zoo) -> None:
    """Raises ZoojaxError unless a zoo has what the hyper-representation was learned from."""
    of = representation.config.alphas_of
    needed = [*representation.config.epochs, *([] if of is None else [of])]
    for epoch in needed:
        if epoch not in zoo.epochs:
            raise ZoojaxError(
                f"{zoo.path} has no epoch {epoch}, which {representation.path} was learned from"
            )


@dataclass
class _EvaluationPass:
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
    fidelity: R2Accumulator = field(default_factory=R2Accumulator)
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
        true, guess = r2_inputs(codec, states.weights, known), r2_inputs(codec, weights, alphas)
        for name in parts:
            rows = np.flatnonzero(part == name)
            self.fidelity.add(name, _rows(true, rows), _rows(guess, rows))
        held = np.flatnonzero(part == "test")
        most = -(-PAIRS // len(config.epochs))
        rng = np.random.default_rng(epoch)
        shown = {key: x[held] for key, x in true.items() if key[0] != ALPHAS}
        self.pairs += scatter(shown, _rows(guess, held), most, rng)
        if self.images is not None:
            original = population.take(thresholded(states.weights, known), held)
            copy = population.take(thresholded(weights, alphas), held)
            table = states.table[held]
            self.functional.append(
                functional_fidelity(self.zoo, self.images.test, table, original, copy)
            )


def _features(representation: Representation, weights: dict) -> dict[str, np.ndarray]:
    """What properties are probed from, [members, ...] by name."""
    raw = flatten_layers(weights)
    embeddings = {
        EMBEDDING: representation.embed(weights),
        f"{EMBEDDING}, mean of {_VIEWS} orders": representation.embed(weights, views=_VIEWS),
    }
    if not all(np.isfinite(z).all() for z in embeddings.values()):
        raise ZoojaxError(f"{representation.path} gives embeddings that are not finite")
    return {
        **embeddings,
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


def _summary(tables: dict[str, pl.DataFrame], zoo: Zoo) -> pl.DataFrame:
    """R2 of the test split in the columns of the paper's Table 3.

    The paper's own row comes first where there is one of the zoo's preset and images.
    """
    chosen = presets.preset_of(zoo)
    same = chosen is not None and zoo.config.data in (None, chosen.data)
    published = published_representations().filter(zoo=zoo.config.preset if same else "")
    published = published.with_columns(
        pl.format("{} (paper)", "zoo").alias("zoo"), pl.lit(EMBEDDING).alias("features")
    )
    whole = tables["reconstruction"].filter(part="test", layer=ALL)
    reconstructed = dict(whole.select("quantity", "r2").iter_rows())
    rows = []
    for features in tables["properties"]["features"].unique(maintain_order=True):
        told = tables["properties"].filter(features=features)
        row = {COLUMNS[p]: r2 for p, r2 in told.select("property", "r2").iter_rows()}
        if features == EMBEDDING:
            row |= {n: reconstructed.get(n) for n in (WEIGHTS, ALPHAS)}
        rows.append({"zoo": zoo.config.name, "features": features, **row})
    columns = ["zoo", "features", WEIGHTS, ALPHAS, *COLUMNS.values()]
    schema = {c: pl.String if c in ("zoo", "features") else pl.Float64 for c in columns}
    return pl.concat([published.select(columns), pl.DataFrame(rows, schema=schema)])
