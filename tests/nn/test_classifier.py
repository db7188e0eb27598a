"""The supervised network: pretrained layers, unit-norm embedding, softmax classifier."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import special

from scquery_ae.nn import FixedZeros, GradientReversal, UnitNorm, build_classifier, read_classifier

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


def numpy_latent(hidden, activations, x):
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
    hidden, classifier, bias = read_classifier(model, 2)
    for (kernel, offset), (given_kernel, given_bias, _) in zip(hidden, layers, strict=True):
        np.testing.assert_array_equal(kernel, given_kernel)
        np.testing.assert_array_equal(offset, given_bias)
    assert classifier.shape == (5, N_TYPES)
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
    latent = numpy_latent(hidden, activations, x)
    expected = special.softmax(latent @ kernel + bias, axis=1)
    predicted = model.predict(x, verbose=0)
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    assert np.ptp(predicted, axis=0).max() > 0.1, "all cells alike would show little"
    latent_model = keras.Model(model.inputs, model.get_layer("latent").output)
    np.testing.assert_allclose(latent_model.predict(x, verbose=0), latent, atol=1e-5)


def test_classifier_sees_the_embedding_rescaled():
    """The classifier that is read has the scale in its kernel."""
    model = build_classifier(given_layers(), N_TYPES)
    raw = np.asarray(model.get_layer("classifier").get_weights()[0])
    np.testing.assert_allclose(read_classifier(model, 2)[1], 16 * raw, rtol=1e-6)
    assert read_classifier(model, 2)[1].dtype == np.float32


def test_zero_embeddings_are_classified():
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
    assert isinstance(model.get_layer("latent"), UnitNorm)
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
        model.get_layer("classifier").set_weights([np.ones((5, N_TYPES)) * np.arange(N_TYPES), np.zeros(N_TYPES)])
        return keras.ops.convert_to_numpy(model(cells(), training=True))

    np.testing.assert_array_equal(noisy(3), noisy(3))
    assert np.abs(noisy(3) - noisy(4)).max() > 0.01


# Masks


def masks():
    """Return a mask for the first of two layers, and none for the second."""
    return [np.arange(9)[:, None] % 7 <= np.arange(7)[None], None]


def masked_layers():
    """Return the given layers with zeros where the mask has them."""
    layers = given_layers()
    kernel, bias, activation = layers[0]
    return [(kernel * masks()[0], bias, activation), layers[1]]


def test_masks_keep_zeros_through_training():
    model = build_classifier(masked_layers(), N_TYPES, masks=masks())
    assert isinstance(model.get_layer("encoder_0").kernel_constraint, FixedZeros)
    assert model.get_layer("encoder_1").kernel_constraint is None
    train(model)
    hidden, _, _ = read_classifier(model, 2)
    mask = masks()[0]
    np.testing.assert_array_equal(hidden[0][0][~mask], 0)
    # All others were trained, and none of them became zero.
    assert (hidden[0][0][mask] != masked_layers()[0][0][mask]).all()
    assert (hidden[0][0][mask] != 0).all()
    # Without the mask the zeros are not kept.
    free = build_classifier(masked_layers(), N_TYPES)
    train(free)
    assert np.abs(read_classifier(free, 2)[0][0][0][~mask]).max() > 1e-3


def test_masks_are_one_for_each_layer():
    with pytest.raises(ValueError, match=r"zip\(\) argument 2 is shorter than argument 1"):
        build_classifier(given_layers(), N_TYPES, masks=[None])


# Further outputs


def test_outputs_have_names():
    plain = build_classifier(given_layers(), N_TYPES)
    assert not isinstance(plain.output, dict)
    x = cells()
    expected = plain.predict(x, verbose=0)
    latent = numpy_latent([layer[:2] for layer in given_layers()], ("tanh", "linear"), x)
    for kwargs, names in (
        ({"with_latent": True}, {"classifier", "latent"}),
        ({"n_batches": 3}, {"classifier", "batch"}),
        (
            {"with_latent": True, "n_batches": 3, "adversarial_weight": 0.7, "detach_classifier": True},
            {"classifier", "latent", "batch"},
        ),
    ):
        model = build_classifier(given_layers(), N_TYPES, **kwargs)
        outputs = model.predict(x, verbose=0)
        assert set(outputs) == names
        # Other outputs do not change the classifier.
        np.testing.assert_allclose(outputs["classifier"], expected, atol=1e-6)
        if "latent" in names:
            np.testing.assert_allclose(outputs["latent"], latent, atol=1e-5)
        if "batch" in names:
            assert outputs["batch"].shape == (20, 3)
            np.testing.assert_allclose(outputs["batch"].sum(axis=1), 1, atol=1e-5)
        hidden, _, _ = read_classifier(model, 2)
        np.testing.assert_array_equal(hidden[1][0], given_layers()[1][0])


def test_a_detached_classifier_alone_has_no_name():
    assert not isinstance(build_classifier(given_layers(), N_TYPES, detach_classifier=True).output, dict)


def test_batch_classifier_sees_embedding_and_predicted_types():
    """Recomputed by NumPy: the embedding 16 times longer and the probabilities, one hidden layer, softmax."""
    model = build_classifier(given_layers(), N_TYPES, n_batches=3, with_latent=True)
    x = cells()
    outputs = model.predict(x, verbose=0)
    kernel, bias = model.get_layer("adversary").get_weights()
    assert kernel.shape == (5 + N_TYPES, 64)
    hidden = np.maximum(np.concatenate([16 * outputs["latent"], outputs["classifier"]], axis=1) @ kernel + bias, 0)
    kernel, bias = model.get_layer("batch").get_weights()
    np.testing.assert_allclose(outputs["batch"], special.softmax(hidden @ kernel + bias, axis=1), atol=1e-5)
    assert np.ptp(outputs["batch"], axis=0).max() > 0.05, "all cells alike would show little"


def test_random_state_of_the_batch_classifier():
    def weights(random_state):
        model = build_classifier(given_layers(), N_TYPES, n_batches=3, random_state=random_state)
        return [model.get_layer(name).get_weights()[0] for name in ("adversary", "batch")]

    for one, same, other in zip(weights(3), weights(3), weights(4), strict=True):
        np.testing.assert_array_equal(one, same)
        assert np.abs(one - other).max() > 0.05


# Gradients

ONE_HOT = np.eye(N_TYPES, dtype="float32")[np.random.default_rng(2).integers(0, N_TYPES, 20)]


def encoder_weights(model):
    return [np.copy(w) for i in range(2) for w in model.get_layer(f"encoder_{i}").get_weights()]


def step(model, losses, weights, targets, rate=0.1):
    """Take one step of gradient descent; return the encoder's weights before and after."""
    before = encoder_weights(model)
    model.compile(keras.optimizers.SGD(rate), losses, loss_weights=weights, run_eagerly=True)
    model.train_on_batch(cells(), targets)
    return before, encoder_weights(model)


