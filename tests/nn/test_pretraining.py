"""Greedy pretraining: what reaches the training step, when it stops, and what it leaves."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import sparse

from scquery_ae._errors import ArgumentError, TrainingError
from scquery_ae.nn import MatrixRows, PretrainedStack, fitting, pretrain_stack

pytestmark = [
    pytest.mark.backend,
]

ACTIVATIONS = {"linear": lambda x: x, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0)}


def low_rank(n=60, d=12, rank=3, seed=0):
    """Return data that an embedding of width `rank` can hold, no value of which is zero."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, d)) + 0.05 * rng.normal(size=(n, d))
    return x.astype("float32")


def pretrain(x, layer_sizes=(5,), **kwargs):
    kwargs = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "progress": False, **kwargs}
    return pretrain_stack(x, layer_sizes, **kwargs)


def numpy_encode(stack, x, activations):
    for (kernel, bias), activation in zip(stack.weights, activations, strict=True):
        x = ACTIVATIONS[activation](x @ kernel + bias)
    return x


@pytest.fixture
def steps(monkeypatch, eager):
    """Record what the training and test steps of each training work on: ``(is_training, input, target)``.

    The hook is Keras' `compute_loss`, which the steps of all backends call with their batch; running eagerly
    makes the batch one of numbers. Before training begins Keras tries the model on made-up values.
    """
    record, begun = [], []
    run, compute_loss = fitting.run_epochs, keras.Model.compute_loss

    def spied_run(model, *args, callbacks, **kwargs):
        record.append([])
        begin = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: begun.append(model), on_train_end=lambda logs: begun.clear()
        )
        return run(model, *args, callbacks=[*callbacks, begin], **kwargs)

    def spied_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if begun:
            record[-1].append((training, keras.ops.convert_to_numpy(x), keras.ops.convert_to_numpy(y)))
        return compute_loss(self, x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)

    monkeypatch.setattr(fitting, "run_epochs", spied_run)
    monkeypatch.setattr(keras.Model, "compute_loss", spied_loss)
    return record


@pytest.fixture
def weights_by_epoch(monkeypatch):
    """Record the weights at the end of each epoch of each training."""
    record = []
    run = fitting.run_epochs

    def spied_run(model, *args, callbacks, **kwargs):
        record.append([])
        keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: record[-1].append(model.get_weights()))
        return run(model, *args, callbacks=[*callbacks, keep], **kwargs)

    monkeypatch.setattr(fitting, "run_epochs", spied_run)
    return record


def epochs_of(fit_steps, training, n_epochs):
    """Return one ``(inputs, targets)`` an epoch of what one training trained or tested on."""
    chosen = [(x, y) for is_training, x, y in fit_steps if is_training == training]
    per_epoch, rest = divmod(len(chosen), n_epochs)
    assert rest == 0
    parts = [chosen[i * per_epoch : (i + 1) * per_epoch] for i in range(n_epochs)]
    return [tuple(np.concatenate(arrays) for arrays in zip(*part, strict=True)) for part in parts]


def which_rows(targets, clean):
    """Return the row of `clean` that each target is, checking that it is one."""
    distance = np.abs(targets[:, None] - clean[None]).max(axis=2)
    assert (distance.min(axis=1) < 1e-5).all()
    return distance.argmin(axis=1)


# What reaches the training step


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_matrix])
def test_training_steps_see_corrupted_inputs_and_clean_targets(steps, container):
    x = low_rank()
    x[np.random.default_rng(9).random(x.shape) < 0.4] = 0
    stack = pretrain(container(x), (6, 4), epochs=3, activation="tanh", corruption_level=0.3, validation_fraction=0.2)
    # For the second layer the clean target is the clean embedding of the trained first one.
    first = PretrainedStack(stack.layers[:1])
    clean = [x, numpy_encode(first, x, ["tanh"])]
    assert len(steps) == 2
    for fit_steps, rows in zip(steps, clean, strict=True):
        training, validation = (epochs_of(fit_steps, is_training, 3) for is_training in (True, False))
        read, masks = [], []
        for noisy, target in training:
            found = which_rows(target, rows)
            np.testing.assert_allclose(target, rows[found], atol=1e-5)
            changed = noisy != target
            assert (noisy[changed] == 0).all()
            # Of 48 x 12 and 48 x 6 values; where the clean one is zero already, masking cannot be seen.
            assert 0.2 < changed.sum() / (target != 0).sum() < 0.4
            read.append(found)
            mask = np.zeros(rows.shape, bool)
            mask[found] = changed
            masks.append(mask)
        # Every epoch: all training rows once, in another order, under another mask.
        assert all(sorted(found) == sorted(read[0]) for found in read)
        assert len(set(read[0])) == len(read[0]) == 48
        assert not np.array_equal(read[0], read[1])
        assert (masks[0] != masks[1]).any()
        assert (masks[1] != masks[2]).any()
        # Validation: the other rows, corrupted once and for all, so that its losses can be compared.
        held_out = [which_rows(target, rows) for _, target in validation]
        assert sorted([*read[0], *held_out[0]]) == list(range(60))
        for noisy, target in validation:
            np.testing.assert_array_equal(noisy, validation[0][0])
            np.testing.assert_array_equal(target, validation[0][1])
            assert (noisy != target).any()
    # Both layers hold out the same rows.
    held_out = [set(which_rows(epochs_of(s, False, 3)[0][1], r)) for s, r in zip(steps, clean, strict=True)]
    assert held_out[0] == held_out[1]


