"""The supervised network: pretrained layers, unit-norm code, softmax head."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import special

from scquery_ae.nn import UnitNorm, build_classifier, read_classifier

pytestmark = [
    pytest.mark.backend,
]

N_TYPES = 4


def given_layers(widths=(9, 7, 5), activations=("tanh", "linear"), seed=0):
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(d, units)).astype("float32"), rng.normal(size=units).astype("float32"), activation)
        for d, units, activation in zip(widths[:-1], widths[1:], activations, strict=True)
    ]


def numpy_codes(hidden, activations, x):
    for (kernel, bias), activation in zip(hidden, activations, strict=True):
        x = x @ kernel + bias
        x = {"tanh": np.tanh, "linear": np.asarray, "relu": lambda v: np.maximum(v, 0)}[activation](x)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def cells(n=20, width=9, seed=1):
    return np.random.default_rng(seed).normal(size=(n, width)).astype("float32")


def train(model, n=20):
    x, types = cells(n), np.random.default_rng(2).integers(0, N_TYPES, n)
    model.compile(keras.optimizers.Adam(0.02), "categorical_crossentropy", run_eagerly=True)
    model.fit(x, np.eye(N_TYPES)[types], epochs=2, batch_size=5, shuffle=False, verbose=0)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_hidden_layers_start_from_the_given_weights(dropout):
    layers = given_layers()
    model = build_classifier(layers, N_TYPES, dropout=dropout)
    hidden, head, bias = read_classifier(model, 2)
    for (kernel, offset), (given_kernel, given_bias, _) in zip(hidden, layers, strict=True):
        np.testing.assert_array_equal(kernel, given_kernel)
        np.testing.assert_array_equal(offset, given_bias)
    assert head.shape == (5, N_TYPES)
    np.testing.assert_array_equal(bias, np.zeros(N_TYPES))


def test_all_layers_are_trained():
    layers = given_layers()
    model = build_classifier(layers, N_TYPES)
    assert len(model.trainable_weights) == len(model.weights) == 6
    assert model.count_params() == (9 * 7 + 7) + (7 * 5 + 5) + (5 * 4 + 4)
    before = model.get_weights()
    train(model)
    assert min(np.abs(w - b).max() for w, b in zip(model.get_weights(), before, strict=True)) > 1e-3
    # The arrays that were given are not those that are trained.
    np.testing.assert_array_equal(layers[0][0], given_layers()[0][0])


@pytest.mark.parametrize(
    ("widths", "activations"),
    [((9, 5), ("linear",)), ((9, 7, 5), ("tanh", "linear")), ((9, 8, 7, 5), ("relu", "relu", "tanh"))],
)
def test_numpy_gives_the_probabilities_of_the_model(widths, activations):
    model = build_classifier(given_layers(widths, activations), N_TYPES)
    train(model)
    hidden, kernel, bias = read_classifier(model, len(activations))
    x = cells(seed=5)
    codes = numpy_codes(hidden, activations, x)
    expected = special.softmax(codes @ kernel + bias, axis=1)
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    assert np.ptp(predicted, axis=0).max() > 0.1, "all cells alike would show little"
    code_model = keras.Model(model.inputs, model.get_layer("code").output)
    np.testing.assert_allclose(code_model.predict(x, verbose=0), codes, atol=1e-5)


def test_head_sees_the_code_longer():
    """Between codes of length one the unfolded head could hardly tell; folded, its kernel carries the scale."""
    model = build_classifier(given_layers(), N_TYPES)
    raw = np.asarray(model.get_layer("head").get_weights()[0])
    np.testing.assert_allclose(read_classifier(model, 2)[1], 16 * raw, rtol=1e-6)
    assert read_classifier(model, 2)[1].dtype == np.float32


def test_zero_codes_are_classified():
    layers = [(np.zeros((9, 5), "float32"), np.zeros(5, "float32"), "linear")]
    model = build_classifier(layers, N_TYPES)
    np.testing.assert_allclose(model.predict(cells(3), verbose=0), 1 / N_TYPES, atol=1e-6)
    train(model)
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_dropout_lies_between_hidden_layers_only():
    model = build_classifier(given_layers((9, 8, 7, 5), ("tanh",) * 3), N_TYPES, dropout=0.4)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["InputLayer", "Dense", "Dropout", "Dense", "Dropout", "Dense", "UnitNorm", "Rescaling", "Dense"]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.4, 0.4]
    assert isinstance(model.get_layer("code"), UnitNorm)
    without = build_classifier(given_layers((9, 8, 7, 5), ("tanh",) * 3), N_TYPES)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in without.layers)
    # It acts in training, not in prediction.
    x = cells()
    np.testing.assert_allclose(model.predict(x, verbose=0), without.predict(x, verbose=0), atol=1e-6)
    trained = keras.ops.convert_to_numpy(model(x, training=True))
    assert np.abs(trained - without.predict(x, verbose=0)).max() > 0.01


def test_random_state():
    def head(random_state):
        return read_classifier(build_classifier(given_layers(), N_TYPES, random_state=random_state), 2)[1]

    np.testing.assert_array_equal(head(3), head(3))
    assert np.abs(head(3) - head(4)).max() > 0.1

    def noisy(random_state):
        model = build_classifier(given_layers(), N_TYPES, dropout=0.5, random_state=random_state)
        model.get_layer("head").set_weights([np.ones((5, N_TYPES)) * np.arange(N_TYPES), np.zeros(N_TYPES)])
        return keras.ops.convert_to_numpy(model(cells(), training=True))

    np.testing.assert_array_equal(noisy(3), noisy(3))
    assert np.abs(noisy(3) - noisy(4)).max() > 0.01
