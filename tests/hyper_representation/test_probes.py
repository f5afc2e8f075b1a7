"""Ridge probes compared with the closed form, for both Gram matrices."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import r2_score

from zoojax.analysis.rank_correlation import kendall
from zoojax.hyper_representation import probes
from zoojax.hyper_representation.dataset import PROPERTIES
from zoojax.hyper_representation.probes import PENALTIES, SplitArrays, fit_probes


def random_data(
    features: int, targets: int = 3, constant: bool = False
) -> tuple[SplitArrays, SplitArrays]:
    """Unstandardized float32 features of 60, 40 and 50 samples, and targets that depend on them."""
    rng = np.random.default_rng(features)
    scale = 10.0 ** rng.uniform(-3, 3, features)
    truth = rng.standard_normal((features, targets)) / np.sqrt(features)

    def part(n: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal((n, features))
        y = 5 + x @ truth + 0.3 * rng.standard_normal((n, targets))
        x = 2 * scale + x * scale
        if constant:
            x[:, 0] = 0.1
        return x.astype(np.float32), y

    sets = [part(n) for n in (60, 40, 50)]
    return SplitArrays(*(x for x, _ in sets)), SplitArrays(*(y for _, y in sets))


def closed_form(x: SplitArrays, y: np.ndarray, penalty: float) -> list[np.ndarray]:
    """Predictions for all splits by solving the normal equations for one penalty."""
    wide = [part.astype(np.float64) for part in x]
    mean, std = wide[0].mean(0), wide[0].std(0)
    wide = [(part - mean) / np.where(std > 1e-12, std, np.inf) for part in wide]
    n, d = wide[0].shape
    gram = wide[0].T @ wide[0] / n + penalty * np.eye(d)
    weights = np.linalg.solve(gram, wide[0].T @ (y - y.mean()) / n)
    return [part @ weights + y.mean() for part in wide]


@pytest.mark.parametrize("features", [7, 59, 200])
@pytest.mark.parametrize("constant", [False, True])
def test_probe_matches_closed_form_at_best_validation_penalty(features, constant):
    x, y = random_data(features, constant=constant)
    for i, result in enumerate(fit_probes(x, y)):
        assert result is not None
        errors = [
            np.square(closed_form(x, y.train[:, i], p)[1] - y.val[:, i]).mean() for p in PENALTIES
        ]
        assert result.penalty == PENALTIES[np.argmin(errors)]
        predicted = closed_form(x, y.train[:, i], result.penalty)[2]
        assert result.r2 == pytest.approx(r2_score(y.test[:, i], predicted), abs=1e-9)
        tau = kendall(y.test[:, i], predicted)
        assert result.tau == pytest.approx(tau, abs=1e-12)


def test_block_size_does_not_change_probes(monkeypatch):
    for features in (50, 150):
        x, y = random_data(features)
        expected = fit_probes(x, y)
        monkeypatch.setattr(probes, "_BLOCK", 7)
        for result, reference in zip(fit_probes(x, y), expected, strict=True):
            assert reference == pytest.approx(result, rel=1e-9)
        monkeypatch.undo()


def test_constant_or_nan_targets_have_no_probe():
    x, y = random_data(10, targets=5)
    y.train[:, 0] = 1.0
    y.test[:, 1] = 1.0
    y.val[3, 2] = np.nan
    results = fit_probes(x, y)
    assert results[:3] == [None, None, None]
    assert all(result is not None and result.r2 > 0.5 for result in results[3:])
    assert fit_probes(x, SplitArrays(*(part[:, :1] * 0 for part in y))) == [None]


def test_uninformative_features_predict_the_mean():
    x, y = random_data(10, targets=1)
    rng = np.random.default_rng(0)
    noise = SplitArrays(*(rng.standard_normal(part.shape) for part in x))
    (result,) = fit_probes(noise, y)
    assert result is not None and -0.2 < result.r2 < 0.1 and result.penalty >= 0.1
    (result,) = fit_probes(SplitArrays(*(np.ones_like(part) for part in x)), y)
    assert result is not None and result.tau is None and -0.2 < result.r2 <= 0


def test_table_has_one_row_per_features_and_property():
    x, y = random_data(10, targets=4)
    y.train[:, 2] = 0.0
    table = probes.probe_table({"embedding": x, "weights": SplitArrays(*(p[:, :3] for p in x))}, y)
    assert table["features"].to_list() == ["embedding"] * 4 + ["weights"] * 4
    assert table["property"].to_list() == [*PROPERTIES] * 2
    unknown = table.filter(pl.col("property") == "epoch").select("r2", "tau", "lambda")
    assert unknown.null_count().row(0) == (2, 2, 2)
    assert table["r2"].drop_nulls().len() == 6
