"""The layer that passes values on and turns gradients round."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import GradientReversal, StrengthRamp

pytestmark = [
    pytest.mark.backend,
]


def array(x):
    """Return a tensor of any float type as float32."""
    return keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))


def two_layers(strength, dtype="float32"):
    """Return a network of two kernels with the reversal between them, ``x w -> reversal -> v``, and its parts."""
    before = keras.layers.Dense(3, use_bias=False, dtype=dtype)
    reversal = GradientReversal(strength, dtype=dtype)
    after = keras.layers.Dense(1, use_bias=False, dtype=dtype)
    model = keras.Sequential([keras.Input((4,)), before, reversal, after])
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((4, 3)).astype("float32"), rng.standard_normal((3, 1)).astype("float32")
    before.set_weights([w])
    after.set_weights([v])
    return model, before, reversal, after, w, v


def gradients(w, v, x, y):
    """Return the gradients of the mean squared error of ``x w v`` by `w` and `v`, nothing reversed."""
    slope = 2 / len(x) * (x @ w @ v - y)
    return x.T @ slope @ v.T, (x @ w).T @ slope


def data():
    rng = np.random.default_rng(1)
    return rng.standard_normal((8, 4)).astype("float32"), rng.standard_normal((8, 1)).astype("float32")


@pytest.mark.parametrize("strength", [0, 0.1, 1, 7.3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_forwards_it_is_the_identity(strength, dtype):
    x = np.random.default_rng(0).standard_normal((5, 6)) * np.logspace(-3, 3, 6)
    x[0, 0] = 0
    x = keras.ops.cast(keras.ops.convert_to_tensor(x, dtype="float32"), dtype)
    y = GradientReversal(strength, dtype=dtype)(x)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    np.testing.assert_array_equal(array(y), array(x))


def test_large_values_do_not_overflow():
    """float16 ends at 65504."""
    x = np.array([[40000.0, -60000.0, 1.0]], dtype="float16")
    np.testing.assert_array_equal(array(GradientReversal(1.0, dtype="float16")(x)), x)


@pytest.mark.parametrize("strength", [0, 0.25, 1.0, 3.0])
def test_backwards_the_gradient_is_turned_and_weighted(strength):
    model, before, _, after, w, v = two_layers(strength)
    x, y = data()
    by_w, by_v = gradients(w, v, x, y)
    assert np.abs(by_w).max() > 0.1
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    # What comes after it descends, what comes before it ascends.
    np.testing.assert_allclose(after.get_weights()[0], v - 0.1 * by_v, atol=1e-5)
    np.testing.assert_allclose(before.get_weights()[0], w + strength * 0.1 * by_w, atol=1e-5)


@pytest.mark.parametrize("strength", [0.003, 0.1, 1.0])
def test_small_strengths_survive_half_precision(strength):
    """One plus 0.003 is one in bfloat16: the strength has to be a factor of its own."""
    model, before, _, _, w, v = two_layers(strength, "mixed_bfloat16")
    x, y = data()
    by_w, _ = gradients(w, v, x, y)
    # So large a step that it is seen beside the weight.
    model.compile(keras.optimizers.SGD(1 / strength), "mse", run_eagerly=True)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    # Products of eight bits, of sums of a few terms.
    np.testing.assert_allclose(before.get_weights()[0] - w, by_w, atol=0.05 * np.abs(by_w).max())


def test_strength_is_read_anew_in_every_step():
    """It is a variable: a compiled step sees what a schedule sets."""
    model, before, reversal, _, w, v = two_layers(1.0)
    x, y = data()
    by_w, _ = gradients(w, v, x, y)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    steps = []

    class Set(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            for layer, kernel in zip((before, model.layers[2]), (w, v), strict=True):
                layer.set_weights([kernel])
            reversal.current.assign([0.5, 2.0][epoch])

        def on_epoch_end(self, epoch, logs=None):
            steps.append(before.get_weights()[0] - w)

    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[Set()])
    np.testing.assert_allclose(steps[0], 0.5 * 0.1 * by_w, atol=1e-5)
    np.testing.assert_allclose(steps[1], 2.0 * 0.1 * by_w, atol=1e-5)


def test_strength_is_not_trained():
    _, _, reversal, *_ = two_layers(0.5)
    assert reversal.trainable_weights == []
    assert [w.name for w in reversal.non_trainable_weights] == ["current"]


def test_mask_passes_through():
    assert GradientReversal().supports_masking


# The ramp


def ramp(strength, epochs):
    """Return the strength in every epoch under the ramp."""
    layer = GradientReversal(strength)
    callback = StrengthRamp([layer], epochs)
    values = []
    for epoch in range(epochs):
        callback.on_epoch_begin(epoch)
        values.append(float(array(layer.current)))
    return values


def test_ramp_by_hand():
    # 2 / (1 + exp(-10 p)) - 1 at p = 0, 1/2 and 1: 0, 0.98661 and 0.99991.
    np.testing.assert_allclose(ramp(1.0, 3), [0, 0.986614, 0.999909], atol=1e-6)
    np.testing.assert_allclose(ramp(0.5, 3), [0, 0.493307, 0.499955], atol=1e-6)
    # p = 1/10: tanh(1/2).
    np.testing.assert_allclose(ramp(2.0, 11)[1], 2 * np.tanh(0.5), atol=1e-5)


def test_ramp_rises():
    values = ramp(1.5, 20)
    assert values[0] == 0
    assert (np.diff(values) > 0).all()
    assert values[-1] < 1.5


def test_ramp_of_one_epoch_is_its_end():
    np.testing.assert_allclose(ramp(1.0, 1), [0.999909], atol=1e-6)


def test_ramp_moves_all_its_layers_while_training():
    model, _, reversal, *_ = two_layers(0.5)
    other = GradientReversal(2.0)
    x, y = data()
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((float(array(reversal.current)), float(array(other.current))))
    )
    model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
    model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[StrengthRamp([reversal, other], 3), note])
    np.testing.assert_allclose(seen, [(0, 0), (0.493307, 1.973228), (0.499955, 1.999818)], atol=1e-5)
    # The layer still knows what it was made with.
    assert reversal.get_config()["strength"] == 0.5


def test_nothing_is_reversed_in_the_first_epoch():
    model, before, reversal, after, w, v = two_layers(1.0)
    x, y = data()
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    model.fit(x, y, batch_size=8, epochs=1, verbose=0, callbacks=[StrengthRamp([reversal], 5)])
    np.testing.assert_array_equal(before.get_weights()[0], w)
    assert np.abs(after.get_weights()[0] - v).max() > 1e-3


# Configuration


def test_strength_of_the_moment_is_in_the_file(tmp_path):
    model, _, reversal, *_ = two_layers(0.5)
    reversal.current.assign(0.125)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    layer = loaded.layers[1]
    assert isinstance(layer, GradientReversal)
    assert (layer.strength, float(array(layer.current))) == (0.5, 0.125)
    x, _ = data()
    np.testing.assert_allclose(array(loaded(x)), array(model(x)), atol=1e-6)


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf"), "1", None, True])
def test_bad_strength(strength):
    with pytest.raises(ArgumentError, match=r"`strength` must be a number in \[0, inf\)\. Received"):
        GradientReversal(strength)
