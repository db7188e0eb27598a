"""Convolutions and their transposes, against matrices written down entry by entry."""

from __future__ import annotations

from itertools import product

import keras
import numpy as np
import pytest
from scipy import signal

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import Conv1DAutoencoder, Conv2DAutoencoder, pretrain_stack

pytestmark = [
    pytest.mark.backend,
]

#: JAX computes in float32 unless the whole process is told otherwise.
DTYPE, TOLERANCE = ("float32", 2e-5) if keras.backend.backend() == "jax" else ("float64", 1e-11)


@pytest.fixture(autouse=True)
def _seed():
    """Initialisers without a seed of their own draw from the global one."""
    keras.utils.set_random_seed(0)


def array(x):
    return keras.ops.convert_to_numpy(x)


def linear(shape, kernel_size, strides=1, padding="valid", filters=3, **kwargs):
    """Return a built layer without biases and activations for inputs of a shape, channels last."""
    cls = Conv1DAutoencoder if len(shape) == 2 else Conv2DAutoencoder
    layer = cls(filters, kernel_size, strides, padding, use_bias=False, dtype=DTYPE, **kwargs)
    layer.build((None, *shape))
    return layer


def code_length(length, size, stride, padding):
    """Return how many times a kernel fits, counted: where it starts inside the padded input."""
    if padding == "same":
        return len(range(0, length, stride))
    return len(range(0, length - size + 1, stride))


def convolution_matrix(kernel, shape, strides, padding):
    """Return the convolution as a matrix, ``(code, input)``, both flattened, entry by entry.

    With padding, zeros go before and behind alike, an odd one behind.
    """
    *sizes, _, filters = kernel.shape
    *lengths, channels = shape
    latent = [code_length(n, k, s, padding) for n, k, s in zip(lengths, sizes, strides, strict=True)]
    before = [
        max((c - 1) * s + k - n, 0) // 2 if padding == "same" else 0
        for n, k, s, c in zip(lengths, sizes, strides, latent, strict=True)
    ]
    matrix = np.zeros((*latent, filters, *lengths, channels))
    for where in product(*map(range, latent)):
        for offset in product(*map(range, sizes)):
            place = tuple(w * s + o - b for w, s, o, b in zip(where, strides, offset, before, strict=True))
            if all(0 <= p < n for p, n in zip(place, lengths, strict=True)):
                # (filters, channels) at this place of code and input.
                matrix[(*where, slice(None), *place, slice(None))] += kernel[offset].T
    return matrix.reshape(int(np.prod(latent)) * filters, -1)


CASES_1D = [
    (length, size, stride, padding)
    for length, size, stride, padding in product((1, 5, 8, 9), (1, 2, 3, 5), (1, 2, 3, 4), ("valid", "same"))
    if padding == "same" or size <= length
]
CASES_2D = [
    # Lengths, kernel, strides: square and not, odd and even, kernels smaller than strides, strides that do not divide.
    ((6, 6), (3, 3), (1, 1)),
    ((7, 5), (3, 2), (2, 1)),
    ((7, 5), (2, 3), (3, 2)),
    ((5, 8), (1, 1), (2, 3)),
    ((9, 4), (2, 4), (4, 1)),
    ((4, 9), (4, 1), (1, 4)),
    ((8, 8), (2, 2), (2, 2)),
    ((8, 7), (5, 5), (3, 3)),
    ((3, 3), (3, 3), (2, 2)),
    ((10, 6), (1, 2), (3, 4)),
]


def check_against_matrix(shape, sizes, strides, padding):
    layer = linear(shape, sizes, strides, padding)
    matrix = convolution_matrix(array(layer.kernel), shape, strides, padding)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *shape)).astype(DTYPE)
    latent_shape = layer.latent_shape((2, *shape))
    assert int(np.prod(latent_shape[1:])) == len(matrix)
    y = rng.standard_normal(latent_shape).astype(DTYPE)
    forwards, backwards = array(layer.encode(x)), array(layer.decode(y))
    assert forwards.shape == latent_shape
    assert backwards.shape == x.shape
    np.testing.assert_allclose(forwards.reshape(2, -1), x.reshape(2, -1) @ matrix.T, atol=TOLERANCE)
    np.testing.assert_allclose(backwards.reshape(2, -1), y.reshape(2, -1) @ matrix, atol=TOLERANCE)
    # The adjoint, of the layer alone.
    np.testing.assert_allclose(np.sum(forwards * y), np.sum(x * backwards), rtol=TOLERANCE, atol=10 * TOLERANCE)
    assert np.abs(forwards).max() > 1e-3


