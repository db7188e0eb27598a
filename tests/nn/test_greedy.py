"""Greedy pretraining of all kinds of modules: what goes together, what is refused, and what a checkpoint keeps."""

from __future__ import annotations

import json
import pickle
import warnings
from dataclasses import fields

import keras
import numpy as np
import pytest
from scipy import sparse, special, stats
from sklearn.decomposition import PCA

from scquery_ae._errors import ArgumentError, ScqueryWarning
from scquery_ae.nn import (
    MODULES,
    DenseLayerAutoencoder,
    FeatureMaskingNoise,
    GaussianNoise,
    MaskedAutoencoder,
    MaskingNoise,
    RestrictedBoltzmannMachine,
    fitting,
    pretrain_stack,
)
from scquery_ae.nn.layer_settings import LayerSettings

pytestmark = pytest.mark.backend


def unit_values(n=48, d=12, seed=0):
    """Return values in [0, 1], some of them zero, with a structure of rank 3."""
    rng = np.random.default_rng(seed)
    x = special.expit(rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.2 * rng.normal(size=(n, d)))
    x[rng.random(x.shape) < 0.15] = 0
    return x.astype("float32")


def reals(n=48, d=12, seed=0):
    return (6 * unit_values(n, d, seed) - 2).astype("float32")


def counts_and_logs(n=60, d=12, seed=0):
    """Return counts of genes of very unlike means, and the logs of the fraction of each in its cell."""
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(1.0, 4.0, (2, d)) + 0.5
    means = profiles[np.arange(n) % 2] * rng.uniform(0.5, 2, (n, 1))
    counts = rng.poisson(rng.gamma(3.0, means / 3.0)).astype("float32")
    counts[counts.sum(axis=1) == 0, 0] = 1
    return counts, np.log1p(counts / counts.sum(axis=1, keepdims=True) * 50).astype("float32")


def groups(d=12):
    return np.arange(d)[:, None] % 3 == np.arange(3)[None]


def pretrain(x, layer_sizes=(5,), **kwargs):
    kwargs = {"epochs": 2, "batch_size": 64, "learning_rate": 0.01, "progress": False, **kwargs}
    return pretrain_stack(x, layer_sizes, **kwargs)


def numpy_latent(stack, x):
    functions = {
        "linear": np.asarray,
        "relu": lambda v: np.maximum(v, 0),
        "tanh": np.tanh,
        "sigmoid": special.expit,
    }
    for kernel, bias, activation in stack.dense_weights:
        x = functions[activation](x @ kernel + bias)
    return x


def reconstruction(layer, x):
    return np.asarray(keras.ops.convert_to_numpy(layer(x)))


def all_weights(stack):
    return [weight for layer in stack.layers for weight in layer.get_weights()]


def assert_equal_stacks(one, other):
    for first, second in zip(all_weights(one), all_weights(other), strict=True):
        np.testing.assert_array_equal(first, second)
    assert one.history == other.history


# One setting a layer


