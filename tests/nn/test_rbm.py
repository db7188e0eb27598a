"""Restricted Boltzmann machines, against sums over all states and against scikit-learn."""

from __future__ import annotations

from itertools import product

import keras
import numpy as np
import pytest
from scipy.special import expit, logsumexp
from sklearn.neural_network import BernoulliRBM

from scquery_ae._errors import ArgumentError
from scquery_ae.nn import RestrictedBoltzmannMachine, pretrain_stack

pytestmark = [
    pytest.mark.backend,
]


@pytest.fixture(autouse=True)
def _seed():
    """Initialisers without a seed of their own draw from the global one."""
    keras.utils.set_random_seed(0)


def array(x):
    return keras.ops.convert_to_numpy(x)


def machine(d=5, units=3, seed=0, **kwargs):
    """Return a built machine whose weights and biases are all different from zero, with NumPy copies of them."""
    layer = RestrictedBoltzmannMachine(units, seed=5, **kwargs)
    layer.build((None, d))
    rng = np.random.default_rng(seed)
    w, c, b = (rng.standard_normal(shape).astype("float32") for shape in ((d, units), (units,), (d,)))
    layer.kernel.assign(w)
    layer.hidden_bias.assign(c)
    layer.visible_bias.assign(b)
    return layer, w.astype(float), c.astype(float), b.astype(float)


def like_sklearn(w, c, b):
    """Return scikit-learn's machine with the same parameters."""
    model = BernoulliRBM(n_components=len(c))
    model.components_, model.intercept_hidden_, model.intercept_visible_ = w.T, c, b
    return model


def states(n):
    """Return all binary vectors of a length."""
    return np.array(list(product((0.0, 1.0), repeat=n)))


def trainer(layer, d, learning_rate=1.0, run_eagerly=True):
    inputs = keras.Input((d,))
    model = keras.Model(inputs, layer(inputs))
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(optimizer, loss=None, metrics=["mse"], run_eagerly=run_eagerly)
    return model


def binary(n=64, d=5, seed=0):
    return (np.random.default_rng(seed).random((n, d)) < 0.4).astype("float32")


# Free energy


def test_free_energy_is_the_sum_over_hidden_states():
    layer, w, c, b = machine()
    v, h = states(5), states(3)
    energy = -(v @ b)[:, None] - (h @ c)[None, :] - v @ w @ h.T
    expected = -logsumexp(-energy, axis=1)
    np.testing.assert_allclose(array(layer.free_energy(v)), expected, atol=1e-4)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize("std", [1.0, 0.5, 2.0])
def test_free_energy_of_gaussian_units_is_the_sum_over_hidden_states(std):
    layer, w, c, b = machine(visible="gaussian", visible_std=std)
    v, h = np.random.default_rng(1).standard_normal((20, 5)), states(3)
    energy = (np.square(v - b).sum(axis=1) / (2 * std**2))[:, None] - (h @ c)[None, :] - v @ w @ h.T
    np.testing.assert_allclose(array(layer.free_energy(v)), -logsumexp(-energy, axis=1), rtol=1e-5, atol=1e-4)


def test_gaussian_conditionals_follow_from_the_free_energy():
    """Where P(h|v) and P(v|h) are those of one joint distribution, P(v) = P(v, h) / P(h|v) whatever h is."""
    layer, _, c, b = machine(visible="gaussian", visible_std=0.5)
    v, h = np.random.default_rng(1).standard_normal((6, 5)), states(3)
    p = array(layer.encode(v)).astype(float)
    mean = array(layer.decode(h)).astype(float)
    log_hidden_given_v = h @ np.log(p).T + (1 - h) @ np.log(1 - p).T  # (states, rows)
    log_v_given_hidden = -np.square(v[None] - mean[:, None]).sum(axis=2) / (2 * 0.5**2)
    # Up to a constant, log P(h) is c h plus the integral over v: (|mean|^2 - |b|^2) / (2 std^2).
    log_hidden = h @ c + (np.square(mean).sum(axis=1) - np.square(b).sum()) / (2 * 0.5**2)
    joint = log_v_given_hidden + log_hidden[:, None]
    np.testing.assert_allclose(
        joint - log_hidden_given_v, np.tile(-array(layer.free_energy(v)), (8, 1)), rtol=1e-4, atol=1e-3
    )