@pytest.mark.parametrize(("length", "size", "stride", "padding"), CASES_1D)
def test_decoder_is_the_transposed_convolution_of_sequences(length, size, stride, padding):
    check_against_matrix((length, 2), (size,), (stride,), padding)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("lengths", "sizes", "strides"), CASES_2D)
def test_decoder_is_the_transposed_convolution_of_images(lengths, sizes, strides, padding):
    check_against_matrix((*lengths, 2), sizes, strides, padding)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_transpose_stays_tied_through_training(padding):
    layer = linear((9, 2), 3, 2, padding)
    inputs = keras.Input((9, 2), dtype=DTYPE)
    model = keras.Model(inputs, layer(inputs))
    before = array(layer.kernel)
    x = np.random.default_rng(0).standard_normal((8, 9, 2)).astype(DTYPE)
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.fit(x, x, epochs=2, batch_size=4, verbose=0)
    assert np.abs(array(layer.kernel) - before).max() > 1e-3
    matrix = convolution_matrix(array(layer.kernel), (9, 2), (2,), padding)
    # Losses are computed in float32, the reconstruction is not.
    np.testing.assert_allclose(array(layer(x)).reshape(8, -1), x.reshape(8, -1) @ matrix.T @ matrix, atol=TOLERANCE)


def test_gradient_step_is_that_of_the_tied_loss():
    layer = Conv1DAutoencoder(1, 1, use_bias=False, kernel_initializer=keras.initializers.Constant(0.5))
    inputs = keras.Input((4, 1))
    model = keras.Model(inputs, layer(inputs))
    x = np.array([[[1.0], [2.0], [-1.0], [0.5]]], dtype="float32")
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.fit(x, x, verbose=0)
    # The reconstruction is w^2 x: the loss (w^2 - 1)^2 mean(x^2) has slope 4 w (w^2 - 1) mean(x^2), -1.5 * 1.5625.
    np.testing.assert_allclose(array(layer.kernel).ravel(), 0.5 + 0.1 * 1.5 * 1.5625, rtol=1e-5)


# Against SciPy


@pytest.mark.parametrize(("padding", "mode"), [("valid", "valid"), ("same", "same")])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_sequences_against_scipy(size, padding, mode):
    layer = linear((11, 2), size, 1, padding, filters=2)
    x = np.random.default_rng(0).standard_normal((11, 2)).astype(DTYPE)
    kernel = array(layer.kernel)
    expected = [
        sum(signal.correlate(x[:, c], kernel[:, c, f], mode=mode) for c in range(2)) for f in range(kernel.shape[-1])
    ]
    np.testing.assert_allclose(array(layer.encode(x[None]))[0], np.stack(expected, axis=-1), atol=TOLERANCE)


@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "valid"), ((1, 1), "same"), ((2, 3), "valid")])
def test_images_against_scipy(strides, padding):
    layer = linear((9, 8, 2), (3, 5), strides, padding, filters=2)
    x = np.random.default_rng(0).standard_normal((9, 8, 2)).astype(DTYPE)
    kernel = array(layer.kernel)
    expected = np.stack(
        [
            sum(signal.correlate2d(x[..., c], kernel[..., c, f], mode=padding) for c in range(2))
            for f in range(kernel.shape[-1])
        ],
        axis=-1,
    )[:: strides[0], :: strides[1]]
    np.testing.assert_allclose(array(layer.encode(x[None]))[0], expected, atol=TOLERANCE)


def test_hand_worked_with_biases_and_activations():
    layer = Conv1DAutoencoder(1, 2, strides=2, activation="relu", output_activation="tanh")
    layer.build((None, 5, 1))
    layer.set_weights([np.array([[[1.0]], [[2.0]]]), np.array([-1.0]), np.array([0.25])])
    x = np.array([[[1.0], [1.0], [-3.0], [1.0], [9.0]]], dtype="float32")
    # 1 + 2 - 1 = 2, then -3 + 2 - 1 < 0; the last value is read by no filter.
    np.testing.assert_allclose(array(layer.encode(x))[0, :, 0], [2, 0], atol=1e-6)
    np.testing.assert_allclose(array(layer(x))[0, :, 0], np.tanh([2.25, 4.25, 0.25, 0.25, 0.25]), atol=1e-6)