def test_gaussian_noise_reaches_the_training_step(steps):
    x = low_rank(n=100)
    pretrain(x, epochs=1, corruption="gaussian", corruption_level=0.2, validation_fraction=0)
    [(noisy, target)] = epochs_of(steps[0], True, 1)
    which_rows(target, x)
    # 1200 draws: four standard deviations of the estimate are 8 %.
    assert 0.92 < (noisy - target).std() / 0.2 < 1.08


def test_no_corruption_is_a_plain_autoencoder(steps):
    pretrain(low_rank(), epochs=1, corruption="none", validation_fraction=0)
    [(noisy, target)] = epochs_of(steps[0], True, 1)
    np.testing.assert_array_equal(noisy, target)


def test_rows_with_their_own_dense_step(steps):
    """Noise is drawn on what `take` gives; the network sees what `dense` makes of it."""

    class Centred(MatrixRows):
        def dense(self, batch):
            return super().dense(batch) - 7

    x = low_rank()
    stack = pretrain(Centred(x), epochs=1, validation_fraction=0)
    [(noisy, target)] = epochs_of(steps[0], True, 1)
    found = which_rows(target, x - 7)
    changed = noisy != target
    assert (noisy[changed] == -7).all()
    assert sorted(found) == list(range(60))
    np.testing.assert_allclose(stack.encode(Centred(x)), numpy_encode(stack, x - 7, ["linear"]), atol=1e-4)


# What is left


@pytest.mark.usefixtures("eager")
def test_layers_and_weights():
    x = low_rank()
    stack = pretrain(x, [7, 5, 3], epochs=1)
    assert [tuple(k.shape) for k, _ in stack.weights] == [(12, 7), (7, 5), (5, 3)]
    assert [b.shape for _, b in stack.weights] == [(7,), (5,), (3,)]
    for (kernel, bias), layer in zip(stack.weights, stack.layers, strict=True):
        assert isinstance(kernel, np.ndarray)
        assert layer.layer_sizes == (kernel.shape[1],)
        np.testing.assert_array_equal(kernel, layer.get_weights()[0])
        np.testing.assert_array_equal(bias, layer.get_weights()[1])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("sizes", [(4,), (6, 5, 4)])