def test_free_energy_against_sklearn():
    layer, w, c, b = machine(d=8, units=4)
    v = binary(30, 8)
    np.testing.assert_allclose(array(layer.free_energy(v)), like_sklearn(w, c, b)._free_energy(v), atol=1e-4)


def test_free_energy_of_more_axes():
    layer, *_ = machine()
    v = binary(12)
    stacked = array(layer.free_energy(v.reshape(3, 4, 5)))
    np.testing.assert_allclose(stacked.ravel(), array(layer.free_energy(v)), atol=1e-5)


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_free_energy_is_summed_in_float32(visible):
    """Over 4000 features a sum in eight bits would be off by whole units."""
    full, w, _, b = machine(d=4000, units=3, visible=visible)
    half, *_ = machine(d=4000, units=3, visible=visible, dtype="mixed_bfloat16")
    for layer in (full, half):
        # So small that the sums within are what matters.
        layer.kernel.assign(0.001 * w)
        layer.visible_bias.assign(0.1 * b)
    v = binary(4, 4000)
    energy = half.free_energy(v)
    assert keras.backend.standardize_dtype(energy.dtype) == "float32"
    np.testing.assert_allclose(array(energy), array(full.free_energy(v)), rtol=5e-3, atol=0.5)


# Conditional probabilities


def test_probabilities_against_sklearn():
    layer, w, c, b = machine(d=8, units=4)
    v, h = binary(30, 8), binary(30, 4, seed=1)
    np.testing.assert_allclose(array(layer.encode(v)), like_sklearn(w, c, b)._mean_hiddens(v), atol=1e-6)
    np.testing.assert_allclose(array(layer.encode(v)), like_sklearn(w, c, b).transform(v), atol=1e-6)
    # scikit-learn draws visible states at once; its probabilities are these.
    np.testing.assert_allclose(array(layer.decode(h)), expit(h @ w.T + b), atol=1e-6)
    np.testing.assert_allclose(array(layer(v)), expit(expit(v @ w + c) @ w.T + b), atol=1e-6)


def test_reconstruction_of_gaussian_units():
    layer, w, c, b = machine(visible="gaussian", visible_std=0.5)
    v = np.random.default_rng(1).standard_normal((6, 5)).astype("float32")
    np.testing.assert_allclose(array(layer.encode(v)), expit(v @ w + c), atol=1e-6)
    np.testing.assert_allclose(array(layer(v)), b + 0.25 * expit(v @ w + c) @ w.T, atol=1e-5)


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_samples_follow_their_distribution(std):
    n = 4000
    for visible in ("bernoulli", "gaussian"):
        layer, w, _, b = machine(visible=visible, visible_std=std)
        hidden = np.tile(np.array([1.0, 0.0, 1.0], "float32"), (n, 1))
        drive = w @ [1, 0, 1]
        samples = array(layer._sample_visible(keras.ops.convert_to_tensor(hidden)))
        mean, spread = (expit(drive + b), 0.5) if visible == "bernoulli" else (b + std**2 * drive, std)
        # Four standard errors of a mean.
        np.testing.assert_allclose(samples.mean(axis=0), mean, atol=4 * spread / np.sqrt(n))
        if visible == "bernoulli":
            assert set(np.unique(samples)) == {0, 1}
        else:
            # A standard deviation strays by std / sqrt(2 n).
            np.testing.assert_allclose(samples.std(axis=0), std, atol=4 * std / np.sqrt(2 * n))


# Contrastive divergence


