"""Ridge probes compared with the closed form, for both Gram matrices."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from zoojax.hyper_representation import probes
from zoojax.hyper_representation.predictors import Prediction, SplitArrays
from zoojax.hyper_representation.probes import PENALTIES, Ridge


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


def predict(x: SplitArrays, y: SplitArrays) -> Prediction:
    return Ridge("features").predict(x, y)


@pytest.mark.parametrize("features", [7, 59, 200])
@pytest.mark.parametrize("constant", [False, True])
def test_probe_matches_closed_form_at_best_validation_penalty(features, constant):
    x, y = random_data(features, constant=constant)
    predicted, penalties = predict(x, y)
    assert penalties is not None and len(penalties) == y.test.shape[1]
    for i, penalty in enumerate(penalties):
        errors = [
            np.square(closed_form(x, y.train[:, i], p)[1] - y.val[:, i]).mean() for p in PENALTIES
        ]
        assert penalty == PENALTIES[np.argmin(errors)]
        expected = closed_form(x, y.train[:, i], penalty)[2]
        np.testing.assert_allclose(predicted[:, i], expected, rtol=1e-7)


def test_block_size_does_not_change_probes(monkeypatch):
    for features in (50, 150):
        x, y = random_data(features)
        expected = predict(x, y)
        monkeypatch.setattr(probes, "_BLOCK", 7)
        result = predict(x, y)
        np.testing.assert_allclose(result.test, expected.test, rtol=1e-8)
        assert result.penalties == expected.penalties
        monkeypatch.undo()


def test_targets_of_the_test_split_are_not_used():
    x, y = random_data(10)
    expected = predict(x, y)
    result = predict(x, y._replace(test=np.full_like(y.test, np.nan)))
    assert np.array_equal(result.test, expected.test)


def test_uninformative_features_predict_the_mean():
    x, y = random_data(10, targets=1)
    rng = np.random.default_rng(0)
    noise = SplitArrays(*(rng.standard_normal(part.shape) for part in x))
    predicted, penalties = predict(noise, y)
    assert -0.2 < r2_score(y.test, predicted) < 0.1
    assert penalties is not None and penalties[0] >= 0.1
    constant = SplitArrays(*(np.ones_like(part) for part in x))
    np.testing.assert_allclose(predict(constant, y).test, y.train.mean())
