"""Reading rows of a matrix by chunks, for the model genes alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.transform import Transform

MAKE = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
}


def matrix_of(n, d, seed=0):
    return np.random.default_rng(seed).poisson(1.0, (n, d)).astype(np.float32)


def expected_of(matrix, columns):
    return np.column_stack([matrix[:, c] if c >= 0 else np.zeros(len(matrix)) for c in columns])


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 30),
    d=st.integers(1, 12),
    size=st.integers(1, 35),
    fmt=st.sampled_from(sorted(MAKE)),
)
def test_chunks_join_to_the_columns(seed, n, d, size, fmt):
    rng = np.random.default_rng(seed)
    matrix = matrix_of(n, d, seed)
    columns = np.where(rng.random(d + 3) < 0.7, rng.permutation(np.r_[np.arange(d), -1, -1, -1]), -1)
    cells = GeneColumns(MAKE[fmt](matrix), columns)
    chunks = list(cells.chunks(size))
    assert [c.shape[0] for c in chunks] == [min(size, n - start) for start in range(0, n, size)]
    assert all(c.format == "csr" and c.dtype == np.float32 and c.shape[1] == d + 3 for c in chunks)
    np.testing.assert_array_equal(sparse.vstack(chunks).toarray(), expected_of(matrix, columns))
    np.testing.assert_array_equal(cells.load().toarray(), expected_of(matrix, columns))
    assert cells.shape == (n, d + 3)
    if (columns >= 0).all():
        assert cells.present is None
    else:
        np.testing.assert_array_equal(cells.present, columns >= 0)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("rows", [(4, 4, 3), (11,), (1,) * 11])
def test_dask_arrays_are_computed_by_their_own_chunks(kind, rows):
    import dask.array as da

    matrix, columns = matrix_of(11, 6), np.array([4, -1, 0, 2])
    seen = []

    def compute(block):
        seen.append(block.shape)
        return kind(block)

    lazy = da.from_array(matrix, chunks=(rows, 6)).map_blocks(compute, meta=kind(np.zeros((0, 0), np.float32)))
    cells = GeneColumns(lazy, columns)
    chunks = list(cells.chunks(3))
    assert max(chunk.shape[0] for chunk in chunks) == min(3, max(rows))
    np.testing.assert_array_equal(sparse.vstack(chunks).toarray(), expected_of(matrix, columns))
    assert seen == [(n, 6) for n in rows]
    np.testing.assert_array_equal(cells.take(np.array([7, 2])).toarray(), expected_of(matrix, columns)[[7, 2]])


@pytest.mark.parametrize("fmt", sorted(MAKE))
def test_rows_equal_those_of_the_whole(fmt):
    matrix, columns = matrix_of(9, 6), np.array([4, -1, 0, 2])
    rows = np.array([8, 0, 3])
    taken = GeneColumns(MAKE[fmt](matrix), columns).take(rows)
    np.testing.assert_array_equal(taken.toarray(), expected_of(matrix, columns)[rows])


@pytest.mark.parametrize("fmt", sorted(MAKE))
def test_logarithms_are_inverted_once(fmt):
    matrix = matrix_of(9, 6)
    columns = np.array([4, -1, 0, 2])
    cells = GeneColumns(MAKE[fmt](np.log1p(matrix)), columns, logged=True)
    for chunks in (list(cells.chunks(4)), [cells.load()]):
        np.testing.assert_allclose(sparse.vstack(chunks).toarray(), expected_of(matrix, columns), rtol=1e-5)


@pytest.mark.parametrize("fmt", sorted(MAKE))
def test_totals_count_the_model_genes_only(fmt):
    matrix = matrix_of(9, 6)
    columns = np.array([4, -1, 0, 2])
    totals, detected = GeneColumns(MAKE[fmt](matrix), columns).depth()
    assert totals.dtype == np.float64
    np.testing.assert_array_equal(totals, matrix[:, [4, 0, 2]].sum(axis=1))
    np.testing.assert_array_equal(detected, (matrix[:, [4, 0, 2]] > 0).sum(axis=1))
    logged, _ = GeneColumns(MAKE[fmt](np.log1p(matrix)), columns, logged=True).depth()
    np.testing.assert_allclose(logged, totals, rtol=1e-5)


@pytest.mark.parametrize("fmt", sorted(MAKE))
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float64", "bool"])
def test_any_number_type_is_read_as_float32(fmt, dtype):
    matrix = matrix_of(9, 6).astype(dtype)
    received = GeneColumns(MAKE[fmt](matrix), np.arange(6)).load()
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received.toarray(), matrix)


@pytest.mark.parametrize("fmt", sorted(MAKE))
def test_the_matrix_is_unchanged(fmt):
    matrix = MAKE[fmt](np.log1p(matrix_of(9, 6)))
    before = matrix.copy()
    cells = GeneColumns(matrix, np.array([3, 1, -1]), logged=True)
    for chunk in cells.chunks(4):
        chunk.data[:] = 99
    different = matrix != before
    assert (different.nnz if sparse.issparse(different) else different.sum()) == 0


def test_a_column_may_be_read_twice():
    matrix = matrix_of(5, 3)
    np.testing.assert_array_equal(GeneColumns(matrix, np.array([1, 1])).load().toarray(), matrix[:, [1, 1]])


def test_no_gene_present():
    received = GeneColumns(sparse.csr_matrix(matrix_of(5, 3)), np.array([-1, -1])).load()
    assert received.shape == (5, 2)
    assert received.nnz == 0


def test_rows_for_training_are_the_transform_of_the_counts():
    matrix = matrix_of(30, 6) + 1
    columns = np.array([5, 0, 3])
    cells = GeneColumns(sparse.csr_matrix(matrix), columns)
    transform = Transform.fit(cells, np.array(["a", "b", "c"]))
    rows = CellRows.read(cells, transform)
    counts = matrix[:, columns].astype(np.float64)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * np.median(counts.sum(axis=1)))
    assert rows.shape == (30, 3)
    taken = rows.take(np.array([7, 2, 2]))
    np.testing.assert_allclose(taken.toarray(), logged[[7, 2, 2]], rtol=1e-5)
    dense = rows.dense(taken)
    assert dense.dtype == np.float32
    np.testing.assert_allclose(dense, logged[[7, 2, 2]] - logged.mean(axis=0), atol=1e-5)
    # What is stored stays as it is, however often it is centred.
    np.testing.assert_array_equal(rows.dense(taken), dense)


# The counts that training restores.


@pytest.mark.parametrize("logged", [False, True], ids=["counts", "log1p"])
@pytest.mark.parametrize("fmt", ["dense", "csr", "csc"])
def test_counts_are_recovered_from_normalised_values(fmt, logged):
    matrix = np.random.default_rng(0).poisson(2.0, (40, 8)).astype(np.float32)
    matrix[3, 1], matrix[5, [5, 0, 3]] = 30_000, 0
    columns = np.array([5, 0, 3])
    counts = matrix[:, columns]
    cells = GeneColumns(MAKE[fmt](np.log1p(matrix) if logged else matrix), columns, logged=logged)
    rows = CellRows.read(cells, Transform.fit(cells, np.array(["a", "b", "c"])))
    restored = rows.counts()
    assert restored.shape == (40, 3)
    chosen = np.array([3, 39, 5, 0, 3])
    received = restored.take(chosen)
    assert received.format == "csr"
    assert received.dtype == np.float32
    # Twice through float32, and a logarithm between them.
    np.testing.assert_allclose(restored.dense(received), counts[chosen], rtol=1e-5)
    assert isinstance(restored.dense(received), np.ndarray)
    assert received.nnz == (counts[chosen] > 0).sum()
    np.testing.assert_allclose(restored.take(np.arange(40)).toarray(), counts, rtol=1e-5)
    assert restored.take(np.zeros(0, int)).shape == (0, 3)
    np.testing.assert_allclose(rows.totals, counts.sum(axis=1, dtype=np.float64), rtol=1e-6)
    assert rows.totals.dtype == np.float64
    assert rows.totals[5] == 0
    # What is stored stays as it is.
    assert rows.logged.data.max() < np.log1p(30_000 / counts[3].sum() * rows.transform.target_sum) + 1e-4


def test_counts_and_totals_by_chunks(monkeypatch):
    matrix = matrix_of(23, 6)
    cells = GeneColumns(sparse.csr_matrix(matrix), np.arange(6))
    transform = Transform.fit(cells, np.array(list("abcdef")))
    monkeypatch.setattr(GeneColumns.chunks, "__defaults__", (5,))
    rows = CellRows.read(cells, transform)
    np.testing.assert_allclose(rows.counts().take(np.arange(23)).toarray(), matrix, rtol=1e-5)
    np.testing.assert_array_equal(rows.totals, matrix.sum(axis=1))
    np.testing.assert_array_equal(rows.detected, (matrix > 0).sum(axis=1))


@pytest.mark.parametrize("fmt", ["csr", "csc", "dense"])
@pytest.mark.parametrize("base", [2.0, 10.0])
def test_logarithms_to_other_bases_are_inverted(fmt, base):
    counts = np.array([[0.0, 1.0, 7.0], [3.0, 0.0, 0.5]])
    matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[fmt](
        np.log1p(counts) / np.log(base)
    )
    received = GeneColumns(matrix, np.array([2, -1, 0]), logged=True, base=base).load().toarray()
    np.testing.assert_allclose(received, np.stack([counts[:, 2], [0, 0], counts[:, 0]], axis=1), rtol=1e-5)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_order_in_which_values_are_stored_does_not_matter(on_disk):
    """Noise is drawn on them one after the other."""
    import dask.array as da

    matrix = sparse.csr_matrix(matrix_of(12, 7))
    last_first = np.concatenate([np.arange(a, b)[::-1] for a, b in pairwise(matrix.indptr)])
    stored = matrix.data[last_first], matrix.indices[last_first], matrix.indptr
    turned = sparse.csr_matrix(stored, shape=matrix.shape)
    assert not turned.has_sorted_indices
    rows = []
    for each in (matrix, turned):
        stored = da.from_array(each, chunks=each.shape, asarray=False) if on_disk else each
        cells = GeneColumns(stored, np.arange(7))
        rows.append(CellRows.read(cells, Transform.fit(cells, np.array(list("abcdefg")))))
    one, other = (each.take(np.arange(12)) for each in rows)
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_allclose(one.data, other.data, rtol=1e-6)
    # The user's own matrix is not sorted.
    assert not turned.has_sorted_indices