@pytest.fixture
def fits(monkeypatch, eager):
    """Record of each training its model, optimiser, loss, batches and number of epochs."""
    record = []
    run = fitting.run_epochs

    def spied(model, training, validation, **kwargs):
        record.append({"model": model, "training": training, "validation_data": validation, **kwargs})
        return run(model, training, validation, **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", spied)
    return record


def test_each_layer_has_its_own_settings(fits):
    stack = pretrain(
        unit_values(),
        (6, 5, 4),
        module=("tied", "untied", "tied"),
        activation=("sigmoid", "tanh", "linear"),
        output_activation=[None, "sigmoid", None],
        loss=("cross_entropy", "squared_error", "squared_error"),
        corruption=["masking", GaussianNoise(0.25), "salt_and_pepper"],
        corruption_level=np.array([0.2, 0.5, 0.1]),
        corrupted_weight=(1, 2.0, 1),
        uncorrupted_weight=(1, 0.5, 1),
        epochs=(1, 2, 3),
        patience=(3, 4, 5),
        batch_size=np.array([20, 30, 40]),
        learning_rate=[0.01, 0.02, 0.03],
    )
    assert [layer.tied for layer in stack.layers] == [True, False, True]
    assert [layer.activation.__name__ for layer in stack.layers] == ["sigmoid", "tanh", "linear"]
    assert [layer.output_activation.__name__ for layer in stack.layers] == ["sigmoid", "sigmoid", "linear"]
    assert [type(fit["model"].loss).__name__ for fit in fits] == ["CrossEntropy", "SquaredError", "SquaredError"]
    noises = [fit["training"].corruption for fit in fits]
    assert [type(noise).__name__ for noise in noises] == ["MaskingNoise", "GaussianNoise", "SaltAndPepperNoise"]
    # A noise of one's own has its own level.
    assert [noise.level for noise in noises] == [0.2, 0.25, 0.1]
    assert [fit["training"].emphasis for fit in fits] == [None, (2.0, 0.5), None]
    assert [fit["training"].batch_size for fit in fits] == [20, 30, 40]
    assert [fit["epochs"] for fit in fits] == [1, 2, 3]
    assert [len(history["loss"]) for history in stack.history] == [1, 2, 3]
    np.testing.assert_allclose([float(fit["model"].optimizer.learning_rate) for fit in fits], [0.01, 0.02, 0.03])
    stopping = [c for fit in fits for c in fit["callbacks"] if isinstance(c, keras.callbacks.EarlyStopping)]
    assert [c.patience for c in stopping] == [3, 4, 5]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("module", ("tied",)),
        ("activation", ("relu", "relu", "linear")),
        ("output_activation", (None, None, None)),
        ("loss", ["squared_error"] * 3),
        ("corruption", ("masking",)),
        ("corruption_level", np.array([0.1, 0.2, 0.3])),
        ("corrupted_weight", ()),
        ("uncorrupted_weight", (1,)),
        ("epochs", [1, 2, 3]),
        ("patience", (1,)),
        ("batch_size", np.array([8])),
        ("learning_rate", (0.1,) * 5),
    ],
)
def test_sequences_need_one_value_a_layer(name, values):
    message = rf"`{name}` must be one value, or one for each of the 2 layers\. Received {len(values)} values"
    with pytest.raises(ArgumentError, match=message):
        pretrain(unit_values(), (6, 4), **{name: values})


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("module", ("tied", "deep"), r"`module` must be one of 'tied', .*'random'\. Received 'deep'"),
        ("epochs", (1, 0), r"`epochs` must be an integer of at least 1\. Received 0"),
        ("corruption_level", (0.1, 1.0), r"`corruption_level` must be a number in \[0, 1\)\. Received 1\.0"),
        ("corrupted_weight", -1, r"`corrupted_weight` must be a number in \[0, inf\)\. Received -1"),
        ("uncorrupted_weight", float("inf"), r"`uncorrupted_weight` must be a number in \[0, inf\)\. Received inf"),
        ("learning_rate", (0.1, -1), r"`learning_rate` must be a number in \(0, inf\)\. Received -1"),
        ("loss", ("squared_error", "mae"), r"`loss` must be one of 'squared_error', .*\. Received 'mae'"),
    ],
)
def test_bad_values(name, values, message):
    with pytest.raises(ArgumentError, match=message):
        pretrain(unit_values(), (6, 4), **{name: values})


@pytest.mark.usefixtures("eager")
def test_losses_may_come_as_an_array():
    """As the other settings do: an array is a sequence."""
    stack = pretrain(unit_values(), (6, 4), epochs=1, loss=np.array(["squared_error", "squared_error"]))
    assert len(stack.layers) == 2


