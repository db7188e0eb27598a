"""Rows of matrices and of encodings, read a batch at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import DenseLayerAutoencoder, EncodedRows, MatrixRows, as_rows

pytestmark = [
    pytest.mark.backend,
]

X = np.random.default_rng(0).poisson(0.7, (9, 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix])
def test_rows_of_a_matrix(container, dtype):
    rows = as_rows(container(X.astype(dtype)))
    assert isinstance(rows, MatrixRows)
    assert rows.shape == (9, 5)
    chosen = np.array([7, 0, 0, 3])
    dense = rows.dense(rows.take(chosen))
    assert isinstance(dense, np.ndarray)
    assert dense.dtype == np.float32
    np.testing.assert_array_equal(dense, X[chosen])


def test_sparse_rows_stay_sparse_until_they_are_needed():
    batch = as_rows(sparse.csr_matrix(X)).take(np.array([1, 2]))
    assert sparse.issparse(batch)
    assert batch.shape == (2, 5)


def test_reading_copies():
    x = X.astype("float32")
    batch = as_rows(x).take(np.array([1, 2]))
    batch[:] = -1
    np.testing.assert_array_equal(x, X)


def test_objects_with_both_steps_are_taken_as_they_are():
    rows = MatrixRows(X)
    assert as_rows(rows) is rows


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_encoded_rows(container):
    layer = DenseLayerAutoencoder([3], activation="tanh")
    rows = EncodedRows(as_rows(container(X)), layer)
    assert rows.shape == (9, 3)
    chosen = np.array([8, 2])
    latent = rows.take(chosen)
    kernel, bias = (np.asarray(w, "float32") for w in layer.get_weights()[:2])
    assert latent.dtype == np.float32
    np.testing.assert_allclose(latent, np.tanh(X[chosen] @ kernel + bias), atol=1e-6)
    np.testing.assert_array_equal(rows.dense(latent), latent)


def test_encodings_of_encodings_are_clean():
    # Dropout and noise are for training; what the next layer has to give back is neither.
    first, second = DenseLayerAutoencoder([4], dropout=0.5, seed=1), DenseLayerAutoencoder([2], activation="relu")
    rows = EncodedRows(EncodedRows(as_rows(X.astype("float32")), first), second)
    assert rows.shape == (9, 2)
    latent = rows.take(np.arange(9))
    hidden = X @ first.get_weights()[0]
    np.testing.assert_allclose(latent, np.maximum(hidden @ second.get_weights()[0], 0), atol=1e-5)
    np.testing.assert_array_equal(rows.take(np.arange(9)), latent)


def test_encodings_follow_the_layer():
    """Nothing is cached: a layer that is trained further gives new encodings."""
    layer = DenseLayerAutoencoder([3])
    rows = EncodedRows(as_rows(X.astype("float32")), layer)
    before = rows.take(np.arange(3))
    layer.set_weights([2 * w for w in layer.get_weights()])
    np.testing.assert_allclose(rows.take(np.arange(3)), 2 * before, rtol=1e-5)


def test_other_data_than_a_matrix_are_refused():
    with pytest.raises(ArgumentError, match=r"a matrix, \(n, d\), or images\. Received an array of shape \(3,\)"):
        as_rows([1.0, 2.0, 3.0])


@pytest.mark.parametrize("fmt", ["csc", "coo"])
def test_any_sparse_matrix_is_read_by_rows(fmt):
    x = sparse.random(6, 4, density=0.5, random_state=0, format=fmt)
    rows = as_rows(x)
    np.testing.assert_allclose(rows.dense(rows.take(np.array([4, 1]))), x.toarray()[[4, 1]], rtol=1e-6)
