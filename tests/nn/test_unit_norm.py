"""Unit length, safe at zero."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from scquery_ae.nn import UnitNorm, unit_norm

pytestmark = [
    pytest.mark.backend,
]


def normed(x, dtype="float32"):
    y = unit_norm(keras.ops.convert_to_tensor(x, dtype=dtype))
    return keras.ops.convert_to_numpy(keras.ops.cast(y, "float32"))


def test_hand_worked():
    x = [[3.0, 4.0], [0.0, 0.0], [-5.0, 12.0], [0.0, -2.0]]
    np.testing.assert_allclose(normed(x), [[0.6, 0.8], [0, 0], [-5 / 13, 12 / 13], [0, -1]], atol=1e-6)


def test_rows_of_length_one():
    x = np.random.default_rng(0).standard_normal((50, 7)).astype("float32")
    y = normed(x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(y, x / np.linalg.norm(x, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(normed(1000 * x), y, atol=1e-6)


def test_last_axis_of_more():
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype("float32")
    np.testing.assert_allclose(normed(x), x / np.linalg.norm(x, axis=-1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e-6, 1e6, 1e15, 1e30])
def test_any_scale(scale):
    """Also those whose squares float32 cannot hold."""
    np.testing.assert_allclose(normed([[3 * scale, 4 * scale]]), [[0.6, 0.8]], atol=1e-5)


@pytest.mark.parametrize("scale", [1e-5, 1e-4, 1.0, 100.0, 1000.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_does_not_overflow(dtype, scale):
    """float16 ends at 65504: the square of 300 is beyond it, that of 1e-4 beneath its smallest number."""
    np.testing.assert_allclose(normed([[3 * scale, 4 * scale]], dtype), [[0.6, 0.8]], atol=0.02)


def gradient_at(row, target):
    """Return the gradient of ``|unit_norm(row) - target|^2`` at `row`, read off one step of gradient descent."""
    row, target = (np.asarray(v, dtype="float32") for v in (row, target))
    # The row is the kernel of a layer that multiplies it by one.
    start = keras.layers.Dense(len(row), use_bias=False)
    model = keras.Sequential([keras.Input((1,)), start, UnitNorm()])
    start.set_weights([row[None, :]])
    model.compile(keras.optimizers.SGD(1.0), "mse", run_eagerly=True)
    model.fit(np.ones((1, 1), "float32"), target[None, :], verbose=0)
    # Keras' loss is the mean over the row, not the sum.
    return len(row) * (row - start.get_weights()[0][0])


def test_gradient_at_zero_is_that_of_the_identity():
    target = np.array([0.5, -1.0, 2.0])
    # d|y - t|^2/dx = 2 (y - t) with y = x = 0.
    np.testing.assert_allclose(gradient_at([0, 0, 0], target), -2 * target, atol=1e-5)


def test_gradient_elsewhere():
    x, target = np.array([1.0, -2.0, 0.5]), np.array([0.5, -1.0, 2.0])
    length = np.linalg.norm(x)
    jacobian = (np.eye(3) - np.outer(x, x) / length**2) / length
    np.testing.assert_allclose(gradient_at(x, target), 2 * jacobian @ (x / length - target), atol=1e-5)


def test_zero_row_does_not_spoil_the_gradient_of_others():
    dense = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((4,)), dense, UnitNorm()])
    kernel = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
    dense.set_weights([kernel])
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    x = np.array([[0, 0, 0, 0], [1, 2, 3, 4]], "float32")
    model.fit(x, np.ones((2, 3), "float32"), verbose=0)
    stepped = dense.get_weights()[0]
    # The first cell is zero and moves nothing; the second does as if it were alone, at half the mean.
    y = x[1] @ kernel
    length = np.linalg.norm(y)
    jacobian = (np.eye(3) - np.outer(y, y) / length**2) / length
    gradient = np.outer(x[1], 2 / 6 * jacobian @ (y / length - 1))
    np.testing.assert_allclose(stepped, kernel - 0.1 * gradient, atol=1e-5)
