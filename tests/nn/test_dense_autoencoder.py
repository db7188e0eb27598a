"""The tied layer: its weights, its arithmetic, its configuration and its file."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import DenseLayerAutoencoder

pytestmark = [
    pytest.mark.backend,
]

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


@pytest.fixture(autouse=True)
def _seed():
    """Initialisers without a seed of their own draw from the global one."""
    keras.utils.set_random_seed(0)


def array(x):
    """Return a variable or a tensor of any float type as float32."""
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))


def numpy_encode(layer, x, activation="linear"):
    for i, kernel in enumerate(layer.kernels):
        x = x @ array(kernel)
        if layer.use_bias:
            x = x + array(layer.encoder_biases[i])
        x = ACTIVATIONS[activation](x)
    return x / np.linalg.norm(x, axis=-1, keepdims=True) if layer.unit_norm else x


def numpy_decode(layer, x, activation="linear", output_activation="linear"):
    for i in reversed(range(len(layer.kernels))):
        x = x @ array(layer.kernels[i]).T
        if layer.use_bias:
            x = x + array(layer.decoder_biases[len(layer.kernels) - 1 - i])
        x = ACTIVATIONS[activation if i else output_activation](x)
    return x


def sample(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def fitted(layer, x, epochs=2, optimizer=None, run_eagerly=True):
    """Train `layer` on reconstructing `x` and return the functional model around it.

    For a handful of steps it is several times faster not to compile.
    """
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer or keras.optimizers.Adam(0.02), "mse", run_eagerly=run_eagerly)
    model.fit(x, x, epochs=epochs, batch_size=8, shuffle=False, verbose=0)
    return model


def built(*args, width=10, **kwargs):
    layer = DenseLayerAutoencoder(*args, **kwargs)
    layer.build((None, width))
    return layer


# Weights


@pytest.mark.parametrize("sizes", [[3], [7, 5, 3], (6, 3), np.array([6, 3]), range(4, 2, -1)])
def test_any_sequence_of_sizes(sizes):
    layer = DenseLayerAutoencoder(sizes)
    x = sample(4, 10)
    assert tuple(layer(x).shape) == (4, 10)
    assert tuple(layer.encode(x).shape) == (4, int(list(sizes)[-1]))
    assert len(layer.kernels) == len(list(sizes))


def test_equal_shapes_differ_under_a_seeded_initializer():
    def layer():
        return built(
            [10, 10, 10],
            kernel_initializer=keras.initializers.GlorotUniform(seed=4),
            bias_initializer=keras.initializers.RandomNormal(seed=4),
        )

    first, again = layer(), layer()
    kernels = [array(k) for k in first.kernels]
    biases = [array(b) for b in (*first.encoder_biases, *first.decoder_biases)]
    for arrays in (kernels, biases):
        for i, one in enumerate(arrays):
            assert all(np.abs(one - other).max() > 0.01 for other in arrays[:i])
    for one, other in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


def test_equal_shapes_differ_under_a_seed_generator():
    layer = built([10, 10], kernel_initializer=keras.initializers.GlorotUniform(seed=keras.random.SeedGenerator(4)))
    assert np.abs(array(layer.kernels[0]) - array(layer.kernels[1])).max() > 0.01


def test_initializer_of_the_caller_is_left_alone():
    initializer = keras.initializers.GlorotUniform(seed=4)
    layer = built([10, 10], kernel_initializer=initializer)
    assert layer.kernel_initializer.get_config()["seed"] == 4
    np.testing.assert_array_equal(array(layer.kernels[0]), array(initializer((10, 10))))


def test_initializer_given_as_a_function():
    layer = built([6, 3], kernel_initializer=lambda shape, dtype=None: keras.ops.full(shape, 0.25, dtype=dtype))
    assert all((array(kernel) == 0.25).all() for kernel in layer.kernels)


# Tying


@pytest.mark.parametrize(
    ("sizes", "activation", "output_activation", "unit_norm", "use_bias"),
    [
        ([6, 3], "linear", "linear", False, True),
        ([6, 3], "tanh", "linear", True, True),
        ([6, 3], "relu", "sigmoid", False, False),
        ([7, 5, 3], "sigmoid", "tanh", True, True),
        ([4], "tanh", "relu", False, True),
    ],
)
def test_decoder_is_the_transposed_encoder_after_training(sizes, activation, output_activation, unit_norm, use_bias):
    layer = built(
        sizes, activation=activation, output_activation=output_activation, unit_norm=unit_norm, use_bias=use_bias
    )
    before = [array(w) for w in layer.weights]
    x = sample(32, 10)
    model = fitted(layer, x, run_eagerly=False)

    moved = [np.abs(array(w) - b).max() for w, b in zip(layer.weights, before, strict=True)]
    assert min(moved) > 1e-3, "a weight was not trained, so the comparison below would show little"
    latent = numpy_encode(layer, x, activation)
    expected = numpy_decode(layer, latent, activation, output_activation)
    np.testing.assert_allclose(array(layer.encode(x)), latent, atol=1e-5)
    np.testing.assert_allclose(array(layer.decode(latent)), expected, atol=1e-5)
    np.testing.assert_allclose(array(layer(x)), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-5)


def test_gradient_step_is_that_of_the_tied_loss():
    layer = built([4], use_bias=False, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
    x, w = sample(8, 10), array(layer.kernels[0])
    # Loss mean((x W W' - x)^2): W is met twice, so its derivative has two terms.
    residual = x @ w @ w.T - x
    gradient = 2 / residual.size * (x.T @ residual @ w + residual.T @ x @ w)
    fitted(layer, x, epochs=1, optimizer=keras.optimizers.SGD(0.5))
    np.testing.assert_allclose(array(layer.kernels[0]), w - 0.5 * gradient, atol=1e-5)
    assert np.abs(0.5 * gradient).max() > 1e-2


def test_regularizers_reach_the_training_loss():
    layer = built(
        [6, 3],
        kernel_regularizer=keras.regularizers.L2(0.01),
        bias_regularizer=keras.regularizers.L1(0.1),
        bias_initializer=keras.initializers.Constant(0.5),
    )
    x = sample(8, 10)
    inputs = keras.Input((10,))
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    penalty = 0.01 * sum(np.square(array(k)).sum() for k in layer.kernels) + 0.1 * 0.5 * (6 + 3 + 6 + 10)
    error = np.square(numpy_decode(layer, numpy_encode(layer, x)) - x).mean()
    np.testing.assert_allclose(model.evaluate(x, x, verbose=0), error + penalty, rtol=1e-4)


def test_constraints_are_applied_after_a_step():
    layer = built(
        [6, 3],
        kernel_constraint=keras.constraints.NonNeg(),
        bias_constraint=keras.constraints.MaxNorm(0.01),
        bias_initializer=keras.initializers.Constant(1.0),
    )
    assert min(array(k).min() for k in layer.kernels) < 0
    fitted(layer, sample(16, 10), epochs=1)
    assert min(array(k).min() for k in layer.kernels) >= 0
    for bias in (*layer.encoder_biases, *layer.decoder_biases):
        assert np.linalg.norm(array(bias)) < 0.0101


# Shapes


# Dropout


def test_dropout_is_active_only_in_training():
    layer = built([6, 3], dropout=0.5, seed=3)
    x = sample(64, 10)
    still = numpy_decode(layer, numpy_encode(layer, x))
    np.testing.assert_allclose(array(layer(x)), still, atol=1e-5)
    np.testing.assert_allclose(array(layer(x, training=False)), still, atol=1e-5)
    np.testing.assert_allclose(array(layer.encode(x)), numpy_encode(layer, x), atol=1e-5)
    assert np.abs(array(layer(x, training=True)) - still).mean() > 0.05


def test_dropout_zeroes_its_fraction_and_scales_the_rest():
    layer = built([50], dropout=0.3, seed=3)
    x = sample(100, 10)
    clean, noisy = numpy_encode(layer, x), array(layer.encode(x, training=True))
    dropped = noisy == 0
    np.testing.assert_allclose(noisy[~dropped], clean[~dropped] / 0.7, rtol=1e-3, atol=1e-5)
    # 5000 draws: four standard deviations are 0.026.
    assert abs(dropped.mean() - 0.3) < 0.026
    again = array(layer.encode(x, training=True)) == 0
    assert 0.3 < (again != dropped).mean() < 0.54


def test_dropout_follows_its_seed():
    def noisy(seed):
        layer = built([6, 3], dropout=0.5, seed=seed, kernel_initializer=keras.initializers.GlorotUniform(seed=1))
        return array(layer(sample(16, 10), training=True))

    np.testing.assert_array_equal(noisy(3), noisy(3))
    assert np.abs(noisy(3) - noisy(4)).max() > 0.05


# Halves


def test_encode_builds_the_layer_and_takes_other_types():
    layer = DenseLayerAutoencoder([6, 3], activation="relu")
    x = np.arange(20).reshape(2, 10)
    latent = layer.encode(x)
    assert layer.built
    np.testing.assert_allclose(array(latent), numpy_encode(layer, x.astype("float32"), "relu"), rtol=1e-5)


def test_input_of_another_width_is_refused():
    layer = built([6, 3])
    with pytest.raises(ValueError, match=r"expected axis -1 of input shape to have value 10"):
        layer(sample(2, 7))


def test_autoencoder_and_encoder_model_stay_tied_through_a_file(tmp_path):
    layer = DenseLayerAutoencoder([6, 3], activation="tanh")
    inputs = keras.Input((10,))
    reconstruction = layer(inputs)
    model = keras.Model(inputs, [reconstruction, layer.encoder_model()(inputs)])
    model.save(tmp_path / "both.keras")
    loaded = keras.saving.load_model(tmp_path / "both.keras")
    assert loaded.count_params() == model.count_params() == 103
    x = sample(4, 10)
    latent = numpy_encode(layer, x, "tanh")
    loaded_reconstruction, loaded_latent = loaded.predict(x, verbose=0)
    np.testing.assert_allclose(loaded_latent, latent, atol=1e-5)
    np.testing.assert_allclose(loaded_reconstruction, numpy_decode(layer, latent, "tanh"), atol=1e-5)


def test_unit_norm_embeddings():
    layer = built([6, 3], unit_norm=True, activation="relu", use_bias=False)
    x = np.abs(sample(8, 10))
    x[2] = 0
    latent = array(layer.encode(x))
    lengths = np.linalg.norm(numpy_encode_raw(layer, x), axis=1)
    assert (lengths[np.arange(8) != 2] > 0).any()
    np.testing.assert_allclose(np.linalg.norm(latent, axis=1), (lengths > 0).astype(float), atol=1e-5)
    assert not latent[2].any()


def numpy_encode_raw(layer, x):
    for kernel in layer.kernels:
        x = np.maximum(x @ array(kernel), 0)
    return x


def test_zero_embeddings_leave_finite_weights():
    layer = built([6, 3], unit_norm=True, activation="tanh")
    x = sample(8, 10)
    x[::2] = 0
    history = fitted(layer, x, epochs=2).history.history["loss"]
    assert np.isfinite(history).all()
    assert all(np.isfinite(array(w)).all() for w in layer.weights)


# Configuration and files


# Number types


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.1), ("mixed_float16", 0.02)])
def test_mixed_precision(policy, tolerance):
    layer = built([6, 3], activation="tanh", unit_norm=True, dtype=policy)
    x = sample(16, 10)
    assert keras.backend.standardize_dtype(layer(x).dtype) == layer.compute_dtype == policy.removeprefix("mixed_")
    assert {w.dtype for w in layer.weights} == {"float32"}
    latent = numpy_encode(layer, x, "tanh")
    np.testing.assert_allclose(array(layer.encode(x)), latent, atol=tolerance)
    np.testing.assert_allclose(array(layer(x)), numpy_decode(layer, latent, "tanh"), atol=tolerance)
    history = fitted(layer, x, epochs=2).history.history["loss"]
    assert np.isfinite(history).all()


# Bad arguments


@pytest.mark.parametrize(
    "sizes", [[], (), [0], [6, 0], [-3], [2.5], [6.0], ["6"], "64", [True], [6, False], None, 6, [[6], [3]], [None]]
)
def test_bad_layer_sizes(sizes):
    with pytest.raises(
        ArgumentError, match=r"`layer_sizes` must be a non-empty sequence of positive integers.*Received"
    ):
        DenseLayerAutoencoder(sizes)


@pytest.mark.parametrize("dropout", [1, 1.5, -0.1, "a", None, True, float("nan")])
def test_bad_dropout(dropout):
    with pytest.raises(ValueError, match=r"`dropout` must be a number in \[0, 1\)\. Received"):
        DenseLayerAutoencoder([3], dropout=dropout)


@pytest.mark.parametrize(
    ("argument", "message"),
    [("activation", "activation function"), ("kernel_initializer", "initializer"), ("kernel_constraint", "constraint")],
)
def test_unknown_names(argument, message):
    with pytest.raises(ValueError, match=rf"(?i)could not interpret {message}.*no_such_name"):
        DenseLayerAutoencoder([3], **{argument: "no_such_name"})


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"expected min_ndim=2, found ndim=1"):
        DenseLayerAutoencoder([3])(sample(10))


# The example of the paper


def test_denoising_as_in_alavi_et_al():
    """Layer sizes and noise of the example in Alavi et al. (2018): noisy in, clean out."""
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((500, 1000)).astype("float32")
    noisy = clean + 0.1 * rng.standard_normal(clean.shape).astype("float32")
    layer = DenseLayerAutoencoder(
        [100, 50, 20], activation="tanh", kernel_initializer=keras.initializers.GlorotUniform(seed=0)
    )
    inputs = keras.Input((1000,))
    model = keras.Model(inputs, layer(inputs))
    model.compile("adam", "mse")
    loss = model.fit(noisy, clean, epochs=4, batch_size=50, shuffle=False, verbose=0).history["loss"]
    assert len(loss) == 4
    assert (np.diff(loss) < 0).all()
    assert model.predict(noisy[:7], verbose=0).shape == (7, 1000)
    latent = array(layer.encode(noisy))
    assert latent.shape == (500, 20)
    np.testing.assert_allclose(latent, numpy_encode(layer, noisy, "tanh"), atol=1e-4)
    assert layer.count_params() == 2 * (100 + 50) + 20 + 1000 + 1000 * 100 + 100 * 50 + 50 * 20


def test_flags_and_seeds_are_checked():
    with pytest.raises(ArgumentError, match=r"`use_bias` must be True or False\. Received 'no'"):
        DenseLayerAutoencoder([3], use_bias="no")
    with pytest.raises(ArgumentError, match=r"`seed` must be an integer of at least 0\. Received 'a'"):
        DenseLayerAutoencoder([3], seed="a")
    assert DenseLayerAutoencoder([3], seed=np.int64(4)).get_config()["seed"] == 4
