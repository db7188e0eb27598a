"""Units that see the features of their group alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from scquery_ae._errors import ArgumentError, MissingKeyError
from scquery_ae.dense import DenseWeights
from scquery_ae.nn import FixedZeros, MaskedAutoencoder, pretrain_stack

pytestmark = [
    pytest.mark.backend,
]

#: Six features, three groups that overlap; the last feature is in none. 2 + 3 + 1 connected weights.
MASK = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])


@pytest.fixture(autouse=True)
def _seed():
    """Initialisers without a seed of their own draw from the global one."""
    keras.utils.set_random_seed(0)


def array(x):
    return keras.ops.convert_to_numpy(x)


def sample(n=16, d=6, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype("float32")


def built(mask=MASK, **kwargs):
    layer = MaskedAutoencoder(mask, **kwargs)
    layer.build((None, len(layer.mask)))
    return layer


def fitted(layer, x, epochs=2, optimizer=None):
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.compile(optimizer or keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    model.fit(x, x, epochs=epochs, batch_size=8, shuffle=False, verbose=0)
    return model


# The mask


@pytest.mark.parametrize("free_units", [0, 2])
def test_mask_is_kept_through_training(free_units):
    layer = built(free_units=free_units, activation="tanh")
    before = array(layer.kernel)
    fitted(layer, sample())
    after = array(layer.kernel)
    assert after.shape == (6, 3 + free_units)
    assert not after[:, :3][MASK == 0].any()
    moved = np.abs(after - before)
    assert moved[:, :3][MASK == 1].min() > 1e-4, "a connected weight was not trained"
    assert moved[:, 3:].size == 6 * free_units
    assert (moved[:, 3:] > 1e-4).all()


@pytest.mark.parametrize(("use_bias", "free_units"), [(True, 2), (True, 0), (False, 2), (False, 0)])
def test_both_halves_against_numpy(use_bias, free_units):
    layer = built(free_units=free_units, use_bias=use_bias, activation="tanh", output_activation="sigmoid")
    x = sample()
    model = fitted(layer, x)
    kernel = np.zeros((6, 3))
    kernel[MASK == 1] = array(layer.connected_weights)  # row by row
    if free_units:
        kernel = np.hstack([kernel, array(layer.free_kernel)])
    np.testing.assert_allclose(array(layer.kernel), kernel, atol=1e-7)
    latent = x @ kernel
    if use_bias:
        assert np.abs(array(layer.encoder_bias)).min() > 1e-4
        latent = latent + array(layer.encoder_bias)
    latent = np.tanh(latent)
    back = latent @ kernel.T
    if use_bias:
        back = back + array(layer.decoder_bias)
    np.testing.assert_allclose(array(layer.encode(x)), latent, atol=1e-5)
    np.testing.assert_allclose(array(model(x)), 1 / (1 + np.exp(-back)), atol=1e-5)


def test_units_see_their_features_alone():
    layer = built()
    x = sample()
    latent = array(layer.encode(x))
    for feature in range(6):
        other = x.copy()
        other[:, feature] += 1
        changed = np.abs(array(layer.encode(other)) - latent).max(axis=0) > 1e-6
        np.testing.assert_array_equal(changed, MASK[feature] == 1)
    # And write them alone: a unit by itself moves its features and no other.
    for unit in range(3):
        written = array(layer.decode(np.eye(3, dtype="float32")[[unit]]))[0]
        np.testing.assert_array_equal(written != 0, MASK[:, unit] == 1)


def test_gradient_step_is_that_of_the_dense_loss_on_connected_weights():
    layer = built(use_bias=False)
    x, w = sample(8), array(layer.kernel)
    residual = x @ w @ w.T - x
    gradient = 2 / residual.size * (x.T @ residual @ w + residual.T @ x @ w)
    fitted(layer, x, epochs=1, optimizer=keras.optimizers.SGD(0.1))
    np.testing.assert_allclose(array(layer.kernel), w - 0.1 * gradient * MASK, atol=1e-5)
    assert np.abs(0.1 * gradient * MASK).max() > 1e-2


@pytest.mark.parametrize("mask", [MASK.tolist(), MASK.astype(bool), MASK.astype(float), MASK.astype("uint8")])
def test_any_matrix_of_zeros_and_ones(mask):
    layer = built(mask)
    assert layer.mask.dtype == bool
    np.testing.assert_array_equal(layer.mask, MASK)
    assert layer.get_config()["mask"] == MASK.tolist()


def test_full_mask_is_a_dense_layer():
    layer = built(np.ones((6, 3)), kernel_initializer=keras.initializers.GlorotUniform(seed=3))
    np.testing.assert_allclose(array(layer.kernel), array(keras.initializers.GlorotUniform(seed=3)((6, 3))), rtol=1e-6)
    np.testing.assert_array_equal(layer.full_mask, np.ones((6, 3), bool))


def test_full_mask_has_the_free_units():
    expected = np.hstack([MASK, np.ones((6, 2))]).astype(bool)
    np.testing.assert_array_equal(built(free_units=2).full_mask, expected)


# First weights


def test_first_weights_are_scaled_by_the_size_of_the_group():
    layer = built(kernel_initializer=keras.initializers.GlorotUniform(seed=3), free_units=1)
    drawn = array(keras.initializers.GlorotUniform(seed=3)((6, 3)))
    # Groups of 2, 3 and 1 of six features.
    expected = drawn * MASK * np.sqrt(6 / np.array([2, 3, 1]))
    np.testing.assert_allclose(array(layer.kernel)[:, :3], expected, rtol=1e-5)
    # Free units see all features, and are as they are drawn, from the next seed.
    free = array(keras.initializers.GlorotUniform(seed=4)((6, 1)))
    np.testing.assert_allclose(array(layer.kernel)[:, 3:], free, rtol=1e-5)


def test_units_of_small_and_large_groups_vary_equally():
    mask = np.zeros((2000, 3), dtype=int)
    sizes = np.array([100, 500, 2000])
    for group, size in enumerate(sizes):
        mask[:size, group] = 1
    layer = built(mask, kernel_initializer=keras.initializers.GlorotUniform(seed=3))
    kernel = array(layer.kernel)
    # Glorot's variance, 2 / (2000 + 3), times 2000 / size. A uniform's sample variance strays by sqrt(0.8 / n):
    # four times that for the smallest group is 0.36.
    variances = np.array([kernel[:size, group].var() for group, size in enumerate(sizes)])
    np.testing.assert_allclose(variances, 2 / 2003 * 2000 / sizes, rtol=0.36)
    # So each embedding of standard normal data has variance 2000 * 2 / 2003, about 2.
    lengths = np.square(kernel).sum(axis=0)
    np.testing.assert_allclose(lengths, 2, rtol=0.36)


# Names


def test_units_are_found_by_name():
    layer = built(group_names=["glycolysis", "apoptosis", "cell cycle"], free_units=2)
    assert layer.unit_names == ("glycolysis", "apoptosis", "cell cycle", "free_0", "free_1")
    assert [layer.unit(name) for name in layer.unit_names] == [0, 1, 2, 3, 4]
    x = sample()
    alone = x * MASK[:, layer.unit("apoptosis")]
    np.testing.assert_allclose(array(layer.encode(alone))[:, 1], array(layer.encode(x))[:, 1], atol=1e-6)
    assert np.abs(array(layer.encode(alone))[:, 0] - array(layer.encode(x))[:, 0]).max() > 0.01


def test_groups_have_numbers_by_default():
    assert built().group_names == ("group_0", "group_1", "group_2")
    assert built().unit("group_2") == 2


def test_names_survive_a_file(tmp_path):
    layer = built(group_names=np.array(["a", "b", "c"]), free_units=1)
    model = fitted(layer, sample(), epochs=1)
    model.save(tmp_path / "masked.keras")
    loaded = keras.saving.load_model(tmp_path / "masked.keras").layers[-1]
    assert loaded.unit_names == ("a", "b", "c", "free_0")
    assert loaded.unit("b") == 1
    np.testing.assert_array_equal(loaded.full_mask, layer.full_mask)
    np.testing.assert_array_equal(array(loaded.kernel), array(layer.kernel))


def test_unknown_unit():
    with pytest.raises(
        MissingKeyError, match=r"no unit 'glycolysis'\. Expected the name of a unit, such as \('group_0'"
    ):
        built().unit("glycolysis")


# Constraints and penalties


def test_connected_weights_stay_positive():
    layer = built(kernel_constraint=keras.constraints.NonNeg(), free_units=1)
    assert array(layer.connected_weights).min() < 0
    assert array(layer.free_kernel).min() < 0
    fitted(layer, sample(), epochs=1)
    kernel = array(layer.kernel)
    assert kernel.min() == 0
    assert (kernel[:, :3][MASK == 1] > 0).sum() >= 2
    assert not kernel[:, :3][MASK == 0].any()


def test_fixed_zeros():
    constraint = FixedZeros(MASK)
    w = np.arange(1, 19, dtype="float32").reshape(6, 3)
    np.testing.assert_array_equal(array(constraint(keras.ops.convert_to_tensor(w))), w * MASK)
    assert constraint.get_config() == {"mask": MASK.tolist()}
    restored = keras.constraints.deserialize(keras.constraints.serialize(constraint))
    assert isinstance(restored, FixedZeros)
    np.testing.assert_array_equal(restored.mask, MASK == 1)


@pytest.mark.parametrize("use_bias", [True, False])
def test_ordinary_layer_keeps_its_zeros_when_trained_further(use_bias, tmp_path):
    layer = built(free_units=1, activation="tanh", use_bias=use_bias)
    fitted(layer, sample(), epochs=1)
    x = sample(seed=1)
    dense, classifier = *layer.encoder_layers(), keras.layers.Dense(2)
    np.testing.assert_allclose(array(dense(x)), array(layer.encode(x)), atol=1e-6)
    model = keras.Sequential([keras.Input((6,)), dense, classifier])
    before = array(dense.kernel)
    outside = ~layer.full_mask
    assert not before[outside].any()

    def train(network):
        network.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
        network.fit(x, sample(16, 2), epochs=2, batch_size=8, verbose=0)
        kernel = array(network.layers[0].kernel)
        assert not kernel[outside].any()
        return kernel

    after = train(model)
    assert np.abs(after - before)[~outside].min() > 1e-4
    # Also once it was written and read.
    model.save(tmp_path / "dense.keras")
    loaded = keras.saving.load_model(tmp_path / "dense.keras")
    assert isinstance(loaded.layers[0].kernel_constraint, FixedZeros)
    assert np.abs(train(loaded) - after)[~outside].max() > 1e-4


# Elsewhere


@pytest.mark.parametrize(("use_bias", "activation"), [(True, "tanh"), (False, "relu"), (True, "sigmoid")])
def test_dense_weights_of_an_encoder(use_bias, activation):
    layer = built(free_units=1, group_names=["a", "b", "c"], use_bias=use_bias, activation=activation)
    fitted(layer, sample())
    ((kernel, bias, name),) = layer.dense_weights()
    assert kernel.dtype == bias.dtype == np.float32
    weights = DenseWeights(kernel, bias, name, mask=layer.full_mask, units=layer.unit_names)
    x = sample(seed=3)
    np.testing.assert_allclose(weights(x), array(layer.encode(x)), atol=1e-5)
    assert weights.units == ("a", "b", "c", "free_0")
    # The encoder refuses weights outside of the mask: there are none.
    with pytest.raises(ArgumentError, match=r"and all weights outside it must be 0"):
        DenseWeights(kernel + 1, bias, name, mask=layer.full_mask)


@pytest.mark.usefixtures("eager")
def test_as_first_layer_of_a_stack():
    x = sample(40)
    stack = pretrain_stack(x, [MaskedAutoencoder(MASK, free_units=1), 2], epochs=2, batch_size=8, progress=False)
    first, second = stack.weights
    assert not first[0][:, :3][MASK == 0].any()
    assert second[0].shape == (4, 2)
    np.testing.assert_allclose(stack.encoder().predict(x, verbose=0), stack.encode(x), atol=1e-5)


# What is refused


@pytest.mark.parametrize(
    "mask",
    [
        [[0, 2], [1, 0]],
        [[0.5, 1], [1, 0]],
        [[np.nan, 1], [1, 0]],
        [1, 0, 1],
        [[[1, 0], [0, 1]]],
        np.ones((0, 3)),
        np.ones((3, 0)),
        [["1", "0"], ["0", "1"]],
        None,
        1,
        [[-1, 1], [1, 0]],
    ],
)
def test_mask_that_is_none(mask):
    with pytest.raises(ArgumentError, match=r"`mask` must be a matrix of 0 and 1, \(n_features, n_groups\)\. Received"):
        MaskedAutoencoder(mask)


def test_empty_groups():
    with pytest.raises(ArgumentError, match=r"Every group .* needs at least one feature\. .* column\(s\) \[1, 3\]"):
        MaskedAutoencoder([[1, 0, 0, 0], [0, 0, 1, 0]])


def test_wrong_names():
    with pytest.raises(ArgumentError, match=r"one name for each of the mask's 3 groups\. Received 2\."):
        MaskedAutoencoder(MASK, group_names=["a", "b"])
    with pytest.raises(ArgumentError, match=r"must be unique\. Received 1 repeated name\(s\) such as .*a.*of its own"):
        MaskedAutoencoder(MASK, group_names=["a", "b", "a"])
    # A group may not take the name of a free unit.
    with pytest.raises(ArgumentError, match=r"must be unique\. Received 1 repeated name\(s\) such as .*free_0"):
        MaskedAutoencoder(MASK, group_names=["a", "b", "free_0"], free_units=1)
    assert MaskedAutoencoder(MASK, group_names=["a", "b", "free_0"]).unit("free_0") == 2


@pytest.mark.parametrize("free_units", [-1, 1.5, None, True])
def test_bad_free_units(free_units):
    with pytest.raises(ArgumentError, match=r"`free_units` must be an integer of at least 0\. Received"):
        MaskedAutoencoder(MASK, free_units=free_units)


def test_input_of_another_width():
    with pytest.raises(ArgumentError, match=r"one row for each feature\. Received 6 rows for inputs of width 5; make"):
        MaskedAutoencoder(MASK).build((None, 5))
    with pytest.raises(ArgumentError, match=r"Received 6 rows for inputs of width 7"):
        MaskedAutoencoder(MASK).encode(sample(2, 7))
    with pytest.raises(ValueError, match=r"expected axis -1 of input shape to have value 6"):
        MaskedAutoencoder(MASK)(sample(2, 7))