@pytest.mark.parametrize("detach_classifier", [False, True])
def test_detached_classifier_gives_the_encoder_no_gradient(detach_classifier):
    model = build_classifier(given_layers(), N_TYPES, with_latent=True, detach_classifier=detach_classifier)
    classifier = np.copy(model.get_layer("classifier").get_weights()[0])
    # The embedding has a loss of weight zero, or Keras would warn that the encoder has no gradient at all.
    targets = {"classifier": ONE_HOT, "latent": np.ones((20, 5), "float32")}
    losses = {"classifier": "categorical_crossentropy", "latent": "mse"}
    before, after = step(model, losses, {"classifier": 1.0, "latent": 0.0}, targets)
    # The classifier itself is trained either way.
    assert np.abs(model.get_layer("classifier").get_weights()[0] - classifier).max() > 1e-3
    for old, new in zip(before, after, strict=True):
        if detach_classifier:
            np.testing.assert_array_equal(new, old)
        else:
            assert np.abs(new - old).max() > 1e-4


def test_detached_classifier_leaves_the_other_losses_their_gradient():
    """With it the encoder goes where the loss on the embedding alone would take it."""
    targets = {"classifier": ONE_HOT, "latent": np.ones((20, 5), "float32")}
    losses = {"classifier": "categorical_crossentropy", "latent": "mse"}
    weights = {"classifier": 1.0, "latent": 1.0}
    detached, joint = (
        step(
            build_classifier(given_layers(), N_TYPES, with_latent=True, detach_classifier=d), losses, weights, targets
        )[1]
        for d in (True, False)
    )
    alone = build_classifier(given_layers(), N_TYPES, with_latent=True)
    before, expected = step(alone, losses, {"classifier": 0.0, "latent": 1.0}, targets)
    for old, new, wanted, both in zip(before, detached, expected, joint, strict=True):
        np.testing.assert_allclose(new, wanted, atol=1e-6)
        assert np.abs(new - old).max() > 1e-4
        assert np.abs(both - wanted).max() > 1e-4