@pytest.mark.parametrize(("visible", "std"), [("bernoulli", 1.0), ("gaussian", 0.5), ("gaussian", 2.0)])
def test_gradient_is_positive_less_negative_phase(visible, std, monkeypatch):
    layer, w, c, b = machine(visible=visible, visible_std=std)
    rng = np.random.default_rng(3)
    data, samples = (rng.standard_normal((16, 5)) for _ in range(2))
    if visible == "bernoulli":
        data, samples = (data > 0), (samples > 0.5)
    data, samples = data.astype("float32"), samples.astype("float32")
    given = []

    def fixed(hidden):
        given.append(array(hidden))
        return keras.ops.convert_to_tensor(samples)

    monkeypatch.setattr(layer, "_sample_visible", fixed)
    model = trainer(layer, 5)
    if keras.backend.backend() == "jax":
        # JAX takes gradients of a traced function: its hidden states have no values to be read.
        monkeypatch.setattr(layer, "_sample_visible", lambda hidden: keras.ops.convert_to_tensor(samples))
    model.fit(data, data, batch_size=16, epochs=1, verbose=0)
    if given:
        assert set(np.unique(given[0])) == {0, 1}, "hidden states are drawn, not probabilities"

    h_data, h_samples = expit(data @ w + c), expit(samples @ w + c)
    scale = 1 if visible == "bernoulli" else std**2
    steps = {
        "kernel": (w, (data.T @ h_data - samples.T @ h_samples) / 16),
        "hidden_bias": (c, (h_data - h_samples).mean(axis=0)),
        "visible_bias": (b, (data - samples).mean(axis=0) / scale),
    }
    for name, (before, step) in steps.items():
        assert np.abs(step).max() > 0.01
        # One step of size one, upwards in likelihood.
        np.testing.assert_allclose(array(getattr(layer, name)), before + step, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_steps_of_gibbs_sampling(n_steps, monkeypatch):
    layer, *_ = machine(n_steps=n_steps)
    chain = [binary(16, seed=seed) for seed in range(n_steps)]
    drawn, asked = [], []

    def visible(hidden):
        drawn.append(array(hidden))
        return keras.ops.convert_to_tensor(chain[len(drawn) - 1])

    bernoulli = layer._bernoulli

    def hidden(probability):
        asked.append(array(probability))
        return bernoulli(probability)

    monkeypatch.setattr(layer, "_sample_visible", visible)
    monkeypatch.setattr(layer, "_bernoulli", hidden)
    data = binary(16, seed=9)
    loss = float(array(layer.contrastive_divergence(keras.ops.convert_to_tensor(data))))
    assert len(drawn) == len(asked) == n_steps
    # Every step starts from what the last one drew, the first from the data.
    for start, probability in zip([data, *chain], asked, strict=False):
        np.testing.assert_allclose(probability, array(layer.encode(start)), atol=1e-6)
    ends = array(layer.free_energy(chain[-1]))
    np.testing.assert_allclose(loss, array(layer.free_energy(data)).mean() - ends.mean(), atol=1e-4)


def test_loss_is_there_in_training_alone():
    layer, *_ = machine()
    data = binary()
    layer(data, training=False)
    assert [float(array(loss)) for loss in layer.losses] == [0]
    layer(data, training=True)
    assert abs(float(array(layer.losses[-1]))) > 1e-3
    model = trainer(layer, 5)
    assert model.evaluate(data, data, verbose=0, return_dict=True)["loss"] == 0


# Training

PROTOTYPES = np.array(
    [
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1],
        [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0],
    ]
)


def noisy_copies(n=200, seed=0):
    """Return copies of four prototypes, each bit flipped with probability 0.05."""
    rng = np.random.default_rng(seed)
    clean = PROTOTYPES[rng.integers(4, size=n)]
    return np.where(rng.random(clean.shape) < 0.05, 1 - clean, clean).astype("float32")


def log_likelihood(w, c, b, v):
    """Return the mean log-probability of rows, with the partition function summed over all visible states."""

    def minus_free_energy(v):
        return v @ b + np.logaddexp(0, v @ w + c).sum(axis=1)

    return minus_free_energy(v).mean() - logsumexp(minus_free_energy(states(len(b))))


@pytest.fixture(scope="module")
def learnt():
    """One machine trained for 30 epochs, and five of scikit-learn's with the same steps from weights as small."""
    data = noisy_copies()
    start = keras.initializers.RandomNormal(stddev=0.01, seed=0)
    layer = RestrictedBoltzmannMachine(6, kernel_initializer=start, seed=0)
    model = trainer(layer, 12, learning_rate=0.2, run_eagerly=False)
    before = layer.pseudo_log_likelihood(data).mean()
    keras.utils.set_random_seed(0)
    history = model.fit(data, data, epochs=30, batch_size=20, verbose=0).history
    others = [
        BernoulliRBM(6, learning_rate=0.2, batch_size=20, n_iter=30, random_state=seed).fit(data) for seed in range(5)
    ]
    return layer, history, before, others


