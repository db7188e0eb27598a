"""Losses of a reconstruction: against NumPy and SciPy, element by element."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import special, stats

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import (
    COUNT_LOSSES,
    RECONSTRUCTION_LOSSES,
    CrossEntropy,
    Dispersion,
    NegativeBinomial,
    Poisson,
    SquaredError,
    get_loss,
    log_gamma,
    negative_binomial_log_likelihood,
    poisson_log_likelihood,
)

pytestmark = pytest.mark.backend

#: Rounding of a few float32 operations, relative to the largest of the terms that are added up.
ROUNDING = 1e-6
#: What the means are raised by before their logarithm is taken.
TINY = 1e-8

COUNTS = np.concatenate([np.arange(30), np.geomspace(30, 20_000, 40).round()])[:, None]
MEANS = np.geomspace(1e-3, 1e4, 50)[None]


def tensor(array):
    return keras.ops.convert_to_tensor(np.asarray(array, dtype="float32"))


def numpy(value):
    return np.asarray(keras.ops.convert_to_numpy(value), dtype=np.float64)


def uniform(shape, low=0.0, high=1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype("float32")


def some_counts(shape=(5, 7), seed=0):
    return np.random.default_rng(seed).poisson(3.0, shape).astype("float32")


# Elementwise losses


def test_squared_error():
    y, p = uniform((6, 4), -3, 3), uniform((6, 4), -3, 3, seed=1)
    np.testing.assert_allclose(numpy(SquaredError().call(tensor(y), tensor(p))), (y - p) ** 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(float(SquaredError()(y, p)), ((y - p) ** 2).mean(), rtol=1e-5)


def test_cross_entropy():
    y, p = uniform((6, 4)), uniform((6, 4), 0.01, 0.99, seed=1)
    y[0] = [0, 1, 0, 1]
    expected = -special.xlogy(y, p) - special.xlogy(1 - y, 1 - p)
    np.testing.assert_allclose(numpy(CrossEntropy().call(tensor(y), tensor(p))), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(float(CrossEntropy()(y, p)), expected.mean(), rtol=1e-5)
    # Worked by hand: log 2 whatever the truth, where the sigmoid does not know.
    np.testing.assert_allclose(float(CrossEntropy()(tensor([[0, 1, 0.3]]), tensor([[0.5] * 3]))), np.log(2), rtol=1e-6)


def test_cross_entropy_of_a_sure_sigmoid_is_finite():
    values = numpy(CrossEntropy().call(tensor([[1, 0, 1, 0]]), tensor([[1, 0, 0, 1]])))[0]
    assert np.abs(values[:2]).max() < 1e-6
    # Clipped at Keras' epsilon, 1e-7; next to one, float32 is coarser than that.
    np.testing.assert_allclose(values[2:], -np.log(keras.config.epsilon()), rtol=0.02)


# Likelihoods


def test_log_gamma():
    x = np.geomspace(1e-6, 1e7, 4000).astype("float32")
    expected = special.gammaln(x.astype("float64"))
    # It crosses zero at 1 and 2, so the error is relative to 1 + the value.
    assert (np.abs(numpy(log_gamma(tensor(x))) - expected) / (1 + np.abs(expected))).max() < 3e-6
    np.testing.assert_allclose(
        numpy(log_gamma(tensor([1, 2, 5, 0.5]))), [0, 0, np.log(24), np.log(np.pi) / 2], atol=3e-6
    )


def test_poisson_log_likelihood():
    means = MEANS.astype("float32").astype("float64")
    expected = stats.poisson.logpmf(COUNTS, means)
    found = numpy(poisson_log_likelihood(tensor(COUNTS), tensor(MEANS)))
    terms = np.abs(COUNTS * np.log(means)) + means + special.gammaln(COUNTS + 1) + 1
    assert (np.abs(found - expected) <= ROUNDING * terms + COUNTS * TINY / means).all()


@pytest.mark.parametrize("dispersion", np.exp([-4.0, -2.0, 0.0, 2.0, 4.0, 6.0]).tolist())
def test_negative_binomial_log_likelihood(dispersion):
    means = MEANS.astype("float32").astype("float64")
    shape = float(np.float32(dispersion))
    expected = stats.nbinom.logpmf(COUNTS, shape, shape / (shape + means))
    found = numpy(negative_binomial_log_likelihood(tensor(COUNTS), tensor(MEANS), tensor(dispersion)))
    terms = (
        np.abs(special.gammaln(COUNTS + shape))
        + np.abs(special.gammaln(shape))
        + special.gammaln(COUNTS + 1)
        + shape * (np.abs(np.log(shape)) + np.abs(np.log(shape + means)))
        + COUNTS * (np.abs(np.log(means)) + np.abs(np.log(shape + means)))
        + 1
    )
    assert (np.abs(found - expected) <= ROUNDING * terms + COUNTS * TINY / means).all()


def test_likelihoods_where_the_logarithm_is_small():
    """Of everyday counts an absolute error: what differs between two models is of the order of 0.1."""
    counts, means = np.arange(20)[:, None], np.geomspace(0.1, 30, 20)[None]
    found = numpy(poisson_log_likelihood(tensor(counts), tensor(means)))
    np.testing.assert_allclose(found, stats.poisson.logpmf(counts, means), atol=1e-4)
    found = numpy(negative_binomial_log_likelihood(tensor(counts), tensor(means), tensor(2.0)))
    np.testing.assert_allclose(found, stats.nbinom.logpmf(counts, 2.0, 2 / (2 + means)), atol=1e-4)


def test_no_count_where_none_is_expected():
    assert float(poisson_log_likelihood(tensor(0), tensor(0))) == pytest.approx(0, abs=1e-6)
    assert float(negative_binomial_log_likelihood(tensor(0), tensor(0), tensor(1.5))) == pytest.approx(0, abs=1e-6)
    # A count that cannot be is unlikely, not infinitely so: training must go on.
    assert -40 < float(poisson_log_likelihood(tensor(2), tensor(0))) < -30


def test_negative_binomial_of_high_dispersion_is_poisson():
    counts, means = tensor(np.arange(8)[:, None]), tensor(np.geomspace(0.1, 5, 9)[None])
    np.testing.assert_allclose(
        numpy(negative_binomial_log_likelihood(counts, means, tensor(2000.0))),
        numpy(poisson_log_likelihood(counts, means)),
        atol=0.02,
    )


def test_poisson_means_add_up_to_the_library_size():
    counts, logits = some_counts(), uniform((5, 7), -2, 2, seed=1)
    means = counts.sum(axis=1, keepdims=True) * special.softmax(logits, axis=1)
    np.testing.assert_allclose(means.sum(axis=1), counts.sum(axis=1), rtol=1e-5)
    expected = -stats.poisson.logpmf(counts, means)
    np.testing.assert_allclose(numpy(Poisson().call(tensor(counts), tensor(logits))), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(float(Poisson()(counts, logits)), expected.mean(), rtol=1e-4)
    # Only differences of logits count, as the sum is given.
    np.testing.assert_allclose(float(Poisson()(counts, logits + 5)), expected.mean(), rtol=1e-4)


def test_negative_binomial_means_add_up_to_the_library_size():
    counts, logits, log_dispersion = some_counts(), uniform((5, 7), -2, 2, seed=1), uniform((5, 7), -1, 2, seed=2)
    means = counts.sum(axis=1, keepdims=True) * special.softmax(logits, axis=1)
    shape = np.exp(log_dispersion)
    expected = -stats.nbinom.logpmf(counts, shape, shape / (shape + means))
    given = np.stack([logits, log_dispersion], axis=-1)
    np.testing.assert_allclose(
        numpy(NegativeBinomial().call(tensor(counts), tensor(given))), expected, rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(float(NegativeBinomial()(counts, given)), expected.mean(), rtol=1e-4)


@pytest.mark.parametrize("loss", [Poisson(), NegativeBinomial()])
def test_true_fractions_are_the_most_likely(loss):
    counts = np.array([[2, 3, 5]], "float32")
    dispersion = np.ones((1, 3), "float32")

    def value(fractions):
        logits = np.log(np.array([fractions], "float32"))
        return float(loss(counts, logits if isinstance(loss, Poisson) else np.stack([logits, dispersion], axis=-1)))

    best = value([0.2, 0.3, 0.5])
    others = [value(s) for s in ([0.25, 0.25, 0.5], [0.15, 0.35, 0.5], [0.2, 0.35, 0.45], [1 / 3] * 3)]
    assert best < min(others) - 1e-3


def test_empty_cells_have_a_finite_loss():
    counts, logits = np.zeros((2, 4), "float32"), uniform((2, 4), -2, 2)
    assert float(Poisson()(counts, logits)) == pytest.approx(0, abs=1e-5)
    given = np.stack([logits, np.zeros_like(logits)], axis=-1)
    assert float(NegativeBinomial()(counts, given)) == pytest.approx(0, abs=1e-5)


# Dispersion


def test_dispersion_puts_one_value_a_feature_beside_the_logits():
    layer = Dispersion()
    logits = uniform((5, 3), -2, 2)
    out = numpy(layer(logits))
    assert out.shape == (5, 3, 2)
    assert tuple(layer.compute_output_shape((None, 3))) == (None, 3, 2)
    np.testing.assert_allclose(out[..., 0], logits, rtol=1e-6)
    np.testing.assert_array_equal(out[..., 1], 0)
    assert [tuple(w.shape) for w in layer.trainable_weights] == [(3,)]
    # Bounded, so that no feature runs off to an infinite variance.
    layer.set_weights([np.array([-50, 1.5, 50], "float32")])
    np.testing.assert_allclose(numpy(layer(logits))[..., 1], np.tile([-4, 1.5, 6], (5, 1)), rtol=1e-6)


def test_dispersion_is_learnt_from_the_spread():
    """Two features of one mean: the one that spreads more gets the lower dispersion."""
    rng = np.random.default_rng(0)
    noisy = rng.negative_binomial(0.3, 0.3 / (0.3 + 20), 200)
    counts = np.stack([noisy, rng.poisson(20, 200), rng.poisson(200, 200)], axis=1).astype("float32")
    logits = np.tile(np.log([20, 20, 200]), (200, 1)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), Dispersion()])
    model.compile(keras.optimizers.Adam(0.3), NegativeBinomial(), run_eagerly=True)
    for _ in range(12):
        model.train_on_batch(logits, counts)
    learnt = model.get_weights()[0]
    assert learnt[0] < -0.5
    assert learnt[1] > 0.5


# Weights


@pytest.mark.parametrize("name", RECONSTRUCTION_LOSSES)
def test_weights_of_elements_reach_the_loss(name):
    """Keras divides the weighted sum by the number of elements, not by the sum of their weights."""
    loss, _ = get_loss(name)
    y = some_counts() if name in COUNT_LOSSES else uniform((5, 7))
    p = uniform((5, 7), 0.05, 0.95, seed=1)
    p = np.stack([p, p + 1], axis=-1) if name == "negative_binomial" else p
    weights = uniform((5, 7), 0, 3, seed=2)
    values = numpy(loss.call(tensor(y), tensor(p)))
    assert values.shape == (5, 7)
    expected = (weights * values).sum() / values.size
    assert abs(expected - (weights.mean(axis=1) * values.mean(axis=1)).mean()) > 1e-3, "weights by row would do too"
    np.testing.assert_allclose(float(loss(y, p, sample_weight=weights)), expected, rtol=1e-4)
    assert float(loss(y, p, sample_weight=np.zeros((5, 7)))) == 0


def test_weights_of_elements_reach_the_training_step():
    """A linear layer of zeros: the loss that Keras reports is the weighted mean of the squared targets."""
    y, weights = uniform((6, 4), 1, 2), uniform((6, 4), 0, 3, seed=1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.0), SquaredError(), run_eagerly=True)
    found = model.train_on_batch(uniform((6, 4)), y, sample_weight=weights)
    np.testing.assert_allclose(np.ravel(found)[0], (weights * y**2).mean(), rtol=1e-5)


# Names


def test_get_loss_pairs_loss_and_activation():
    pairs = {name: get_loss(name) for name in RECONSTRUCTION_LOSSES}
    assert {name: (type(loss), activation) for name, (loss, activation) in pairs.items()} == {
        "squared_error": (SquaredError, "linear"),
        "cross_entropy": (CrossEntropy, "sigmoid"),
        "poisson": (Poisson, "linear"),
        "negative_binomial": (NegativeBinomial, "linear"),
    }
    assert get_loss("cross_entropy", "sigmoid")[1] == "sigmoid"
    assert get_loss("squared_error", "sigmoid")[1] == "sigmoid"
    assert get_loss("squared_error", "relu")[1] == "relu"
    assert set(COUNT_LOSSES) < set(RECONSTRUCTION_LOSSES)


@pytest.mark.parametrize(
    ("name", "activation", "own"),
    [
        ("cross_entropy", "linear", "sigmoid"),
        ("cross_entropy", "relu", "sigmoid"),
        ("poisson", "relu", "linear"),
        ("negative_binomial", "sigmoid", "linear"),
    ],
)
def test_get_loss_refuses_other_activations(name, activation, own):
    message = rf"`loss='{name}'` needs a {own} reconstruction\. Received `output_activation='{activation}'`"
    with pytest.raises(ArgumentError, match=message):
        get_loss(name, activation)


@pytest.mark.parametrize("name", ["mse", "Poisson", "", None, 3, ["poisson"]])
def test_unknown_loss(name):
    with pytest.raises(ArgumentError, match=r"`loss` must be one of 'squared_error', .*'negative_binomial'\. Received"):
        get_loss(name)


@pytest.mark.parametrize("kind", [SquaredError, CrossEntropy, Poisson, NegativeBinomial])
def test_losses_are_made_again_from_their_config(kind):
    loss = kind(name="mine", reduction="sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is kind
    assert (again.name, again.reduction) == ("mine", "sum")
    y = some_counts()
    p = uniform((5, 7), 0.05, 0.95, seed=1)
    p = np.stack([p, p], axis=-1) if kind is NegativeBinomial else p
    np.testing.assert_allclose(float(again(y, p)), numpy(loss.call(tensor(y), tensor(p))).sum(), rtol=1e-4)
    assert kind().reduction == "sum_over_batch_size"


def test_a_compiled_model_comes_back_with_loss_and_dispersion(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), Dispersion()])
    model.compile("sgd", NegativeBinomial())
    model.layers[-1].set_weights([np.array([0.5, -1, 2], "float32")])
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    x = uniform((4, 3))
    np.testing.assert_allclose(numpy(again(x)), numpy(model(x)), rtol=1e-6)
    assert isinstance(again.loss, NegativeBinomial)