# Shapes and weights


@pytest.mark.parametrize(("length", "size", "stride", "padding"), CASES_1D)
def test_shapes_of_sequences(length, size, stride, padding):
    layer = Conv1DAutoencoder(4, size, stride, padding)
    inputs = keras.Input((length, 2))
    assert tuple(layer(inputs).shape) == (None, length, 2)
    expected = (None, code_length(length, size, stride, padding), 4)
    assert layer.latent_shape((None, length, 2)) == expected
    assert tuple(layer.encoder_model()(inputs).shape) == expected
    ordinary = keras.layers.Conv1D(4, size, strides=stride, padding=padding)
    assert tuple(ordinary.compute_output_shape((None, length, 2))) == expected


@pytest.mark.parametrize(
    ("padding", "latent"),
    # Rows (7 - 3) // 2 + 1 and ceil(7 / 2); columns (10 - 2) // 3 + 1 and ceil(10 / 3).
    [("valid", (3, 3)), ("same", (4, 4))],
)
def test_shapes_of_images(padding, latent):
    layer = Conv2DAutoencoder(6, (3, 2), (2, 3), padding)
    inputs = keras.Input((7, 10, 2))
    assert tuple(layer(inputs).shape) == (None, 7, 10, 2)
    assert layer.latent_shape((5, 7, 10, 2)) == (5, *latent, 6)
    assert tuple(layer.encoder_model()(inputs).shape) == (None, *latent, 6)
    assert layer.latent_shape((None, None, 10, 2)) == (None, None, latent[1], 6)


def test_one_number_stands_for_all_axes():
    layer = Conv2DAutoencoder(2, 3, 2)
    assert (layer.kernel_size, layer.strides) == ((3, 3), (2, 2))
    assert Conv1DAutoencoder(2, [np.int64(3)], (2,)).get_config()["kernel_size"] == [3]