# Modules, one upon the other


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("module", MODULES)
def test_each_module(module):
    x = unit_values()
    stack = pretrain(x, (6, 4), module=module, activation="sigmoid")
    assert [layer.latent_shape((None, 1))[-1] for layer in stack.layers] == [6, 4]
    kind = RestrictedBoltzmannMachine if module == "rbm" else DenseLayerAutoencoder
    assert all(isinstance(layer, kind) for layer in stack.layers)
    if kind is DenseLayerAutoencoder:
        assert {layer.tied for layer in stack.layers} == {module != "untied"}
        assert len(stack.layers[0].get_weights()) == (4 if module == "untied" else 3)
    for history in stack.history:
        if module in ("pca", "random"):
            assert history == {"loss": []}
        else:
            names = {"loss", "val_loss"} | ({"free_energy_gap"} if module == "rbm" else set())
            assert set(history) == names
            assert all(len(values) == 2 and np.isfinite(values).all() for values in history.values())
    latent = stack.encode(x)
    assert latent.shape == (48, 4)
    np.testing.assert_allclose(latent, numpy_latent(stack, x), atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_modules_layers_and_widths_mix():
    x = reals()
    given = MaskedAutoencoder(groups(), free_units=3, activation="sigmoid", name="genes")
    machine = RestrictedBoltzmannMachine(5, seed=0, name="machine")
    stack = pretrain(
        x, [given, machine, 4, 3, 2], module=("pca", "pca", "untied", "rbm", "pca"), activation="tanh", epochs=1
    )
    # A given layer is trained as it is, under any `module`.
    assert stack.layers[0] is given
    assert stack.layers[1] is machine
    assert given.count_params() == 12 + 12 * 3 + 6 + 12
    assert [type(layer).__name__ for layer in stack.layers[2:]] == [
        "DenseLayerAutoencoder",
        "RestrictedBoltzmannMachine",
        "DenseLayerAutoencoder",
    ]
    assert [len(history["loss"]) for history in stack.history] == [1, 1, 1, 1, 0]
    assert [name for *_, name in stack.dense_weights] == ["sigmoid", "sigmoid", "tanh", "sigmoid", "linear"]
    kernel = stack.dense_weights[0][0]
    np.testing.assert_array_equal(kernel[:, :3] != 0, groups())
    np.testing.assert_allclose(stack.encode(x), numpy_latent(stack, x), atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_boltzmann_machines_have_visible_units_for_their_input():
    binary, real = unit_values(), reals()
    assert pretrain(binary, (4,), module="rbm", epochs=1).layers[0].visible == "bernoulli"
    assert pretrain(sparse.csr_matrix(binary), (4,), module="rbm", epochs=1).layers[0].visible == "bernoulli"
    layer = pretrain(real, (4,), module="rbm", epochs=1).layers[0]
    assert layer.visible == "gaussian"
    np.testing.assert_allclose(layer.visible_std, np.sqrt(real.var(axis=0).mean()), rtol=1e-4)
    # Upon a sigmoid it sees values in [0, 1], upon another activation real values.
    for activation, visible in (("sigmoid", "bernoulli"), ("tanh", "gaussian")):
        stack = pretrain(real, (5, 4), module=("tied", "rbm"), activation=activation, epochs=1)
        assert stack.layers[1].visible == visible
    above_tanh = pretrain(real, (5, 4), module=("tied", "rbm"), activation="tanh", epochs=1)
    latent = np.tanh(real @ above_tanh.weights[0][0] + above_tanh.weights[0][1])
    np.testing.assert_allclose(above_tanh.layers[1].visible_std, np.sqrt(latent.var(axis=0).mean()), rtol=1e-3)


def test_boltzmann_machines_are_trained_on_clean_rows(fits):
    stack = pretrain(unit_values(), (6,), module="rbm", corruption_level=0.5, uncorrupted_weight=0.0)
    noisy, clean, *weights = fits[0]["training"][0]
    np.testing.assert_array_equal(noisy, clean)
    assert not weights
    # The history is that of reconstruction: the squared error on the held-out rows at the best epoch.
    _, held_out = fits[0]["validation_data"][0]
    best = min(stack.history[0]["val_loss"])
    np.testing.assert_allclose(np.square(reconstruction(stack.layers[0], held_out) - held_out).mean(), best, rtol=1e-4)


def test_boltzmann_machines_learn():
    """Rows are one of three patterns, with a few values flipped."""
    rng = np.random.default_rng(0)
    x = (rng.random((3, 16)) < 0.5)[rng.integers(3, size=128)] ^ (rng.random((128, 16)) < 0.05)
    x = x.astype("float32")
    history = pretrain(x, (8,), module="rbm", epochs=15, patience=15, batch_size=16, learning_rate=0.05).history[0]
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    # Who gives the mean of each feature errs by its variance.
    assert min(history["val_loss"]) < 0.8 * x.var(axis=0).mean()


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_principal_components_are_those_of_sklearn(container):
    x = reals(n=80)
    stack = pretrain(container(x), (4,), module="pca")
    pca = PCA(4).fit(x)
    largest = np.abs(pca.components_).argmax(axis=1)
    signs = np.sign(pca.components_[np.arange(4), largest])
    np.testing.assert_allclose(stack.encode(x), pca.transform(x) * signs, atol=1e-4)
    kernel, bias = stack.weights[0]
    np.testing.assert_allclose(kernel, (pca.components_ * signs[:, None]).T, atol=1e-4)
    np.testing.assert_allclose(bias, -x.mean(axis=0) @ kernel, atol=1e-4)
    assert stack.history == [{"loss": []}]


def test_principal_components_of_encodings():
    """The second layer takes those of what the first one gives."""
    x = reals(n=80)
    stack = pretrain(x, (6, 3), module="pca", activation="relu")
    hidden = np.maximum(x @ stack.weights[0][0] + stack.weights[0][1], 0)
    expected = PCA(3).fit_transform(hidden)
    np.testing.assert_allclose(np.abs(stack.encode(x)), np.abs(expected), atol=1e-4)


def test_more_units_than_components():
    with pytest.raises(ArgumentError, match=r"Received 13 units for 12 components \(48 rows of 12"):
        pretrain(reals(), (13,), module="pca")
    with pytest.raises(ArgumentError, match=r"Received 8 units for 5 components \(5 rows of 12 features\)"):
        pretrain(reals(n=5), (8,), module="pca")


def test_random_layers_are_glorot_uniform():
    x = np.zeros((4, 120), "float32")
    stack = pretrain(x, (60, 40), module="random", random_state=3)
    for (kernel, bias), (fan_in, fan_out) in zip(stack.weights, [(120, 60), (60, 40)], strict=True):
        assert kernel.shape == (fan_in, fan_out)
        limit = np.sqrt(6 / (fan_in + fan_out))
        assert np.abs(kernel).max() <= limit
        assert stats.kstest(kernel.ravel(), stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-4
        np.testing.assert_array_equal(bias, 0)
    assert stack.history == [{"loss": []}, {"loss": []}]
    again, other = (pretrain(x, (60, 40), module="random", random_state=seed) for seed in (3, 4))
    assert_equal_stacks(again, stack)
    assert np.abs(other.weights[0][0] - stack.weights[0][0]).max() > 0.05


@pytest.mark.usefixtures("eager")
def test_trained_and_random_layers_start_from_the_same_weights():
    """Or they could not be compared: a step too small to be seen leaves the trained one where it began."""
    x = reals()
    start = pretrain(x, (6, 4), module="random").weights
    for module in ("tied", "untied", "rbm"):
        weights = pretrain(x, (6, 4), module=module, learning_rate=1e-12, epochs=1).weights
        for (kernel, _), (expected, _) in zip(weights, start, strict=True):
            np.testing.assert_allclose(kernel, expected, atol=1e-6)


# The network that a stack starts


def mixed_stack(x):
    given = MaskedAutoencoder(groups(), activation="sigmoid", name="genes")
    return pretrain(x, [given, 6, 4, 3], module=("tied", "rbm", "untied", "pca"), activation="relu", epochs=1)


@pytest.mark.usefixtures("eager")
def test_encoder_is_an_ordinary_network():
    x = reals()
    stack = mixed_stack(x)
    encoder = stack.encoder()
    assert type(encoder) is keras.Sequential
    assert encoder.name == "encoder"
    assert stack.encoder(name="mine").name == "mine"
    assert [type(layer) for layer in encoder.layers] == [keras.layers.Dense] * 4
    weights = encoder.get_weights()
    assert len(weights) == 8
    for i, (kernel, bias, activation) in enumerate(stack.dense_weights):
        np.testing.assert_array_equal(weights[2 * i], kernel)
        np.testing.assert_array_equal(weights[2 * i + 1], bias)
        assert keras.activations.serialize(encoder.layers[i].activation) == activation
    latent = encoder.predict(x, verbose=0)
    np.testing.assert_allclose(latent, stack.encode(x), atol=1e-5)
    np.testing.assert_allclose(latent, numpy_latent(stack, x), atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_training_the_encoder_leaves_the_stack_alone():
    x = reals()
    stack = mixed_stack(x)
    before, latent = [np.copy(w) for w in all_weights(stack)], stack.encode(x)
    encoder = stack.encoder()
    first = [np.copy(w) for w in encoder.get_weights()]
    encoder.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    for _ in range(2):
        encoder.train_on_batch(x, np.random.default_rng(1).normal(size=(48, 3)).astype("float32"))
    assert all(np.abs(w - old).max() > 1e-3 for w, old in zip(encoder.get_weights(), first, strict=True))
    # A mask holds on in the ordinary network.
    np.testing.assert_array_equal(encoder.get_weights()[0][~groups()], 0)
    for weight, old in zip(all_weights(stack), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(stack.encode(x), latent)
    # The next encoder starts from the stack again.
    for weight, old in zip(stack.encoder().get_weights(), first, strict=True):
        np.testing.assert_array_equal(weight, old)


# What does not go together


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"x": reals(), "loss": "cross_entropy"},
            r"`loss='cross_entropy'` needs data in \[0, 1\]\. Received values from -2 to \d",
        ),
        (
            {"x": unit_values() * 3, "loss": "cross_entropy"},
            r"`loss='cross_entropy'` needs data in \[0, 1\]\. Received values from 0 to [23]",
        ),
        (
            {"x": reals(), "output_activation": "sigmoid"},
            r'`output_activation="sigmoid"` needs data in \[0, 1\]\. Received values from -2 to',
        ),
        (
            {"layer_sizes": (6, 4), "loss": "cross_entropy"},
            r'`loss="cross_entropy"` needs values in \[0, 1\], but layer 2 reconstructs values in another range\. Use '
            r'`activation="sigmoid"`',
        ),
        (
            {"layer_sizes": (6, 5, 4), "activation": ("sigmoid", "tanh", "linear"), "loss": "cross_entropy"},
            r"but layer 3 reconstructs values in another range",
        ),
        (
            {"loss": "cross_entropy", "output_activation": "linear"},
            r"`loss='cross_entropy'` needs a sigmoid reconstruction\. Received `output_activation='linear'`",
        ),
        (
            {"loss": "poisson", "output_activation": "relu"},
            r"`loss='poisson'` needs a linear reconstruction",
        ),
        (
            {"layer_sizes": (6, 4), "loss": ("squared_error", "poisson")},
            r"`loss='poisson'` is a likelihood of counts, which only the first layer reconstructs\. Received it"
            r' for layer 2; pass one loss per layer, such as `loss=\("poisson", "squared_error"\)`',
        ),
        (
            {"layer_sizes": (6, 4), "loss": ["poisson", "negative_binomial"]},
            r"`loss='negative_binomial'` is a likelihood of counts, which only the first layer",
        ),
        ({"loss": "poisson"}, r"`loss='poisson'` needs `counts` with the shape of `x`, \(48, 12\)\. Received None"),
        (
            {"loss": "negative_binomial", "counts": np.ones((48, 11))},
            r"`loss='negative_binomial'` needs `counts` with the shape of `x`, \(48, 12\)\. Received \(48, 11\)",
        ),
        (
            {"loss": "poisson", "counts": sparse.csr_matrix(np.ones((47, 12)))},
            r"needs `counts` with the shape of `x`, \(48, 12\)\. Received \(47, 12\)",
        ),
        (
            {"counts": np.ones((48, 12))},
            r'`counts` needs a likelihood of counts\. Received `loss="squared_error"`',
        ),
        (
            {"loss": "poisson", "counts": -np.ones((48, 12))},
            r"`counts` must be finite and not negative\. Received other values; pass raw counts",
        ),
        (
            {"loss": "poisson", "counts": sparse.csr_matrix(np.where(np.eye(48, 12) > 0, -1.0, 0.0))},
            r"`counts` must be finite and not negative",
        ),
        (
            {"loss": "poisson", "counts": np.full((48, 12), np.nan)},
            r"`counts` must be finite and not negative",
        ),
        (
            {"corrupted_weight": 0, "uncorrupted_weight": 0},
            r"`corrupted_weight` or `uncorrupted_weight` must be above 0\. Received 0 for both.*; set one of them",
        ),
        (
            {"layer_sizes": (6, 4), "corrupted_weight": (1, 0), "uncorrupted_weight": (0, 0)},
            r"`corrupted_weight` or `uncorrupted_weight` must be above 0",
        ),
    ],
)
def test_mismatches(kwargs, message):
    kwargs = {"x": unit_values(), "layer_sizes": (5,), **kwargs}
    with pytest.raises(ArgumentError, match=message):
        pretrain(kwargs.pop("x"), kwargs.pop("layer_sizes"), **kwargs)


@pytest.mark.parametrize("loss", ["poisson", "negative_binomial"])
def test_boltzmann_machines_cannot_restore_counts(loss):
    """They have their own loss, and the likelihood would be ignored."""
    counts, logs = counts_and_logs()
    with pytest.raises(ArgumentError, match=rf"`loss='{loss}'`"):
        pretrain(logs, (5,), module="rbm", loss=loss, counts=counts, epochs=1)
    with pytest.raises(ArgumentError, match=rf"`loss='{loss}'`"):
        pretrain(logs, [RestrictedBoltzmannMachine(5, "gaussian")], loss=loss, counts=counts, epochs=1)


@pytest.mark.usefixtures("eager")
def test_compatible_settings_are_trained():
    x = unit_values()
    # Cross-entropy upon sigmoids, and upon the probabilities of a Boltzmann machine.
    pretrain(x, (6, 4), loss="cross_entropy", activation="sigmoid", epochs=1)
    pretrain(x, (6, 4), loss="cross_entropy", module=("rbm", "tied"), epochs=1)
    pretrain(
        x, [MaskedAutoencoder(groups(), activation="sigmoid"), 4], loss=("squared_error", "cross_entropy"), epochs=1
    )
    # A squared error has any activation.
    assert pretrain(x, output_activation="sigmoid", epochs=1).layers[0].output_activation.__name__ == "sigmoid"
    # One weight may be zero.
    for weights in ({"uncorrupted_weight": 0}, {"corrupted_weight": 0}):
        assert np.isfinite(pretrain(x, epochs=1, **weights).history[0]["loss"]).all()


def test_layers_that_were_given_have_to_fit_their_loss():
    linear = MaskedAutoencoder(groups(), name="genes")
    message = (
        r"`loss='cross_entropy'` needs a sigmoid reconstruction, but layer 1 \('genes'\) has "
        r"`output_activation='linear'`\. Make the layer with `output_activation='sigmoid'`"
    )
    with pytest.raises(ArgumentError, match=message):
        pretrain(unit_values(), [linear], loss="cross_entropy")
    counts, logs = counts_and_logs()
    bent = MaskedAutoencoder(groups(), output_activation="relu", name="genes")
    with pytest.raises(ArgumentError, match=r"`loss='poisson'` needs a linear reconstruction, but layer 1"):
        pretrain(logs, [bent], loss="poisson", counts=counts)
    second = DenseLayerAutoencoder([3], name="upper")
    with pytest.raises(ArgumentError, match=r"but layer 2 \('upper'\) has `output_activation='linear'`"):
        pretrain(unit_values(), [6, second], activation=("sigmoid", "linear"), loss="cross_entropy")


def test_layers_that_cannot_be_trained():
    built = DenseLayerAutoencoder([4], name="used")
    built.build((None, 12))
    with pytest.raises(ArgumentError, match=r"needs layers that are not built\. Received 'used', which is; make a new"):
        pretrain(unit_values(), [built])
    for entry in (keras.layers.Dense(4, name="dense"), keras.Sequential(name="network")):
        with pytest.raises(
            ArgumentError, match=r"must hold widths and autoencoder layers .*other layers have no decoder"
        ):
            pretrain(unit_values(), [6, entry])
    for entry in (0, -3, 2.5, "4", None, True):
        with pytest.raises(ArgumentError, match=r"`layer_sizes` must hold widths and autoencoder layers"):
            pretrain(unit_values(), [MaskedAutoencoder(groups()), entry])


@pytest.mark.parametrize(
    ("sizes", "layer", "units", "width"), [((12,), 1, 12, 12), ((14, 5), 1, 14, 12), ((4, 6), 2, 6, 4)]
)
@pytest.mark.parametrize("module", ["tied", "untied"])
@pytest.mark.usefixtures("eager")
def test_overcomplete_layers_without_noise_warn(sizes, layer, units, width, module):
    message = rf"Layer {layer} is at least as wide as its input \({units} units, {width} features\) and has no corr"
    with pytest.warns(ScqueryWarning, match=message) as caught:
        pretrain(unit_values(), sizes, module=module, corruption="none", epochs=1)
    assert len([w for w in caught if w.category is ScqueryWarning]) == 1
    assert caught[0].filename == __file__


@pytest.mark.usefixtures("eager")
def test_other_wide_layers_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScqueryWarning)
        pretrain(unit_values(), (14,), epochs=1)
        pretrain(unit_values(), (11,), corruption="none", epochs=1)
        pretrain(unit_values(), (14,), corruption="none", module="rbm", epochs=1)
        pretrain(unit_values(), (14,), corruption="none", module="random", epochs=1)


