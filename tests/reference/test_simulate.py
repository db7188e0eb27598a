"""Simulated queries: held-out cells of a reference with fewer genes and counts."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.special import softmax
from sklearn.metrics import f1_score

from scquery_ae.loaders import GeneColumns
from scquery_ae.reference import SimulationCells, simulate_query
from scquery_ae.reference.simulate import _thinned
from scquery_ae.reference.simulation_cells import MAX_CELLS, MAX_OF_TYPE


def predicted_by_hand(reference, adata, genes_by_hand):
    """Return the labels of the labelled held-out cells and leave-one-out predictions of them."""
    labels = reference.label_codes
    held_out = (adata.obs["scquery_split"] == "validation").to_numpy() & (labels >= 0)
    counts = adata[:, list(reference.encoder.genes)].layers["counts"].toarray()[held_out]
    latent = reference.encoder.encode(counts)
    neighbors = np.zeros((len(latent), 3))
    for row, cell in enumerate(np.flatnonzero(held_out)):
        others, kinds = np.delete(np.asarray(reference.embedding, float), cell, axis=0), np.delete(labels, cell)
        d = 1 - others @ latent[row]
        nearest = np.argsort(d)[:15]
        nearest = nearest[kinds[nearest] >= 0]
        weight = np.exp(-d[nearest] / d[nearest][2])
        votes = np.array([weight[kinds[nearest] == kind].sum() / weight.sum() for kind in range(3)])
        means = np.stack([others[kinds == kind].mean(axis=0) for kind in range(3)])
        centroids = softmax(40 * (means / np.linalg.norm(means, axis=1, keepdims=True)) @ latent[row])
        neighbors[row] = (len(nearest) * votes + (15 - len(nearest)) * centroids) / 15
    classifier = softmax(latent @ reference.encoder.classifier.kernel + reference.encoder.classifier.bias, axis=1)
    genes = genes_by_hand(reference.encoder, counts)
    return labels[held_out], (classifier + neighbors + 1.6 * genes).argmax(axis=1)


def randomized(reference):
    """Return the reference with a random classifier, discriminant and labels, where leaving a cell out matters."""
    rng = np.random.default_rng(0)
    classifier = replace(reference.encoder.classifier, kernel=(6 * rng.normal(size=(8, 3))).astype(np.float32))
    obs = reference.obs.copy()
    shuffled = obs.index[reference.label_codes >= 0]
    obs.loc[shuffled, "cell_type"] = [f"type {i}" for i in rng.integers(0, 3, len(shuffled))]
    means = rng.normal(size=(3, 100)).astype(np.float32)
    # A high temperature keeps the discriminant from deciding alone.
    discriminant = replace(reference.encoder.discriminant, means=means, temperature=50.0)
    encoder = replace(reference.encoder, classifier=classifier, discriminant=discriminant)
    return replace(reference, encoder=encoder, cells=replace(reference.cells, obs=obs))


def test_all_genes_and_counts_agree_with_a_computation_by_hand(trained, genes_by_hand):
    reference = randomized(trained.reference)
    truth, predicted = predicted_by_hand(reference, trained.adata, genes_by_hand)
    result = simulate_query(reference)
    assert 0.1 < (truth == predicted).mean() < 0.9
    assert result.accuracy == pytest.approx((truth == predicted).mean())
    f1 = f1_score(truth, predicted, average=None)
    assert result.f1 == pytest.approx({f"type {i}": f1[i] for i in range(3)})
    assert result.macro_f1 == pytest.approx(f1.mean())
    assert result.n_cells == {f"type {i}": (truth == i).sum() for i in range(3)}


def test_all_genes_and_a_large_depth_change_nothing(reference):
    full = simulate_query(reference)
    assert simulate_query(reference, present=np.ones(100, bool)) == full
    assert simulate_query(reference, depth=1e9) == full


def test_fewer_genes_lower_the_accuracy(reference):
    rng = np.random.default_rng(0)
    full = simulate_query(reference)
    few = [
        simulate_query(reference, present=np.isin(np.arange(100), rng.permutation(100)[:4])).macro_f1 for _ in range(4)
    ]
    assert max(few) < full.macro_f1
    assert np.mean(few) < full.macro_f1 - 0.2


def test_lower_depth_lowers_the_accuracy_and_the_seed_decides(reference):
    full = simulate_query(reference)
    shallow = simulate_query(reference, depth=4)
    assert shallow.macro_f1 < full.macro_f1 - 0.1
    assert simulate_query(reference, depth=4) == shallow
    assert any(simulate_query(reference, depth=4, random_state=seed) != shallow for seed in (1, 2))


def test_without_genes_or_counts_the_accuracy_is_that_of_chance(reference):
    for settings in ({"present": np.zeros(100, bool)}, {"depth": 0.0}):
        assert simulate_query(reference, **settings).accuracy < 0.6


def test_depth_is_measured_in_the_genes_of_the_query(reference):
    """Cells that are no deeper in these genes are not thinned."""
    present = np.arange(100) < 50
    own = np.median(reference.simulation_cells.counts.toarray()[:, :50].sum(axis=1))
    assert simulate_query(reference, present=present, depth=own + 1) == simulate_query(reference, present=present)


def test_thinning_never_raises_a_count():
    rng = np.random.default_rng(0)
    counts = sparse.random(300, 40, 0.3, format="csr", rng=rng, data_rvs=lambda n: rng.integers(1, 50, n)).astype(
        np.float32
    )
    own = np.median(counts.toarray().sum(axis=1))
    thinned = _thinned(counts, own / 4, np.random.default_rng(1))
    before, after = counts.toarray(), thinned.toarray()
    assert (after <= before).all()
    assert (after == np.round(after)).all()
    assert after.sum() / before.sum() == pytest.approx(0.25, abs=0.01)
    assert (thinned.data > 0).all()
    # The input is not changed.
    np.testing.assert_array_equal(counts.toarray(), before)
    np.testing.assert_array_equal(_thinned(counts, own / 4, np.random.default_rng(1)).toarray(), after)


@pytest.mark.parametrize("depth", [None, 1e9])
def test_cells_that_are_no_deeper_are_not_thinned(depth):
    counts = sparse.csr_matrix(np.array([[1.5, 0, 3], [0, 2, 2]], np.float32))
    assert _thinned(counts, depth, np.random.default_rng(0)) is counts


def test_cells_without_counts_are_not_thinned():
    counts = sparse.csr_matrix((5, 3), dtype=np.float32)
    assert _thinned(counts, 10, np.random.default_rng(0)) is counts


def test_simulation_cells_are_the_labelled_held_out_cells(trained):
    kept, adata = trained.reference.simulation_cells, trained.adata
    labelled = (adata.obs["scquery_split"] == "validation") & adata.obs["cell_type"].notna()
    assert sorted(kept.names) == sorted(adata.obs_names[labelled])
    expected = adata[list(kept.names), list(trained.encoder.genes)].layers["counts"].toarray()
    np.testing.assert_array_equal(kept.counts.toarray(), expected)
    assert kept.counts.dtype == np.float32


def test_cells_of_all_types_are_chosen_up_to_a_limit():
    n = 12_000
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(n) < 5, 9, rng.integers(-1, 9, n))
    held_out = (np.arange(n) < 5) | (rng.random(n) < 0.5)
    names = np.array([f"c{i}" for i in range(n)])
    numbered = sparse.csr_matrix(np.arange(n, dtype=np.float32)[:, None] + 1)
    kept = SimulationCells.choose(GeneColumns(numbered, np.arange(1)), names, labels, held_out)
    rows = kept.counts.toarray().ravel().astype(int) - 1
    np.testing.assert_array_equal(kept.names, names[rows])
    assert len(rows) == len(set(rows)) == MAX_CELLS
    assert held_out[rows].all()
    assert (labels[rows] >= 0).all()
    by_type = np.bincount(labels[rows], minlength=10)
    assert by_type[:9].max() <= MAX_OF_TYPE
    assert by_type[:9].min() > 0.6 * MAX_OF_TYPE
    assert by_type[9] >= 3


def test_few_held_out_cells_are_all_kept():
    labels, held_out = np.array([0, 0, 1, -1, 1]), np.array([True, False, True, True, False])
    counts = GeneColumns(sparse.eye(5, format="csr", dtype=np.float32), np.arange(5))
    kept = SimulationCells.choose(counts, np.array(list("abcde")), labels, held_out)
    assert list(kept.names) == ["a", "c"]


def test_simulation_cells_of_two_references_are_concatenated_up_to_a_limit():
    def numbered(start, n):
        counts = sparse.csr_matrix(np.arange(start, start + n, dtype=np.float32)[:, None] + 1)
        return SimulationCells(counts, np.array([f"c{i}" for i in range(start, start + n)], dtype=object))

    few = numbered(0, 3).concat(numbered(3, 4))
    assert list(few.names) == [f"c{i}" for i in range(7)]
    np.testing.assert_array_equal(few.counts.toarray().ravel(), np.arange(7) + 1)
    many = numbered(0, 800).concat(numbered(800, 600))
    rows = many.counts.toarray().ravel().astype(int) - 1
    assert len(rows) == len(set(rows)) == MAX_CELLS
    assert list(many.names) == [f"c{i}" for i in rows]
    assert abs((rows < 800).mean() - 800 / 1400) < 0.01


def test_without_simulation_cells_the_result_is_none(reference):
    kept = reference.simulation_cells
    counts = GeneColumns(kept.counts, np.arange(kept.counts.shape[1]))
    nothing = SimulationCells.choose(counts, kept.names, np.zeros(0, int), np.zeros(0, bool))
    assert len(nothing.names) == 0
    assert simulate_query(replace(reference, simulation_cells=nothing)) is None


def test_simulation_cells_without_a_label_do_not_count(reference):
    names = list(reference.simulation_cells.names[::2])
    obs = reference.obs.copy()
    obs.loc[names, "cell_type"] = None
    result = simulate_query(replace(reference, cells=replace(reference.cells, obs=obs)))
    assert sum(result.n_cells.values()) == len(reference.simulation_cells.names) - len(names)