def batch_losses(strength, *, rate=0.01, turned=True):
    """Take a step on the batch loss alone with its classifier held fixed.

    Returns the encoder's weights before and after, and the mean cross-entropy of the batches before and after.
    """
    kwargs = {"n_batches": 2, "adversarial_weight": strength}
    model = build_classifier(given_layers(), N_TYPES, **kwargs)
    for name in ("adversary", "batch", "classifier"):
        model.get_layer(name).trainable = False
    if not turned:
        # The reference: the same network with the gradient as it comes.
        model.get_layer("reversal").current.assign(-1.0)
    batch = np.arange(20) % 2

    def cross_entropy():
        return -np.log(model.predict(cells(), verbose=0)["batch"][np.arange(20), batch]).mean()

    one_hot = np.eye(2, dtype="float32")[batch]
    before_loss = cross_entropy()
    losses = {"classifier": "categorical_crossentropy", "batch": "categorical_crossentropy"}
    targets = {"classifier": ONE_HOT, "batch": one_hot}
    before, after = step(model, losses, {"classifier": 0.0, "batch": 1.0}, targets, rate)
    return before, after, before_loss, cross_entropy()


def test_reversed_gradient_raises_the_batch_loss():
    before, after, loss_before, loss_after = batch_losses(1.0)
    assert loss_after > loss_before + 1e-4
    for old, new in zip(before, after, strict=True):
        assert np.abs(new - old).max() > 1e-5
    # As it comes, the gradient lowers it, by a step of the same length the other way.
    _, plain, _, loss_plain = batch_losses(1.0, turned=False)
    assert loss_plain < loss_before - 1e-4
    for old, new, other in zip(before, after, plain, strict=True):
        np.testing.assert_allclose(new - old, -(other - old), atol=1e-6)
    # Half the strength takes half the step.
    _, half, _, _ = batch_losses(0.5)
    for old, new, other in zip(before, after, half, strict=True):
        np.testing.assert_allclose(2 * (other - old), new - old, atol=1e-6)


def test_strength_zero_leaves_the_encoder_alone():
    before, after, loss_before, loss_after = batch_losses(0.0, rate=1.0)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)
    assert loss_after == pytest.approx(loss_before, abs=1e-6)


def test_batch_classifier_itself_goes_down():
    """The gradient of the batch classifier itself is not reversed, and it does not change the types."""
    model = build_classifier(given_layers(), N_TYPES, n_batches=2, adversarial_weight=0.0)
    batch = np.arange(20) % 2
    targets = {"classifier": ONE_HOT, "batch": np.eye(2, dtype="float32")[batch]}
    losses = {"classifier": "categorical_crossentropy", "batch": "categorical_crossentropy"}
    classifier = [np.copy(w) for w in model.get_layer("classifier").get_weights()]
    before = model.predict(cells(), verbose=0)["batch"][np.arange(20), batch]
    step(model, losses, {"classifier": 0.0, "batch": 1.0}, targets, 0.01)
    after = model.predict(cells(), verbose=0)["batch"][np.arange(20), batch]
    assert -np.log(after).mean() < -np.log(before).mean() - 1e-3
    for old, new in zip(classifier, model.get_layer("classifier").get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)


def test_reversal_is_where_it_should_be():
    model = build_classifier(given_layers(), N_TYPES, n_batches=2, adversarial_weight=0.7)
    [layer] = [layer for layer in model.layers if isinstance(layer, GradientReversal)]
    assert layer.strength == 0.7
    # Without batches there is nothing to turn.
    none = build_classifier(given_layers(), N_TYPES, adversarial_weight=0.7)
    assert not any(isinstance(layer, GradientReversal) for layer in none.layers)