# Counts


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("loss", "container"), [("poisson", np.asarray), ("negative_binomial", sparse.csr_matrix)])
def test_count_losses_learn_the_means(loss, container):
    counts, logs = counts_and_logs(n=96)
    settings = {"epochs": (15, 1), "batch_size": 16, "learning_rate": 0.02, "patience": 15, "activation": "tanh"}
    stack = pretrain(logs, (5, 3), counts=container(counts), loss=loss, **settings)
    history = stack.history[0]
    assert history["loss"][-1] < history["loss"][0]
    assert min(history["val_loss"][1:]) < history["val_loss"][0]
    predicted = counts.sum(axis=1, keepdims=True) * special.softmax(reconstruction(stack.layers[0], logs), axis=1)
    assert np.abs(np.log(predicted.mean(axis=0) / counts.mean(axis=0))).max() < np.log(1.5)
    # It tells the two types of cells apart: better than fractions that are the same for all cells.
    same = counts.sum(axis=1, keepdims=True) * (counts.sum(axis=0) / counts.sum())
    assert stats.poisson.logpmf(counts, predicted).mean() > stats.poisson.logpmf(counts, same).mean() + 0.05
    # The second layer restores embeddings.
    assert type(stack.layers[1]).__name__ == "DenseLayerAutoencoder"
    assert stack.encode(logs).shape == (96, 3)


