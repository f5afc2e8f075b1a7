"""Ridge probes against the closed form, whichever Gram matrix they take."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import r2_score

from zoojax.analysis.rank_correlation import kendall
from zoojax.hyper_representation import probes
from zoojax.hyper_representation.dataset import PROPERTIES
from zoojax.hyper_representation.probes import PENALTIES, Parts, probe


def made(features: int, targets: int = 3, constant: bool = False) -> tuple[Parts, Parts]:
    """60, 40 and 50 samples of float32 features far from standard, and targets of them."""
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
    return Parts(*(x for x, _ in sets)), Parts(*(y for _, y in sets))


def closed_form(x: Parts, y: np.ndarray, penalty: float) -> list[np.ndarray]:
    """Predictions of all three parts, by solving for one penalty."""
    wide = [part.astype(np.float64) for part in x]
    mean, deviation = wide[0].mean(0), wide[0].std(0)
    wide = [(part - mean) / np.where(deviation > 1e-12, deviation, np.inf) for part in wide]
    n, d = wide[0].shape
    gram = wide[0].T @ wide[0] / n + penalty * np.eye(d)
    weights = np.linalg.solve(gram, wide[0].T @ (y - y.mean()) / n)
    return [part @ weights + y.mean() for part in wide]


@pytest.mark.parametrize("features", [7, 59, 200])
@pytest.mark.parametrize("constant", [False, True])
def test_a_probe_is_the_closed_form_at_the_penalty_best_on_validation(features, constant):
    x, y = made(features, constant=constant)
    for i, found in enumerate(probe(x, y)):
        assert found is not None
        errors = [
            np.square(closed_form(x, y.train[:, i], p)[1] - y.val[:, i]).mean() for p in PENALTIES
        ]
        assert found.penalty == PENALTIES[np.argmin(errors)]
        guess = closed_form(x, y.train[:, i], found.penalty)[2]
        assert found.r2 == pytest.approx(r2_score(y.test[:, i], guess), abs=1e-9)
        tau = kendall(y.test[:, i], guess)
        assert found.tau == pytest.approx(tau, abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    for features in (50, 150):
        x, y = made(features)
        whole = probe(x, y)
        monkeypatch.setattr(probes, "_BLOCK", 7)
        for one, other in zip(whole, probe(x, y), strict=True):
            assert one == pytest.approx(other, rel=1e-9)
        monkeypatch.undo()


def test_what_does_not_vary_or_is_not_known_is_not_told():
    x, y = made(10, targets=5)
    y.train[:, 0] = 1.0
    y.test[:, 1] = 1.0
    y.val[3, 2] = np.nan
    found = probe(x, y)
    assert found[:3] == [None, None, None]
    assert all(one is not None and one.r2 > 0.5 for one in found[3:])
    assert probe(x, Parts(*(part[:, :1] * 0 for part in y))) == [None]


def test_features_that_say_nothing_shrink_to_the_mean():
    x, y = made(10, targets=1)
    rng = np.random.default_rng(0)
    noise = Parts(*(rng.standard_normal(part.shape) for part in x))
    (found,) = probe(noise, y)
    assert found is not None and -0.2 < found.r2 < 0.1 and found.penalty >= 0.1
    (found,) = probe(Parts(*(np.ones_like(part) for part in x)), y)
    assert found is not None and found.tau is None and -0.2 < found.r2 <= 0


def test_the_table_has_a_row_a_kind_of_features_and_property():
    x, y = made(10, targets=4)
    y.train[:, 2] = 0.0
    found = probes.probe_table({"embedding": x, "weights": Parts(*(p[:, :3] for p in x))}, y)
    assert found["features"].to_list() == ["embedding"] * 4 + ["weights"] * 4
    assert found["property"].to_list() == [*PROPERTIES] * 2
    unknown = found.filter(pl.col("property") == "epoch").select("r2", "tau", "lambda")
    assert unknown.null_count().row(0) == (2, 2, 2)
    assert found["r2"].drop_nulls().len() == 6
