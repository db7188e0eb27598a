"""Gene-panel dropout: genes are missing for half of the batches, as in a query that lacks them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from scquery_ae.dense import DenseWeights
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.nn import MaskingNoise, NoCorruption
from scquery_ae.training import FinetuneSettings, GenePanelDropout, finetune_encoder
from scquery_ae.transform import Transform


@pytest.fixture
def cells():
    counts = sparse.csr_matrix(np.random.default_rng(0).poisson(1.5, (30, 200)).astype("float32"))
    columns = GeneColumns(counts, np.arange(200))
    transform = Transform.fit(columns, np.array([f"g{i}" for i in range(200)], dtype=object))
    return counts, CellRows.read(columns, transform)


def cut(cells, noise):
    """Return the first batch with hidden genes, these genes, and the number of such batches."""
    _, rows = cells
    batch = rows.take(np.arange(30))
    results = [noise(batch, np.random.default_rng(seed)) for seed in range(200)]
    dense = [result for result in results if isinstance(result, np.ndarray)]
    hidden = np.all(dense[0] == rows.transform.mean, axis=0)
    return dense[0], hidden, len(dense)


def test_a_batch_without_genes_equals_a_query_without_them(cells):
    counts, rows = cells
    noisy, hidden, _ = cut(cells, GenePanelDropout(rows.transform, (0.0, 0.5), then=NoCorruption()))
    assert 0 < hidden.sum() < 150
    seen = rows.dense(noisy)
    assert np.all(seen[:, hidden] == 0)
    # The same cells from a file that lacks these genes, by hand.
    kept = counts.toarray()[:, ~hidden]
    target = rows.transform.target_sum * rows.transform.fraction[~hidden].sum()
    by_hand = np.log1p(kept / kept.sum(axis=1, keepdims=True) * target) - rows.transform.mean[~hidden]
    np.testing.assert_allclose(seen[:, ~hidden], by_hand, atol=1e-5)


def test_half_of_the_batches_lose_genes(cells):
    noise = GenePanelDropout(cells[1].transform, (0.0, 0.9), then=NoCorruption())
    *_, n_cut = cut(cells, noise)
    low, high = stats.binom.interval(0.999, 200, 0.5)
    assert low <= n_cut <= high


def test_fractions_reach_from_none_to_the_highest(cells):
    _, rows = cells
    noise, batch = GenePanelDropout(rows.transform, (0.0, 0.6), then=NoCorruption()), rows.take(np.arange(30))
    results = [noise(batch, np.random.default_rng(seed)) for seed in range(300)]
    fractions = [np.mean(np.all(r == rows.transform.mean, axis=0)) for r in results if isinstance(r, np.ndarray)]
    assert min(fractions) < 0.1
    assert 0.5 < max(fractions) < 0.72


def test_values_that_are_left_are_masked_too(cells):
    _, rows = cells
    noisy, hidden, _ = cut(cells, GenePanelDropout(rows.transform, (0.0, 0.5), then=MaskingNoise(0.4)))
    stored = rows.take(np.arange(30)).toarray()[:, ~hidden] > 0
    n_kept = (noisy[:, ~hidden] > 0).sum()
    low, high = stats.binom.interval(0.999, int(stored.sum()), 0.6)
    assert low <= n_kept <= high


def test_without_gene_masking_there_is_masking_alone(cells):
    _, rows = cells
    batch = rows.take(np.arange(30))
    noise = GenePanelDropout(rows.transform, (0.0, 0.0), then=MaskingNoise(0.3))
    for seed in range(20):
        expected = MaskingNoise(0.3)(batch, np.random.default_rng(seed))
        assert (noise(batch, np.random.default_rng(seed)) != expected).nnz == 0


def test_the_clean_batch_is_left_alone(cells):
    _, rows = cells
    batch = rows.take(np.arange(30))
    before = batch.copy()
    for seed in range(6):
        GenePanelDropout(rows.transform, (0.0, 0.5), then=MaskingNoise(0.3))(batch, np.random.default_rng(seed))
    assert (batch != before).nnz == 0


@pytest.mark.parametrize(("lowest", "highest"), [(0.3, 0.8), (0.5, 0.5), (0.0, 0.2)])
def test_fractions_lie_between_the_lowest_and_the_highest(cells, lowest, highest):
    _, rows = cells
    noise = GenePanelDropout(rows.transform, (lowest, highest), then=NoCorruption())
    batch = rows.take(np.arange(30))
    results = [noise(batch, np.random.default_rng(seed)) for seed in range(300)]
    fractions = [np.mean(np.all(r == rows.transform.mean, axis=0)) for r in results if isinstance(r, np.ndarray)]
    # Each of the 200 genes is drawn by itself: at a fraction of one half, four standard deviations are 0.14.
    assert lowest - 0.14 < min(fractions) < lowest + 0.08
    assert highest - 0.08 < max(fractions) < highest + 0.14
    # Evenly in between.
    spread = np.hypot((highest - lowest) / np.sqrt(12), 0.035)
    assert abs(np.mean(fractions) - (lowest + highest) / 2) < 4 * spread / np.sqrt(len(fractions))


# What it is for.

N_GENES, N_TYPES = 300, 5


def redundant(n, seed):
    """Return counts of types with sixty markers each, a gene marking several of them, and the types."""
    biology = np.random.default_rng(99)
    rates = np.tile(biology.gamma(1.0, 1.0, N_GENES) + 0.1, (N_TYPES, 1))
    for i in range(N_TYPES):
        rates[i, biology.permutation(N_GENES)[:60]] *= 4
    types = np.arange(n) % N_TYPES
    return np.random.default_rng(seed).poisson(rates[types]).astype("float32"), types


def losses_of_accuracy(seed):
    """Return how much accuracy is lost when a query has a tenth of the genes, without and with masked panels."""
    counts, types = redundant(250, seed)
    columns = GeneColumns(sparse.csr_matrix(counts), np.arange(N_GENES))
    genes = np.array([f"g{i}" for i in range(N_GENES)], dtype=object)
    rows = CellRows.read(columns, Transform.fit(columns, genes))
    rng = np.random.default_rng(seed)
    kernels = [(rng.normal(size=(d, k)) / np.sqrt(d)).astype("float32") for d, k in ((N_GENES, 32), (32, 8))]
    layers = tuple(
        DenseWeights(kernel, np.zeros(kernel.shape[1], "float32"), activation)
        for kernel, activation in zip(kernels, ("relu", "linear"), strict=True)
    )
    start = Encoder(rows.transform, layers)
    query, expected = redundant(500, seed + 50)
    panels = [np.random.default_rng([seed, panel]).random(N_GENES) < 0.1 for panel in range(10)]
    lost = []
    for masking in (0.0, 0.9):
        settings = FinetuneSettings(
            gene_masking=masking, epochs=12, batch_size=25, learning_rate=3e-3, random_state=seed
        )
        result = finetune_encoder(start, rows, types, np.zeros(len(types), bool), tuple("abcde"), settings)
        encoder = Encoder(start.transform, result.layers, result.classifier)
        whole = (encoder.classify(encoder.encode(query)).argmax(axis=1) == expected).mean()
        assert whole > 0.97, "with all genes there is nothing to be lost"
        cut = [
            (encoder.classify(encoder.encode(np.where(panel, query, 0), panel)).argmax(axis=1) == expected).mean()
            for panel in panels
        ]
        lost.append(whole - np.mean(cut))
    return lost


@pytest.mark.slow
@pytest.mark.backend
def test_less_is_lost_with_a_small_panel():
    without, masked = np.array([losses_of_accuracy(seed) for seed in range(3)]).T
    # A tenth of the genes does not give the types away: there is something to be gained.
    assert without.min() > 0.1, without
    assert (without - masked).min() > 0, (without, masked)
    assert (without - masked).mean() > 0.04, (without, masked)