@pytest.mark.usefixtures("eager")
def test_poisson_loss_is_that_of_scipy():
    """The validation loss without noise and of a layer that hardly moved: the mean negative log-likelihood."""
    counts, logs = counts_and_logs()
    stack = pretrain(
        logs, (5,), counts=counts, loss="poisson", corruption="none", learning_rate=1e-12, epochs=1, random_state=2
    )
    held_out = np.sort(np.random.default_rng([2, 0]).permutation(60)[:6])
    logits = reconstruction(stack.layers[0], logs[held_out])
    means = counts[held_out].sum(axis=1, keepdims=True) * special.softmax(logits, axis=1)
    expected = -stats.poisson.logpmf(counts[held_out], means).mean()
    np.testing.assert_allclose(stack.history[0]["val_loss"], expected, rtol=1e-3)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("loss", ["poisson", "negative_binomial"])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize("masked", [False, True])
def test_first_reconstruction_is_the_mean_fraction(loss, container, masked):
    """Of an embedding of zeros, before anything is learnt; one is added to each sum, so that no fraction is zero."""
    counts, logs = counts_and_logs()
    counts[:, 3] = 0
    layers = [MaskedAutoencoder(groups())] if masked else (5,)
    stack = pretrain(logs, layers, counts=container(counts), loss=loss, learning_rate=1e-12, epochs=1)
    width = 3 if masked else 5
    logits = np.asarray(keras.ops.convert_to_numpy(stack.layers[0].decode(np.zeros((1, width), "float32"))))[0]
    expected = (counts.sum(axis=0) + 1) / (counts.sum() + 12)
    np.testing.assert_allclose(special.softmax(logits), expected, rtol=1e-4)
    np.testing.assert_allclose(logits, np.log(expected), atol=1e-4)