def test_training_lowers_the_error_of_reconstruction(learnt):
    _, history, _, _ = learnt
    errors = history["mse"]
    assert np.isfinite(errors).all()
    # At first it can do no better than the means of the features; in the end it knows the prototype of most rows.
    assert abs(errors[0] - noisy_copies().var(axis=0).mean()) < 0.05
    assert errors[-1] < 0.5 * errors[0]


def test_training_raises_the_pseudo_likelihood(learnt):
    layer, _, before, others = learnt
    data = noisy_copies(2000, seed=1)
    ours = layer.pseudo_log_likelihood(data).mean()
    theirs = np.mean([other.score_samples(data).mean() for other in others])
    # Fair coins at first.
    assert abs(before + 12 * np.log(2)) < 0.1
    assert ours > before + 3
    # Runs from other seeds differ with a standard deviation of 0.3, theirs as ours.
    assert abs(ours - theirs) < 0.9


def test_training_reaches_the_likelihood_of_sklearn(learnt):
    """Twelve features: the partition function can be summed.

    scikit-learn's chains go on from batch to batch, ours start from the data: the two do not end at the same weights.
    """
    layer, _, _, others = learnt
    data = noisy_copies(2000, seed=1)
    ours = log_likelihood(*(array(w).astype(float) for w in layer.weights), data)
    theirs = np.mean([log_likelihood(o.components_.T, o.intercept_hidden_, o.intercept_visible_, data) for o in others])
    fraction = noisy_copies().mean(axis=0)
    independent = (data * np.log(fraction) + (1 - data) * np.log(1 - fraction)).sum(axis=1).mean()
    # No model beats minus the entropy: log 4 for the prototype and twelve noisy bits.
    best = -np.log(4) + 12 * (0.95 * np.log(0.95) + 0.05 * np.log(0.05))
    assert independent + 1.5 < ours < best + 0.1
    # Runs from other seeds differ with a standard deviation of 0.2, theirs as ours.
    assert abs(ours - theirs) < 0.6


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_same_seed_same_result(visible):
    def weights(seed):
        layer = RestrictedBoltzmannMachine(
            3, visible, kernel_initializer=keras.initializers.GlorotUniform(seed=1), seed=seed
        )
        trainer(layer, 5, 0.1).fit(binary(), binary(), epochs=1, batch_size=16, shuffle=False, verbose=0)
        return [array(w) for w in layer.weights]

    for one, again, other in zip(weights(3), weights(3), weights(4), strict=True):
        np.testing.assert_array_equal(one, again)
        assert np.abs(one - other).max() > 1e-5


@pytest.mark.usefixtures("eager")
def test_gaussian_machine_learns_two_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[2.0, 2, 0, 0, -1], [-2, -2, 0, 1, 1]])
    x = (centres[rng.integers(2, size=120)] + 0.3 * rng.standard_normal((120, 5))).astype("float32")
    layer = RestrictedBoltzmannMachine(
        4, "gaussian", visible_std=0.7, kernel_initializer=keras.initializers.GlorotUniform(seed=1), seed=0
    )
    error = trainer(layer, 5, 0.05).fit(x, x, epochs=4, batch_size=10, verbose=0).history["mse"]
    assert error[-1] < 0.5 * error[0]
    assert error[-1] < 0.5 * x.var(axis=0).mean()


# Pseudo-likelihood


def test_pseudo_log_likelihood_against_numpy():
    layer, w, c, b = machine()
    data = binary(40)
    columns = np.random.default_rng(7).integers(5, size=40)
    expected = []
    for row, column in zip(data, columns, strict=True):
        flipped = row.copy()
        flipped[column] = 1 - flipped[column]
        energies = [-v @ b - np.logaddexp(0, v @ w + c).sum() for v in (row, flipped)]
        expected.append(5 * np.log(expit(energies[1] - energies[0])))
    result = layer.pseudo_log_likelihood(data, random_state=7)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.pseudo_log_likelihood(data, random_state=7), result)
    assert np.abs(layer.pseudo_log_likelihood(data, random_state=8) - result).max() > 0.1


