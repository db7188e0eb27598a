"""The normalisation of a reference, against NumPy."""

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scquery_ae import ArgumentError
from scquery_ae.loaders import GeneColumns
from scquery_ae.transform import Transform, row_sums

GENES = np.array(["a", "b", "c", "d", "e"], dtype=object)


def columns(counts, n=5):
    return GeneColumns(counts, np.arange(n))


def fit(counts):
    return Transform.fit(columns(counts), GENES)


@pytest.fixture
def counts():
    return np.random.default_rng(0).poisson([8.0, 3.0, 0.7, 5.0, 1.0], (30, 5)).astype(np.float32)


def test_fit_equals_a_dense_computation(counts):
    totals = counts.astype(np.float64).sum(axis=1)
    target = np.median(totals)
    logged = np.log1p(counts / totals[:, None] * target)
    transform = fit(counts)
    assert transform.target_sum == pytest.approx(target)
    np.testing.assert_allclose(transform.fraction, (counts / totals[:, None]).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(transform.mean, logged.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(transform.log_normalize(counts).toarray(), logged, rtol=1e-5)
    np.testing.assert_allclose(
        transform.center(transform.log_normalize(counts)), logged - logged.mean(axis=0), atol=1e-5
    )
    assert transform.fraction.sum() == pytest.approx(1, abs=1e-6)
    assert transform.mean.dtype == transform.fraction.dtype == np.float32


def test_hand_worked_cells():
    # The sums are 4 and 8, so the target is 6, and (1, 3) becomes log1p(1.5), log1p(4.5).
    transform = Transform.fit(columns(np.array([[1.0, 3.0], [8.0, 0.0]]), 2), GENES[:2])
    assert transform.target_sum == 6
    np.testing.assert_allclose(transform.fraction, [(0.25 + 1) / 2, 0.375])
    np.testing.assert_allclose(
        transform.log_normalize(np.array([[1.0, 3.0]])).toarray(), [[np.log(2.5), np.log(5.5)]], rtol=1e-6
    )
    np.testing.assert_allclose(transform.mean, [(np.log(2.5) + np.log(7)) / 2, np.log(5.5) / 2], rtol=1e-6)


def test_fit_does_not_depend_on_chunks(counts):
    class Thirds:
        def chunks(self):
            for rows in (counts[:10], counts[10:11], counts[11:]):
                yield sparse.csr_matrix(rows)

    whole, chunked = fit(counts), Transform.fit(Thirds(), GENES)
    assert whole.target_sum == chunked.target_sum
    np.testing.assert_allclose(chunked.mean, whole.mean, rtol=1e-6)
    np.testing.assert_allclose(chunked.fraction, whole.fraction, rtol=1e-6)


def test_empty_cells_are_ignored_in_the_fit_and_stay_zero(counts):
    with_empty = np.vstack([counts, np.zeros((7, 5), np.float32)])
    expected, received = fit(counts), fit(with_empty)
    assert received.target_sum == expected.target_sum
    np.testing.assert_allclose(received.mean, expected.mean, rtol=1e-6)
    np.testing.assert_allclose(received.fraction, expected.fraction, rtol=1e-6)
    assert received.log_normalize(with_empty)[-1].nnz == 0


def test_target_is_the_fraction_in_the_measured_genes(counts):
    transform = fit(counts)
    present = np.array([True, False, True, True, False])
    measured = np.where(present, counts, 0)
    target = transform.target_sum * transform.fraction[present].sum(dtype=np.float64)
    expected = np.log1p(measured / measured.sum(axis=1, keepdims=True) * target)
    np.testing.assert_allclose(transform.log_normalize(measured, present).toarray(), expected, rtol=1e-5)


def test_a_cell_of_average_composition_has_the_same_values_if_genes_are_missing(counts):
    transform = fit(counts)
    average = (transform.fraction * 1000)[None, :]
    present = np.array([True, True, False, True, False])
    whole = transform.log_normalize(average).toarray()
    partial = transform.log_normalize(np.where(present, average, 0), present).toarray()
    np.testing.assert_allclose(partial[:, present], whole[:, present], rtol=1e-5)


@given(seed=st.integers(0, 999), n=st.integers(1, 6))
def test_cells_are_normalised_independently(seed, n):
    rng = np.random.default_rng(seed)
    transform = fit(rng.poisson(3.0, (20, 5)) + 1)
    cells = rng.poisson(3.0, (n, 5)).astype(np.float32)
    together = transform.log_normalize(cells).toarray()
    alone = np.vstack([transform.log_normalize(cell[None, :]).toarray() for cell in cells])
    np.testing.assert_array_equal(together, alone)


def test_values_do_not_depend_on_depth(counts):
    transform = fit(counts)
    np.testing.assert_allclose(
        transform.log_normalize(counts * 37).toarray(), transform.log_normalize(counts).toarray(), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", ["int32", "uint16", "float32", "float64"])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_formats_agree_and_the_input_is_not_changed(counts, make, dtype):
    transform = fit(counts)
    matrix = make(counts.astype(dtype))
    before = matrix.copy()
    received = transform.log_normalize(matrix)
    assert sparse.issparse(received)
    assert received.format == "csr"
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received.toarray(), transform.log_normalize(counts).toarray())
    changed = before != matrix
    assert (changed.nnz if sparse.issparse(changed) else changed.sum()) == 0


def test_centring_does_not_change_its_argument(counts):
    transform = fit(counts)
    dense = transform.log_normalize(counts).toarray()
    before = dense.copy()
    transform.center(dense)
    np.testing.assert_array_equal(dense, before)


def test_round_trip_through_h5ad(counts, tmp_path):
    transform = fit(counts)
    adata = anndata.AnnData(counts, var=pd.DataFrame(index=GENES.astype(str)), uns={"t": transform.to_dict()})
    adata.write_h5ad(tmp_path / "t.h5ad")
    back = Transform.from_dict(anndata.read_h5ad(tmp_path / "t.h5ad").uns["t"])
    assert back.target_sum == transform.target_sum
    for name in ("genes", "mean", "fraction"):
        np.testing.assert_array_equal(getattr(back, name), getattr(transform, name))
    assert back.mean.dtype == np.float32
    np.testing.assert_array_equal(back.log_normalize(counts).toarray(), transform.log_normalize(counts).toarray())


def test_no_counts_in_the_model_genes_is_refused():
    with pytest.raises(ArgumentError, match="cannot be fitted: no cell has a count in the model genes"):
        fit(np.zeros((4, 5)))


@pytest.mark.parametrize(
    "values",
    [
        {"target_sum": 0.0},
        {"target_sum": float("nan")},
        {"mean": np.zeros(4, np.float32)},
        {"fraction": np.zeros((5, 1), np.float32)},
    ],
)
def test_wrong_parts_are_refused(counts, values):
    transform = fit(counts)
    parts = {"genes": GENES, "target_sum": 5.0, "mean": transform.mean, "fraction": transform.fraction} | values
    with pytest.raises(ArgumentError, match="a mean and a fraction for each of its 5 genes and a positive target sum"):
        Transform(**parts)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array])
def test_row_sums_do_not_overflow_small_integers(make):
    sums = row_sums(make(np.full((2, 3), 200, dtype=np.uint8)))
    assert sums.dtype == np.float64
    assert sums.shape == (2,)
    np.testing.assert_array_equal(sums, [600, 600])
