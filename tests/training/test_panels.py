"""Whole genes missing for a batch: as a query that lacks them, in half of the batches."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.nn import MaskingNoise, NoCorruption
from scquery_ae.training import PanelNoise
from scquery_ae.transform import Transform


@pytest.fixture
def cells():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1.5, (30, 200)).astype("float32"))
    columns = GeneColumns(counts, np.arange(200))
    transform = Transform.fit(columns, np.array([f"g{i}" for i in range(200)], dtype=object))
    return counts, CellRows.read(columns, transform)


def cut(cells, noise):
    """Return the first batch that is cut, the genes it hides, and how often batches are cut."""
    _, rows = cells
    batch = rows.take(np.arange(30))
    results = [noise(batch, np.random.default_rng(seed)) for seed in range(200)]
    dense = [result for result in results if isinstance(result, np.ndarray)]
    hidden = np.all(dense[0] == rows.transform.mean, axis=0)
    return dense[0], hidden, len(dense)


def test_a_cut_batch_is_what_a_query_without_the_genes_would_be(cells):
    counts, rows = cells
    noisy, hidden, _ = cut(cells, PanelNoise(rows.transform, 0.5, then=NoCorruption()))
    assert 0 < hidden.sum() < 150
    seen = rows.dense(noisy)
    assert np.all(seen[:, hidden] == 0)
    # The same cells from a file that lacks these genes, by hand.
    kept = counts.toarray()[:, ~hidden]
    target = rows.transform.target_sum * rows.transform.fraction[~hidden].sum()
    by_hand = np.log1p(kept / kept.sum(axis=1, keepdims=True) * target) - rows.transform.mean[~hidden]
    np.testing.assert_allclose(seen[:, ~hidden], by_hand, atol=1e-5)


def test_half_of_the_batches_are_cut(cells):
    noise = PanelNoise(cells[1].transform, 0.9, then=NoCorruption())
    *_, n_cut = cut(cells, noise)
    low, high = stats.binom.interval(0.999, 200, 0.5)
    assert low <= n_cut <= high


def test_shares_reach_from_none_to_the_highest(cells):
    _, rows = cells
    noise, batch = PanelNoise(rows.transform, 0.6, then=NoCorruption()), rows.take(np.arange(30))
    results = [noise(batch, np.random.default_rng(seed)) for seed in range(300)]
    shares = [np.mean(np.all(r == rows.transform.mean, axis=0)) for r in results if isinstance(r, np.ndarray)]
    assert min(shares) < 0.1
    assert 0.5 < max(shares) < 0.72


def test_values_that_are_left_are_masked_too(cells):
    _, rows = cells
    noisy, hidden, _ = cut(cells, PanelNoise(rows.transform, 0.5, then=MaskingNoise(0.4)))
    stored = rows.take(np.arange(30)).toarray()[:, ~hidden] > 0
    n_kept = (noisy[:, ~hidden] > 0).sum()
    low, high = stats.binom.interval(0.999, int(stored.sum()), 0.6)
    assert low <= n_kept <= high


def test_without_gene_masking_there_is_masking_alone(cells):
    _, rows = cells
    batch = rows.take(np.arange(30))
    noise = PanelNoise(rows.transform, 0.0, then=MaskingNoise(0.3))
    for seed in range(20):
        expected = MaskingNoise(0.3)(batch, np.random.default_rng(seed))
        assert (noise(batch, np.random.default_rng(seed)) != expected).nnz == 0


def test_the_clean_batch_is_left_alone(cells):
    _, rows = cells
    batch = rows.take(np.arange(30))
    before = batch.copy()
    for seed in range(6):
        PanelNoise(rows.transform, 0.5, then=MaskingNoise(0.3))(batch, np.random.default_rng(seed))
    assert (batch != before).nnz == 0
