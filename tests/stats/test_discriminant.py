"""Linear discriminant analysis on all or some of the genes, against SciPy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import multivariate_normal
from sklearn.metrics import log_loss

import scquery_ae as scq
from scquery_ae.stats import GeneDiscriminant
from scquery_ae.stats import discriminant as module

N_GENES, N_TYPES = 12, 3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def discriminant(rng):
    return GeneDiscriminant(
        center=rng.random(N_GENES).astype(np.float32),
        scale=(0.5 + rng.random(N_GENES)).astype(np.float32),
        means=rng.standard_normal((N_TYPES, N_GENES)).astype(np.float32),
        seen=np.ones(N_TYPES, dtype=bool),
        loadings=rng.standard_normal((N_GENES, 4)).astype(np.float32),
        noise=(0.2 + rng.random(N_GENES)).astype(np.float32),
    )


def cells(rng, n=200):
    """Log counts of cells, where each type has three genes with a higher rate, and the label codes."""
    labels = rng.integers(N_TYPES, size=n)
    rates = np.full((N_TYPES, N_GENES), 0.5)
    for code in range(N_TYPES):
        rates[code, code * 3 : code * 3 + 3] = 3
    return sparse.csr_matrix(np.log1p(rng.poisson(rates[labels])).astype(np.float32)), labels


@pytest.mark.parametrize("present", [None, np.arange(N_GENES) % 3 > 0])
def test_decision_is_the_log_density_of_the_measured_genes(discriminant, rng, present):
    logged, _ = cells(rng, 20)
    measured = np.ones(N_GENES, bool) if present is None else present
    units = ((logged.toarray() - discriminant.center) / discriminant.scale)[:, measured]
    covariance = (discriminant.loadings @ discriminant.loadings.T + np.diag(discriminant.noise))[
        np.ix_(measured, measured)
    ]
    expected = np.stack(
        [multivariate_normal(mean[measured], covariance).logpdf(units) for mean in discriminant.means], 1
    )
    received = discriminant.decision(logged, present)
    # The decision function omits a term that is the same for all types.
    np.testing.assert_allclose(received - received[:, :1], expected - expected[:, :1], rtol=1e-4, atol=1e-4)
    probabilities = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(discriminant.probabilities(received), probabilities, rtol=1e-3, atol=1e-6)


def test_values_of_missing_genes_do_not_matter(discriminant, rng):
    logged, _ = cells(rng, 20)
    present = np.arange(N_GENES) % 3 > 0
    changed = logged.toarray()
    changed[:, ~present] = 7
    np.testing.assert_array_equal(
        discriminant.decision(sparse.csr_matrix(changed), present), discriminant.decision(logged, present)
    )


def test_values_are_clipped_at_ten_scale_units(discriminant):
    limit = discriminant.center + 10 * discriminant.scale
    np.testing.assert_allclose(
        discriminant.decision(sparse.csr_matrix(limit[None])), discriminant.decision(sparse.csr_matrix(limit[None] + 5))
    )
    below = discriminant.decision(sparse.csr_matrix(limit[None] - 0.5))
    assert np.abs(below - discriminant.decision(sparse.csr_matrix(limit[None]))).max() > 0.1


def test_fit_equals_a_dense_computation(rng, monkeypatch):
    monkeypatch.setattr(module, "N_FACTORS", 2)
    monkeypatch.setattr(module, "DENSE_ROWS", 64)  # several blocks
    logged, labels = cells(rng)
    known = np.where(np.arange(200) % 5 == 0, -1, labels)
    fitted = GeneDiscriminant.fit(logged, known, N_TYPES)
    values, types = logged.toarray().astype(float)[known >= 0], known[known >= 0]
    center, scale = values.mean(axis=0), np.sqrt(values.var(axis=0) + 0.5**2)
    units = (np.minimum(values, center + 10 * scale) - center) / scale
    means = np.stack([units[types == code].mean(axis=0) for code in range(N_TYPES)])
    within = np.cov((units - means[types]).T, bias=True)
    eigenvalues, vectors = np.linalg.eigh(within)
    factors = 0.3 * (vectors[:, -2:] * eigenvalues[-2:]) @ vectors[:, -2:].T
    np.testing.assert_allclose(fitted.center, center, atol=1e-5)
    np.testing.assert_allclose(fitted.scale, scale, atol=1e-5)
    np.testing.assert_allclose(fitted.means, means, atol=1e-4)
    np.testing.assert_allclose(fitted.loadings @ fitted.loadings.T, factors, atol=1e-4)
    np.testing.assert_allclose(fitted.noise, np.diag(within - factors) + 0.1, atol=1e-4)
    assert fitted.seen.all()


def test_factors_of_many_genes_equal_those_of_a_full_eigendecomposition(rng):
    wide = rng.standard_normal((300, 250)) @ np.diag(np.linspace(0.1, 3, 250))
    covariance = np.cov(wide.T)
    values, vectors = np.linalg.eigh(covariance)
    received = module._factors(covariance)
    assert received.shape == (250, 50)
    expected = (vectors[:, -50:] * values[-50:]) @ vectors[:, -50:].T
    np.testing.assert_allclose(received @ received.T, expected, atol=1e-6)
    np.testing.assert_array_equal(received, module._factors(covariance))


def test_types_are_predicted_from_half_of_the_genes(rng):
    logged, labels = cells(rng, 600)
    fitted = GeneDiscriminant.fit(logged[:400], labels[:400], N_TYPES)
    held_out, truth = logged[400:], labels[400:]
    assert (fitted.decision(held_out).argmax(axis=1) == truth).mean() > 0.97
    half = np.arange(N_GENES) % 2 == 0
    assert (fitted.decision(held_out, half).argmax(axis=1) == truth).mean() > 0.8


def test_a_type_without_cells_has_probability_zero(rng):
    logged, labels = cells(rng)
    fitted = GeneDiscriminant.fit(logged, np.where(labels == 1, -1, labels), N_TYPES)
    assert fitted.seen.tolist() == [True, False, True]
    probabilities = fitted.probabilities(fitted.decision(logged))
    assert (probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Its held-out cells are ignored in the calibration.
    decision = fitted.decision(logged)
    known = labels != 1
    assert (
        fitted.calibrated(decision, labels).temperature == fitted.calibrated(decision[known], labels[known]).temperature
    )
    assert fitted.calibrated(decision[~known], labels[~known]) is fitted


def test_calibrated_temperature_minimizes_the_log_loss(discriminant, rng):
    truth = rng.integers(N_TYPES, size=500)
    decision = rng.standard_normal((500, N_TYPES)) * 20
    decision[np.arange(500), truth] += 15
    found = discriminant.calibrated(decision, truth)

    def loss(temperature):
        return log_loss(truth, replace(discriminant, temperature=temperature).probabilities(decision))

    grid = np.exp(np.linspace(0, 8, 400))
    assert loss(found.temperature) <= min(map(loss, grid)) + 1e-6
    assert found.temperature > 2


def test_the_fit_uses_a_stratified_subset_of_many_cells(monkeypatch):
    monkeypatch.setattr(module, "MAX_CELLS", 100)
    labels = np.repeat([0, 1, -1, 2], [900, 90, 500, 10])
    rows = module._stratified_rows(labels)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(labels[rows]).tolist() == [90, 50, 10]
    assert rows[labels[rows] == 0][[0, -1]].tolist() == [0, 899]
    monkeypatch.setattr(module, "MAX_CELLS", 2000)
    np.testing.assert_array_equal(module._stratified_rows(labels), np.flatnonzero(labels >= 0))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"center": np.zeros(3, np.float32)}, r"`center` must be an array of finite numbers of shape \(12\)"),
        (
            {"scale": np.zeros(N_GENES, np.float32)},
            r"a scale and a noise above 0 .* Received smallest values 0\.0 and 0\.2",
        ),
        ({"noise": np.full(N_GENES, -1, np.float32)}, r"and -1\.0, and 3 types with cells"),
        ({"noise": np.ones(N_GENES + 1, np.float32)}, "`noise` must be an array"),
        ({"loadings": np.ones((2, 2), np.float32)}, "`loadings` must be an array"),
        ({"seen": np.ones(2, dtype=bool)}, "`seen` must be an array"),
        ({"seen": np.zeros(N_TYPES, dtype=bool)}, "and 0 types with cells"),
        ({"temperature": 0.0}, r"`temperature` must be a number in \(0, inf\)"),
        ({"temperature": np.inf}, r"`temperature` must be a number in \(0, inf\)"),
        ({"temperature": -1.0}, r"`temperature` must be a number in \(0, inf\)"),
    ],
)
def test_wrong_parts_are_refused(discriminant, change, match):
    with pytest.raises(scq.ArgumentError, match=match):
        replace(discriminant, **change)