def test_pseudo_log_likelihood_is_the_mean_of_all_conditionals():
    """Over many draws, d times the mean log of P(feature | others), which sums over all states give."""
    layer, w, c, b = machine()
    v = states(5)
    log_p = v @ b + np.logaddexp(0, v @ w + c).sum(axis=1)
    row = 13
    flips = [row ^ (1 << bit) for bit in range(5)]
    exact = sum(log_p[row] - np.logaddexp(log_p[row], log_p[flip]) for flip in flips)
    estimates = layer.pseudo_log_likelihood(np.tile(v[row], (4000, 1)))
    assert len(np.unique(estimates)) == 5
    np.testing.assert_allclose(estimates.mean(), exact, atol=4 * estimates.std() / np.sqrt(4000))


def test_pseudo_log_likelihood_against_sklearn():
    layer, w, c, b = machine(d=8, units=4)
    data = binary(3000, 8)
    ours, theirs = layer.pseudo_log_likelihood(data), like_sklearn(w, c, b).score_samples(data)
    # Other features are drawn, from the same distribution.
    error = np.hypot(ours.std(), theirs.std()) / np.sqrt(3000)
    np.testing.assert_allclose(ours.mean(), theirs.mean(), atol=4 * error)
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.1)


def test_pseudo_log_likelihood_of_surprises_is_finite():
    layer, *_ = machine()
    layer.visible_bias.assign(np.full(5, 200.0))
    np.testing.assert_allclose(layer.pseudo_log_likelihood(np.zeros((3, 5))), -5 * 200, rtol=0.1)


def test_pseudo_log_likelihood_is_for_binary_units():
    layer, *_ = machine(visible="gaussian")
    with pytest.raises(
        ArgumentError, match=r'`pseudo_log_likelihood` needs binary visible units\. Received `visible="gaussian"`'
    ):
        layer.pseudo_log_likelihood(binary())


# Stacks


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("scale", "visible"), [(1, "bernoulli"), (3, "gaussian")])
def test_stack_of_machines(scale, visible):
    x = scale * noisy_copies(60)
    stack = pretrain_stack(x, (6, 3), module="rbm", epochs=2, batch_size=20, validation_fraction=0.2, progress=False)
    first, second = stack.layers
    assert (first.visible, second.visible) == (visible, "bernoulli")
    # Real values are sampled with the spread of the data, pooled over features.
    spread = np.sqrt(x.var(axis=0).mean()) if visible == "gaussian" else 1
    np.testing.assert_allclose(first.visible_std, spread, rtol=1e-5)
    (w, c), (u, d) = stack.weights
    latent = stack.encode(x)
    np.testing.assert_allclose(latent, expit(expit(x @ w + c) @ u + d), atol=1e-5)
    np.testing.assert_allclose(stack.encoder().predict(x, verbose=0), latent, atol=1e-5)
    for history in stack.history:
        assert {"loss", "val_loss", "free_energy_gap"} == set(history)
        assert (np.array(history["loss"]) >= 0).all()


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, r"`units` must be an integer of at least 1\. Received 0"),
        ({"visible": "binary"}, r"`visible` must be one of 'bernoulli', 'gaussian'\. Received 'binary'"),
        ({"n_steps": 0}, r"`n_steps` must be an integer of at least 1\. Received 0"),
        ({"n_steps": 1.5}, r"`n_steps` must be an integer of at least 1\. Received 1\.5"),
        ({"visible_std": 0}, r"`visible_std` must be a number in \(0, inf\)\. Received 0"),
        ({"visible_std": -1.0}, r"`visible_std` must be a number in \(0, inf\)\. Received -1\.0"),
        ({"visible_std": float("nan")}, r"`visible_std` must be a number in \(0, inf\)\. Received nan"),
        ({"visible_std": float("inf")}, r"`visible_std` must be a number in \(0, inf\)\. Received inf"),
        ({"seed": -1}, r"`seed` must be an integer of at least 0\. Received -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        RestrictedBoltzmannMachine(**{"units": 3, **arguments})
