"""Principal directions, against scikit-learn's, and the spread of rows, against NumPy's."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import DenseLayerAutoencoder, EncodedRows, MatrixRows, as_rows, pretrain_stack, principal_weights
from scquery_ae.nn.rows import chunks, pooled_std

pytestmark = [
    pytest.mark.backend,
]


def spread_out(n=60, d=8, offset=2.0, seed=0):
    """Return rows whose directions have clearly different variances, and whose mean is not zero."""
    rng = np.random.default_rng(seed)
    directions, _ = np.linalg.qr(rng.standard_normal((d, d)))
    scales = 4 * 0.6 ** np.arange(d)
    return (rng.standard_normal((n, d)) * scales @ directions.T + offset * rng.standard_normal(d)).astype("float32")


def turned(components):
    """Return components, a row each, whose largest entry is positive."""
    largest = np.abs(components).argmax(axis=1)
    return components * np.sign(components[np.arange(len(components)), largest])[:, None]


class CountedRows:
    """Rows that remember how many were made dense at once."""

    def __init__(self, x):
        self.rows, self.most = as_rows(x), 0
        self.shape = self.rows.shape

    def take(self, indices):
        self.most = max(self.most, len(indices))
        return self.rows.take(indices)

    def dense(self, batch):
        return self.rows.dense(batch)


@pytest.mark.parametrize("units", [1, 3, 8])
def test_components_against_sklearn(units):
    x = spread_out()
    kernel, bias = principal_weights(as_rows(x), units)
    pca = PCA(units, svd_solver="full").fit(x.astype(float))
    assert (kernel.shape, bias.shape) == ((8, units), (units,))
    assert kernel.dtype == bias.dtype == np.float32
    # Every direction, in this order and with these signs.
    np.testing.assert_allclose(kernel.T, turned(pca.components_), atol=1e-4)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(units), atol=1e-5)
    latent = x @ kernel + bias
    np.testing.assert_allclose(latent.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(latent.var(axis=0, ddof=1), pca.explained_variance_, rtol=1e-4)
    assert (np.diff(latent.var(axis=0)) < 0).all()
    np.testing.assert_allclose(np.abs(latent), np.abs(pca.transform(x)), atol=1e-3)


def test_signs():
    kernel, _ = principal_weights(as_rows(spread_out(seed=3)), 8)
    largest = kernel[np.abs(kernel).argmax(axis=0), np.arange(8)]
    assert (largest > 0).all()
    # Mirrored data have the same directions.
    mirrored, bias = principal_weights(as_rows(-spread_out(seed=3)), 8)
    np.testing.assert_allclose(mirrored, kernel, atol=1e-4)
    np.testing.assert_allclose(bias, -principal_weights(as_rows(spread_out(seed=3)), 8)[1], atol=1e-4)


def test_hand_worked():
    x = np.array([[1.0, 5.0], [3.0, 5.0], [1.0, 5.0], [3.0, 5.0]])
    kernel, bias = principal_weights(as_rows(x), 1)
    np.testing.assert_allclose(kernel, [[1], [0]], atol=1e-7)
    np.testing.assert_allclose(bias, [-2], atol=1e-6)


def test_more_features_than_rows():
    x = spread_out(5, 12)
    kernel, bias = principal_weights(as_rows(x), 4)
    pca = PCA(4, svd_solver="full").fit(x.astype(float))
    np.testing.assert_allclose(kernel.T, turned(pca.components_), atol=1e-3)
    # Four directions hold all that five rows differ in.
    np.testing.assert_allclose((x @ kernel + bias) @ kernel.T + x.mean(axis=0), x, atol=1e-3)


def test_sparse_rows_are_read_in_chunks():
    rng = np.random.default_rng(0)
    x = (rng.poisson(0.5, (9000, 6)) * np.arange(1, 7)).astype("float32")
    rows = CountedRows(sparse.csr_matrix(x))
    kernel, bias = principal_weights(rows, 6)
    assert rows.most == 4096
    assert [len(chunk) for chunk in chunks(rows)] == [4096, 4096, 808]
    dense_kernel, dense_bias = principal_weights(MatrixRows(x), 6)
    np.testing.assert_allclose(kernel, dense_kernel, atol=1e-6)
    np.testing.assert_allclose(bias, dense_bias, atol=1e-5)
    pca = PCA(6, svd_solver="full").fit(x.astype(float))
    np.testing.assert_allclose(kernel.T, turned(pca.components_), atol=1e-4)
    np.testing.assert_allclose(bias, -turned(pca.components_) @ pca.mean_, atol=1e-4)


@pytest.mark.parametrize("offset", [100, 1000])
def test_large_means_do_not_drown_the_variance(offset):
    x = spread_out(5000, 6)
    x += offset - x.mean(axis=0)
    kernel, _ = principal_weights(as_rows(x), 6)
    pca = PCA(6, svd_solver="full").fit(x.astype(float))
    np.testing.assert_allclose(kernel.T, turned(pca.components_), atol=2e-3)


def test_principal_components_of_encoded_rows():
    layer = DenseLayerAutoencoder([4], kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    x = spread_out()
    kernel, bias = principal_weights(EncodedRows(as_rows(x), layer), 2)
    latent = x.astype(float) @ layer.get_weights()[0]
    pca = PCA(2, svd_solver="full").fit(latent)
    np.testing.assert_allclose(kernel.T, turned(pca.components_), atol=1e-3)
    np.testing.assert_allclose((latent @ kernel + bias).mean(axis=0), 0, atol=1e-3)


@pytest.mark.parametrize(("shape", "units", "most"), [((4, 10), 5, 4), ((10, 4), 5, 4), ((10, 4), 9, 4)])
def test_more_units_than_components(shape, units, most):
    with pytest.raises(
        ArgumentError,
        match=rf"Received {units} units for {most} components \({shape[0]} rows of {shape[1]} feat",
    ):
        principal_weights(as_rows(np.random.default_rng(0).random(shape)), units)


@pytest.mark.usefixtures("eager")
def test_stack_of_principal_layers():
    """Linear layers upon one another: the whole is the first components of the data."""
    x = spread_out()
    stack = pretrain_stack(x, (5, 2), module="pca", activation="linear", progress=False)
    pca = PCA(2, svd_solver="full").fit(x.astype(float))
    np.testing.assert_allclose(np.abs(stack.encode(x)), np.abs(pca.transform(x)), atol=1e-3)
    assert stack.history == [{"loss": []}, {"loss": []}]
    # The decoder is the transpose: five directions leave the variance of the other three.
    first = stack.layers[0]
    rest = np.square(x - x.mean(axis=0) - keras.ops.convert_to_numpy(first(x))).sum(axis=1).mean()
    np.testing.assert_allclose(rest, np.linalg.eigvalsh(np.cov(x.astype(float).T, bias=True))[:3].sum(), rtol=1e-2)


# The spread of rows


def test_pooled_std_by_hand():
    # Variances 1 and 9 over two rows: the root of their mean.
    np.testing.assert_allclose(pooled_std(as_rows(np.array([[0.0, 1.0], [2.0, 7.0]]))), np.sqrt(5))


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_pooled_std_against_numpy(container, offset):
    """Over several chunks, and of numbers whose squares would drown their differences in float32."""
    x = (np.random.default_rng(0).standard_normal((5000, 3)) * [1, 2, 3] + offset).astype("float32")
    expected = np.sqrt(x.astype(float).var(axis=0).mean())
    np.testing.assert_allclose(pooled_std(as_rows(container(x))), expected, rtol=1e-5)


def test_pooled_std_of_images():
    x = np.random.default_rng(0).random((20, 4, 3, 2)).astype("float32")
    np.testing.assert_allclose(pooled_std(as_rows(x)), np.sqrt(x.astype(float).var(axis=0).mean()), rtol=1e-5)


def test_pooled_std_of_equal_rows_is_zero():
    assert pooled_std(as_rows(np.full((7, 3), 2.0))) == 0