def test_activations_are_those_of_hidden_layers_and_of_the_embedding(sizes):
    x = low_rank()
    stack = pretrain(x, sizes, epochs=1, activation="relu", latent_activation="tanh")
    activations = ["relu"] * (len(sizes) - 1) + ["tanh"]
    assert [layer.activation.__name__ for layer in stack.layers] == activations
    assert {layer.output_activation.__name__ for layer in stack.layers} == {"linear"}
    expected = numpy_encode(stack, x, activations)
    for container in (np.asarray, sparse.csr_matrix):
        latent = stack.encode(container(x))
        assert latent.dtype == np.float32
        assert latent.shape == (60, 4)
        np.testing.assert_allclose(latent, expected, atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_default_embedding_is_linear_and_hidden_layers_are_relu():
    x = low_rank()
    stack = pretrain(x, (6, 4), epochs=1)
    np.testing.assert_allclose(stack.encode(x), numpy_encode(stack, x, ["relu", "linear"]), atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_input_is_left_alone():
    x = low_rank()
    csr = sparse.csr_matrix(x)
    pretrain(x, epochs=1)
    pretrain(csr, epochs=1)
    np.testing.assert_array_equal(x, low_rank())
    np.testing.assert_array_equal(csr.toarray(), x)


# Learning


def test_denoising_loss_falls_and_beats_the_mean():
    x = low_rank(n=200, d=20)
    stack = pretrain(x, (8,), epochs=25, batch_size=32, corruption_level=0.2)
    history = stack.history[0]
    assert history["val_loss"][-1] < 0.5 * history["val_loss"][0]
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    # Who gives the mean of each column errs by its variance.
    assert history["val_loss"][-1] < 0.5 * x.var(axis=0).mean()
    # The loss is that of denoising, recomputed from the layer with noise of our own.
    noisy = np.where(np.random.default_rng(5).random(x.shape) < 0.2, 0, x).astype("float32")
    error = np.square(keras.ops.convert_to_numpy(stack.layers[0](noisy)) - x).mean()
    np.testing.assert_allclose(error, history["val_loss"][-1], rtol=0.35)


@pytest.mark.usefixtures("eager")
def test_without_validation_every_epoch_is_trained():
    stack = pretrain(low_rank(), (6, 4), epochs=3, patience=1, validation_fraction=0)
    assert len(stack.history) == 2
    for history in stack.history:
        assert set(history) == {"loss"}
        assert len(history["loss"]) == 3
        assert all(type(v) is float and np.isfinite(v) for v in history["loss"])


@pytest.mark.usefixtures("eager")
def test_histories_with_validation():
    stack = pretrain(low_rank(), (6, 4), epochs=3, patience=3)
    for history in stack.history:
        assert set(history) == {"loss", "val_loss"}
        assert len(history["loss"]) == len(history["val_loss"]) == 3


def test_validation_loss_is_that_of_the_held_out_rows(steps):
    stack = pretrain(low_rank(), (5,), epochs=2, patience=2, validation_fraction=0.3, learning_rate=0.003)
    noisy, clean = epochs_of(steps[0], False, 2)[1]
    best = int(np.argmin(stack.history[0]["val_loss"]))
    predicted = keras.ops.convert_to_numpy(stack.layers[0](noisy))
    np.testing.assert_allclose(np.square(predicted - clean).mean(), stack.history[0]["val_loss"][best], rtol=1e-4)


def unlearnable():
    """Return rows and settings under which the loss on held-out rows soon rises."""
    x = np.random.default_rng(1).normal(size=(24, 12)).astype("float32")
    return x, {"validation_fraction": 0.4, "learning_rate": 0.05, "batch_size": 4, "corruption_level": 0.1}


def test_stops_after_patience_and_keeps_the_best_epoch(weights_by_epoch):
    x, settings = unlearnable()
    stack = pretrain(x, (10,), epochs=30, patience=2, **settings)
    losses = stack.history[0]["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) < 30, "training was to stop early"
    # Two epochs without a lower loss, and no earlier run of two.
    assert len(losses) == best + 1 + 2
    record = np.minimum.accumulate(losses)
    assert all(record[i + 2] < record[i] for i in range(best - 1))
    kept, last = weights_by_epoch[0][best], weights_by_epoch[0][-1]
    for weight, of_best, of_last in zip(stack.layers[0].get_weights(), kept, last, strict=True):
        np.testing.assert_array_equal(weight, of_best)
        assert np.abs(weight - of_last).max() > 1e-3


def test_keeps_the_best_epoch_when_the_epochs_run_out(weights_by_epoch):
    x, settings = unlearnable()
    stack = pretrain(x, (10,), epochs=8, patience=8, **settings)
    losses = stack.history[0]["val_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == 8
    assert best < 7, "the last epoch was the best, which shows nothing"
    for weight, of_best in zip(stack.layers[0].get_weights(), weights_by_epoch[0][best], strict=True):
        np.testing.assert_array_equal(weight, of_best)


# Seeds


def all_weights(stack):
    return [w for layer in stack.layers for w in layer.get_weights()]


@pytest.mark.usefixtures("eager")
def test_random_state():
    x = low_rank()
    keras.utils.set_random_seed(1)
    first = pretrain(x, (6, 4), random_state=3)
    # Neither Keras' nor NumPy's global seed changes the result.
    keras.utils.set_random_seed(2)
    again, other = pretrain(x, (6, 4), random_state=3), pretrain(x, (6, 4), random_state=4)
    for one, same in zip(all_weights(first), all_weights(again), strict=True):
        np.testing.assert_array_equal(one, same)
    assert again.history == first.history
    for one, different in zip(first.weights, other.weights, strict=True):
        assert np.abs(one[0] - different[0]).max() > 0.05


def test_random_state_when_compiled():
    x = low_rank()
    first, again = (pretrain(x, (5,), random_state=3, validation_fraction=0) for _ in range(2))
    for one, same in zip(all_weights(first), all_weights(again), strict=True):
        np.testing.assert_array_equal(one, same)


@pytest.mark.usefixtures("eager")
def test_random_state_may_be_a_numpy_integer():
    x = low_rank()
    one, other = pretrain(x, random_state=3, epochs=1), pretrain(x, random_state=np.int64(3), epochs=1)
    np.testing.assert_array_equal(all_weights(one)[0], all_weights(other)[0])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("corruption", "zeros"), [("none", True), ("gaussian", True), ("masking", False)])
def test_csr_and_dense_give_the_same(corruption, zeros):
    """Masking draws on the stored values only: its stream is the dense one where no value is zero."""
    x = low_rank()
    if zeros:
        x[np.random.default_rng(9).random(x.shape) < 0.5] = 0
    dense, csr = (
        pretrain(container(x), (6, 4), corruption=corruption) for container in (np.asarray, sparse.csr_matrix)
    )
    for one, other in zip(all_weights(dense), all_weights(csr), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.usefixtures("eager")
def test_other_number_types():
    x = np.random.default_rng(0).poisson(2, (40, 8))
    of_float, of_double, of_integer = (all_weights(pretrain(x.astype(t), epochs=1)) for t in ("f4", "f8", "i8"))
    for w, v, u in zip(of_float, of_double, of_integer, strict=True):
        np.testing.assert_allclose(w, v, atol=1e-6)
        np.testing.assert_allclose(w, u, atol=1e-6)
        assert v.dtype == u.dtype == np.float32


# Edges and bad arguments


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [2, 3])
def test_few_rows_always_leave_some_to_train_on(n, fraction):
    stack = pretrain(low_rank(n), (2,), epochs=1, validation_fraction=fraction)
    assert np.isfinite(stack.history[0]["loss"]).all()


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_rows(n):
    with pytest.raises(ArgumentError, match=rf"Pretraining needs at least two rows\. Received {n}; pass more cells"):
        pretrain(low_rank()[:n])


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("layer_sizes", (), r"`layer_sizes` must be a non-empty sequence of positive integers"),
        ("layer_sizes", (5, 0), r"`layer_sizes` must be .* Received \(5, 0\)"),
        ("layer_sizes", 5, r"`layer_sizes` must be .* Received 5"),
        ("epochs", 0, r"`epochs` must be an integer of at least 1\. Received 0"),
        ("epochs", 1.0, r"`epochs` must be an integer of at least 1\. Received 1\.0"),
        ("epochs", True, r"`epochs` must be an integer"),
        ("patience", 0, r"`patience` must be an integer of at least 1"),
        ("batch_size", 0, r"`batch_size` must be an integer of at least 1"),
        ("batch_size", "16", r"`batch_size` must be an integer of at least 1\. Received '16'"),
        ("random_state", -1, r"`random_state` must be an integer of at least 0\. Received -1"),
        ("random_state", None, r"`random_state` must be an integer of at least 0\. Received None"),
        ("learning_rate", 0, r"`learning_rate` must be a number in \(0, inf\)\. Received 0"),
        ("learning_rate", "fast", r"`learning_rate` must be a number"),
        ("validation_fraction", 1, r"`validation_fraction` must be a number in \[0, 1\)\. Received 1"),
        ("validation_fraction", -0.1, r"`validation_fraction` must be a number in \[0, 1\)"),
        ("corruption", "salt", r"`corruption` must be one of 'masking', .*'none'\. Received 'salt'"),
        ("corruption_level", 1, r"`corruption_level` must be a number in \[0, 1\)"),
        ("corruption_level", -0.1, r"`corruption_level` must be a number in \[0, 1\)"),
    ],
)
def test_bad_arguments(argument, value, message):
    kwargs = {"layer_sizes": (5,), argument: value}
    with pytest.raises(ArgumentError, match=message):
        pretrain(low_rank(), **kwargs)


def test_unknown_activation():
    with pytest.raises(ArgumentError, match=r"name of a Keras activation.*no_such_name"):
        pretrain(low_rank(), (5,), latent_activation="no_such_name")


@pytest.mark.usefixtures("eager")
def test_divergence_is_an_error():
    x = low_rank()
    x[3, 4] = np.nan
    with pytest.raises(
        TrainingError, match=r"Training diverged: `loss` should be finite, but is nan in epoch 1\. Lower"
    ):
        pretrain(x, validation_fraction=0)
    with pytest.raises(TrainingError, match=r"Training diverged: `loss` should be finite, but is (inf|nan) in epoch"):
        pretrain(low_rank(), learning_rate=1e30, validation_fraction=0)
