"""Principal components, against scikit-learn on dense matrices."""

import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from scquery_ae.training import components, principal_components


def logged(n, d, seed=0, n_groups=8):
    """Log-normalised counts of groups of cells, sparse, genes of very different spread."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(0.5, 2, (n_groups, d)) * np.geomspace(0.02, 5, d)
    counts = rng.poisson(profiles[np.arange(n) % n_groups])
    return sparse.csr_matrix(np.log1p(counts), dtype=np.float32)


def dense_scale(x):
    return 1 / np.sqrt(x.var(axis=0) + 0.05**2)


@pytest.mark.parametrize(("n", "d", "expected"), [(300, 90, 50), (300, 20, 20), (12, 40, 11), (2, 5, 1)])
def test_the_same_as_scikit_learn_on_the_dense_scaled_matrix(n, d, expected):
    sparse_rows = logged(n, d)
    x = sparse_rows.toarray().astype(float)
    scale = dense_scale(x)
    found = principal_components(sparse_rows)
    assert found.shape == (d, expected)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    fitted = PCA(expected, svd_solver="full").fit(x * scale)
    # Undoing the scale of genes leaves orthogonal directions of one length, those of scikit-learn but for their sign.
    directions = found / scale[:, None]
    lengths = np.linalg.norm(directions, axis=0)
    np.testing.assert_allclose(lengths, 1 / np.sqrt(fitted.explained_variance_.mean()), rtol=1e-4)
    overlap = (directions / lengths).T @ fitted.components_.T
    np.testing.assert_allclose(np.linalg.svd(overlap, compute_uv=False), 1, atol=1e-4)
    np.testing.assert_allclose(np.abs(np.diag(overlap))[:3], 1, atol=1e-3)
    variance = (x @ found).var(axis=0, ddof=1)
    assert variance.mean() == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(variance, fitted.explained_variance_ / fitted.explained_variance_.mean(), rtol=1e-3)


def test_genes_that_are_hardly_seen_are_not_blown_up():
    x = np.zeros((400, 3))
    x[::2, 0] = 2
    x[:2, 1] = 0.01
    found = principal_components(sparse.csr_matrix(x, dtype=np.float32))
    assert found.shape == (3, 3)
    fraction = (x @ found).var(axis=0)
    # One direction holds nearly all: the second gene has been divided by .05, not by its own spread.
    assert np.sort(fraction)[-1] > 0.99 * fraction.sum()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("x", [np.zeros((6, 4)), np.tile([0.0, 1.5, 0.2, 3.0], (6, 1))])
def test_cells_that_do_not_differ_have_finite_components(x):
    rows = sparse.csr_matrix(x, dtype=np.float32)
    found = principal_components(rows)
    assert np.isfinite(found).all()
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(centred @ found, 0, atol=1e-5)
    # A cell that does differ stays within what float32 can square.
    assert np.abs((x[0] + 1) @ found).max() < 1e6


def test_many_cells_are_thinned_out_evenly(monkeypatch):
    rows = logged(500, 30)
    monkeypatch.setattr(components, "MAX_CELLS", 60)
    found = principal_components(rows)
    chosen = np.linspace(0, 499, 60).astype(int)
    assert len(set(chosen)) == 60
    np.testing.assert_array_equal(found, principal_components(rows[chosen]))
    monkeypatch.setattr(components, "MAX_CELLS", 500)
    assert np.abs(principal_components(rows) - found).max() > 1e-3


def test_of_cells_that_are_left_out_no_copy_is_made(monkeypatch):
    monkeypatch.setattr(components, "MAX_CELLS", 50)
    rows = sparse.csr_matrix(np.random.default_rng(0).random((20_000, 100)).astype(np.float32))
    principal_components(rows[:60])  # Imports do not count.
    before = rows.data.copy()
    tracemalloc.start()
    try:
        principal_components(rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # All values in float64 would be 16 MB, and in float32 half of that.
    assert rows.data.nbytes == 8_000_000
    assert peak < 2_000_000
    np.testing.assert_array_equal(rows.data, before)


def test_the_scale_of_a_gene_does_not_matter_and_labels_are_not_asked_for():
    rows = logged(200, 15)
    factors = np.geomspace(2, 200, 15).astype(np.float32)
    # Scaled up, the least spread of .05 is next to nothing for all genes.
    one = principal_components((rows * 100).tocsr())
    other = principal_components((rows * 100).tocsr() @ sparse.diags(factors).tocsr())
    mine = rows.toarray() * 100
    np.testing.assert_allclose(np.abs(mine @ one)[:, :3], np.abs(mine * factors @ other)[:, :3], rtol=1e-2, atol=1e-2)