@pytest.mark.usefixtures("eager")
def test_counts_of_integers_do():
    counts, logs = counts_and_logs()
    one, other = (
        pretrain(logs, (4,), counts=c, loss="poisson", epochs=1)
        for c in (counts, sparse.csr_matrix(counts.astype("i8")))
    )
    for first, second in zip(all_weights(one), all_weights(other), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)


# Checkpoints

SETTINGS = {"module": ("tied", "rbm", "untied"), "activation": "sigmoid", "epochs": (2, 1, 1)}


def forbid_training(monkeypatch):
    def run(*args, **kwargs):
        pytest.fail("a finished layer was trained again")

    monkeypatch.setattr(fitting, "run_epochs", run)


def interrupt_before_layer(monkeypatch, number):
    """Let training stop where that of the ``number``-th layer would begin."""
    run, calls = fitting.run_epochs, []

    def interrupted(model, *args, **kwargs):
        calls.append(model)
        if len(calls) == number:
            raise KeyboardInterrupt
        return run(model, *args, **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", interrupted)
    return calls


@pytest.mark.usefixtures("eager")
def test_a_finished_run_is_read_and_not_trained_again(tmp_path, monkeypatch):
    x = unit_values()
    first = pretrain(x, (6, 5, 4), checkpoint=tmp_path / "run", **SETTINGS)
    assert_equal_stacks(pretrain(x, (6, 5, 4), **SETTINGS), first)
    forbid_training(monkeypatch)
    # A path as text will do, and rows as CSR are the same rows.
    for again in (
        pretrain(x, (6, 5, 4), checkpoint=str(tmp_path / "run"), **SETTINGS),
        pretrain(sparse.csr_matrix(x), (6, 5, 4), checkpoint=tmp_path / "run", **SETTINGS),
    ):
        assert_equal_stacks(again, first)
        np.testing.assert_array_equal(again.encode(x), first.encode(x))


@pytest.mark.usefixtures("eager")
def test_untrained_layers_are_made_again(tmp_path):
    """Which takes no longer than to read them."""
    x = reals()
    run = {"module": ("pca", "random", "tied"), "epochs": 1}
    first = pretrain(x, (6, 5, 4), checkpoint=tmp_path, **run)
    assert [p.name for p in tmp_path.iterdir()] == ["layer_2.safetensors"]
    assert_equal_stacks(pretrain(x, (6, 5, 4), checkpoint=tmp_path, **run), first)


OTHER_RUNS = [
    {"epochs": 3},
    {"learning_rate": 0.02},
    {"corruption_level": 0.2},
    {"corruption": "gaussian"},
    {"corruption": MaskingNoise(0.3)},
    {"corrupted_weight": 0.5},
    {"uncorrupted_weight": 0.5},
    {"loss": ("cross_entropy", "squared_error")},
    {"activation": "tanh"},
    {"latent_activation": "tanh"},
    {"module": "untied"},
    {"output_activation": "sigmoid"},
    {"batch_size": 16},
    {"patience": 7},
    {"random_state": 1},
    {"validation_fraction": 0.3},
    {"layer_sizes": (6, 5)},
    {"layer_sizes": (6, 4, 3)},
]


def test_every_setting_of_a_layer_is_tried():
    assert {field.name for field in fields(LayerSettings)} <= {name for other in OTHER_RUNS for name in other}


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pretrain(unit_values(), (6, 4), epochs=1, checkpoint=folder)
    return folder


REFUSED = r"`checkpoint` holds another run: .*layer_0\.safetensors was written with other settings or other data than"


@pytest.mark.parametrize("other", OTHER_RUNS, ids=lambda other: "-".join(map(str, other)))
def test_other_settings_are_refused(one_run, other):
    kwargs = {"layer_sizes": (6, 4), "epochs": 1, **other}
    with pytest.raises(ArgumentError, match=REFUSED):
        pretrain(unit_values(), kwargs.pop("layer_sizes"), checkpoint=one_run, **kwargs)


@pytest.mark.parametrize(
    "other",
    [unit_values(seed=1), unit_values() + np.eye(48, 12, dtype="float32"), unit_values(n=47), unit_values()[::-1]],
)
def test_other_data_are_refused(one_run, other):
    with pytest.raises(ArgumentError, match=REFUSED):
        pretrain(other, (6, 4), epochs=1, checkpoint=one_run)


@pytest.mark.usefixtures("eager")
def test_other_counts_are_refused(tmp_path):
    """They are data as well: what the first layer was trained to restore."""
    counts, logs = counts_and_logs()
    run = {"loss": "poisson", "epochs": 1, "checkpoint": tmp_path}
    pretrain(logs, (4,), counts=counts, **run)
    with pytest.raises(ArgumentError, match=REFUSED):
        pretrain(logs, (4,), counts=counts + 1, **run)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("other", [GaussianNoise(0.3), MaskingNoise(0.2), FeatureMaskingNoise(0.3, 0.3)])
def test_another_noise_object_is_refused(tmp_path, other):
    run = {"epochs": 1, "checkpoint": tmp_path}
    pretrain(unit_values(), (4,), corruption=MaskingNoise(0.3), **run)
    pretrain(unit_values(), (4,), corruption=MaskingNoise(0.3), **run)
    with pytest.raises(ArgumentError, match=REFUSED):
        pretrain(unit_values(), (4,), corruption=other, **run)


@pytest.mark.usefixtures("eager")
def test_a_run_with_given_layers_resumes(tmp_path, monkeypatch):
    """A layer can be built once only, so each call has a new one: what Keras called it is no setting."""

    def layers(**kwargs):
        seeded = keras.initializers.GlorotUniform(seed=1)
        return [MaskedAutoencoder(groups(), activation="sigmoid", kernel_initializer=seeded, **kwargs), 2]

    x = unit_values()
    first = pretrain(x, layers(), checkpoint=tmp_path, epochs=1)
    forbid_training(monkeypatch)
    assert_equal_stacks(pretrain(x, layers(), checkpoint=tmp_path, epochs=1), first)
    with pytest.raises(ArgumentError, match=REFUSED):
        pretrain(x, layers(free_units=1), checkpoint=tmp_path, epochs=1)


@pytest.mark.usefixtures("eager")
def test_the_rest_of_an_interrupted_write_is_ignored(tmp_path):
    x = unit_values()
    expected = pretrain(x, (6, 4), checkpoint=tmp_path)
    (tmp_path / "layer_1.safetensors").unlink()
    (tmp_path / "layer_1.part").write_bytes(b"half of it")
    assert_equal_stacks(pretrain(x, (6, 4), checkpoint=tmp_path), expected)
    # It was written again, as a whole.
    assert_equal_stacks(pretrain(x, (6, 4), checkpoint=tmp_path), expected)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["layer_0.safetensors", "layer_1.safetensors"]


@pytest.mark.usefixtures("eager")
def test_nothing_is_pickled(tmp_path, monkeypatch):
    from safetensors import safe_open

    def forbidden(*args, **kwargs):
        pytest.fail("a checkpoint is read or written by pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, forbidden)
    folder = tmp_path / "a" / "b"
    stack = pretrain(unit_values(), (6, 4), checkpoint=folder)
    pretrain(unit_values(), (6, 4), checkpoint=folder)
    assert {p.suffix for p in folder.iterdir()} == {".safetensors"}
    for i, layer in enumerate(stack.layers):
        with safe_open(folder / f"layer_{i}.safetensors", framework="numpy") as file:
            record = json.loads(file.metadata()["record"])
            # With the weights of the layer and, of a trained model, nothing that only training needs.
            weights = [file.get_tensor(f"model.{j}") for j in range(len(layer.weights))]
            assert not [name for name in file.keys() if name.startswith("optimizer")]  # noqa: SIM118 (no mapping)
        assert set(record) == {"finished", "fingerprint", "history"}
        assert record["history"] == stack.history[i]
        for saved, weight in zip(weights, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(saved, weight)


def test_bad_checkpoint(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ArgumentError, match=r"`checkpoint` must be the path of a folder\. Received .*file, which is a"):
        pretrain(unit_values(), checkpoint=path)
    with pytest.raises(ArgumentError, match=r"`checkpoint` must be a path: .*Received 3"):
        pretrain(unit_values(), checkpoint=3)