def test_seeded_biases_of_one_length_differ():
    layer = Conv1DAutoencoder(4, 3, bias_initializer=keras.initializers.RandomNormal(seed=4))
    layer.build((None, 9, 4))
    assert np.abs(array(layer.encoder_bias) - array(layer.decoder_bias)).max() > 0.01


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_channels_are_last_whatever_keras_is_set_to(data_format):
    x = np.random.default_rng(0).standard_normal((2, 7, 5, 3)).astype("float32")
    layer = Conv2DAutoencoder(4, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    expected, latent = array(layer(x)), array(layer.encode(x))
    before = keras.config.image_data_format()
    keras.config.set_image_data_format(data_format)
    try:
        np.testing.assert_allclose(array(layer(x)), expected, atol=1e-6)
        (ordinary,) = layer.encoder_layers()
        np.testing.assert_allclose(array(ordinary(x)), latent, atol=1e-5)
    finally:
        keras.config.set_image_data_format(before)


# Pretraining


@pytest.mark.usefixtures("eager")
def test_stack_over_images():
    rng = np.random.default_rng(0)
    x = rng.random((24, 9, 8, 1)).astype("float32")
    layers = [
        Conv2DAutoencoder(4, 3, 2, "same", activation="relu"),
        Conv2DAutoencoder(3, (2, 3), activation="tanh"),
    ]
    stack = pretrain_stack(x, layers, epochs=2, batch_size=8, validation_fraction=0.25, progress=False)
    assert stack.layers == layers
    assert [len(history["loss"]) for history in stack.history] == [2, 2]
    latent = stack.encode(x)
    # ceil(9 / 2), ceil(8 / 2), then less 2 - 1 and 3 - 1.
    assert latent.shape == (24, 4, 2, 3)
    assert latent.std() > 0.01
    by_hand = layers[1].encode(layers[0].encode(x))
    np.testing.assert_allclose(latent, array(by_hand), atol=1e-6)

    encoder = stack.encoder()
    assert [type(layer) for layer in encoder.layers] == [keras.layers.Conv2D, keras.layers.Conv2D]
    np.testing.assert_allclose(encoder.predict(x, verbose=0), latent, atol=1e-5)
    with pytest.raises(ArgumentError, match=r"Conv2DAutoencoder has no dense weights\. Use `encoder_layers\(\)`"):
        _ = stack.weights


@pytest.mark.usefixtures("eager")
def test_stack_over_sequences_learns():
    """Sequences of two patterns at any place: the error of the first layer falls."""
    rng = np.random.default_rng(0)
    patterns = np.array([[1.0, 2.0, 1.0], [-1.0, 0.0, 1.0]])
    x = np.zeros((64, 12, 1), dtype="float32")
    for row in x:
        start = rng.integers(0, 10)
        row[start : start + 3, 0] = patterns[rng.integers(2)]
    layer = Conv1DAutoencoder(4, 3, padding="same", kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    stack = pretrain_stack(
        x, [layer], corruption="none", epochs=4, batch_size=8, learning_rate=0.02, validation_fraction=0, progress=False
    )
    loss = stack.history[0]["loss"]
    assert loss[-1] < 0.5 * loss[0]
    assert loss[-1] < np.square(x).mean()


# What is refused


@pytest.mark.parametrize("cls", [Conv1DAutoencoder, Conv2DAutoencoder])
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3", None, (3, 3, 3), (), [0], (2, 0), np.array([2, 2])])
@pytest.mark.parametrize("argument", ["kernel_size", "strides"])
def test_bad_sizes(cls, argument, value):
    wanted = "1 of them" if cls is Conv1DAutoencoder else "2 of them"
    with pytest.raises(ArgumentError, match=rf"`{argument}` must be a positive integer, or {wanted}\. Received"):
        cls(**{"filters": 2, "kernel_size": 2, argument: value})


@pytest.mark.parametrize("filters", [0, 1.5, None, True])
def test_bad_filters(filters):
    with pytest.raises(ArgumentError, match=r"`filters` must be an integer of at least 1\. Received"):
        Conv1DAutoencoder(filters, 2)


@pytest.mark.parametrize("padding", ["causal", "VALID", 1, None])
def test_bad_padding(padding):
    with pytest.raises(ArgumentError, match=r"`padding` must be one of 'valid', 'same'\. Received"):
        Conv1DAutoencoder(2, 2, padding=padding)


@pytest.mark.parametrize(
    ("layer", "shape", "example"),
    [
        (Conv1DAutoencoder(2, 3), (None, 1), r"keras\.Input\(shape=\(28, 1\)\)"),
        (Conv1DAutoencoder(2, 3), (9, None), r"1 spatial axes"),
        (Conv1DAutoencoder(2, 3), (9,), r"1 spatial axes"),
        (Conv2DAutoencoder(2, 3), (9, None, 1), r"keras\.Input\(shape=\(28, 28, 1\)\)"),
        (Conv2DAutoencoder(2, 3), (9, 9), r"2 spatial axes"),
    ],
)
def test_unknown_lengths_are_refused(layer, shape, example):
    with pytest.raises(ArgumentError, match=rf"{type(layer).__name__} cannot be built: inputs must have .*{example}"):
        layer.build((None, *shape))
    assert not layer.built


def test_kernel_that_does_not_fit():
    with pytest.raises(ArgumentError, match=r"A kernel of size \(4, 2\) does not fit into inputs of \(3, 9\) without"):
        Conv2DAutoencoder(2, (4, 2)).build((None, 3, 9, 1))
    with pytest.raises(ArgumentError, match=r'Use a smaller `kernel_size`, or `padding="same"`'):
        Conv1DAutoencoder(2, 4)(keras.Input((3, 1)))
    # With padding it does.
    layer = Conv1DAutoencoder(2, 4, padding="same")
    assert tuple(layer(np.ones((2, 3, 1), "float32")).shape) == (2, 3, 1)


def test_images_of_another_size_are_refused():
    layer = Conv2DAutoencoder(2, 3)
    layer.build((None, 7, 5, 1))
    with pytest.raises(ValueError, match=r"expected shape=\(None, 7, 5, 1\), found shape=\(2, 7, 6, 1\)"):
        layer(np.zeros((2, 7, 6, 1), "float32"))
    with pytest.raises(ArgumentError, match=r"encode needs .* \(\.\.\., 7, 5, 1\)\. Received shape \(2, 7, 6, 1\)"):
        layer.encode(np.zeros((2, 7, 6, 1), "float32"))
    with pytest.raises(ArgumentError, match=r"decode needs .* \(\.\.\., 5, 3, 2\)\. Received shape \(2, 5, 3, 1\)"):
        layer.decode(np.zeros((2, 5, 3, 1), "float32"))
