"""The training loop: the same steps, losses and callbacks on every backend, and batches that are read ahead."""

from __future__ import annotations

import threading
import time

import keras
import numpy as np
import pytest
from keras import ops

from scquery_ae._errors import ArgumentError, TrainingError
from scquery_ae.nn import BalancedBatches, Batches, MaskingNoise, MatrixRows, fit
from scquery_ae.nn.fitting import read_batches, run_epochs

pytestmark = [
    pytest.mark.backend,
    # PyTorch's data loader, where no accelerator is.
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true"),
]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 4)).astype("float32")
Y = RNG.normal(size=(22, 3)).astype("float32")
WEIGHTS = RNG.uniform(0.2, 3, 22).astype("float32")
RATE, EPOCHS = 0.1, 3


def batches(indices=None, kind=Batches, rows=None, **kwargs):
    indices = np.arange(16) if indices is None else indices
    # Batches of seven: the last of an epoch is smaller.
    kwargs = {"targets": Y[indices], "batch_size": 7, "seed": 5} | kwargs
    return kind(MatrixRows(X) if rows is None else rows, indices, **kwargs)


def held_out(**kwargs):
    return batches(np.arange(16, 22), batch_size=4, seed=6, fixed=True, **kwargs)


def linear_model(**compiled):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(RATE), "mse", **compiled)
    return model


def run(model, training, validation=None, epochs=EPOCHS, **kwargs):
    settings = {"patience": 99, "title": "t", "progress": False} | kwargs
    return fit(model, training, validation, epochs=epochs, **settings)


def by_hand(training, validation, epochs=EPOCHS):
    """Gradient descent on the weighted squared error of a linear model, in NumPy: losses by epoch, and the weights."""
    kernel, bias = np.ones((4, 3)), np.zeros(3)

    def loss_of(batch, weight):
        return (np.square(batch[0] @ kernel + bias - batch[1]).mean(axis=1) * weight).mean()

    history, weights = {"loss": [], "val_loss": []}, []
    for epoch in range(epochs):
        training.start_at(epoch)
        for name, rows in (("loss", training), ("val_loss", validation)):
            total, n = 0.0, 0
            for batch in (rows[i] for i in range(rows.num_batches)):
                weight = batch[2] if len(batch) > 2 else np.ones(len(batch[0]))
                total += len(batch[0]) * loss_of(batch, weight)
                n += len(batch[0])
                if name == "loss":
                    slope = 2 * (batch[0] @ kernel + bias - batch[1]) * weight[:, None] / batch[1].size
                    kernel, bias = kernel - RATE * batch[0].T @ slope, bias - RATE * slope.sum(axis=0)
            history[name].append(total / n)
        weights.append((kernel, bias))
    return history, weights


@pytest.mark.parametrize("weighted", [False, True])
def test_losses_and_weights_are_those_of_gradient_descent_by_hand(weighted):
    given = [{"weights": WEIGHTS[chosen]} if weighted else {} for chosen in (slice(16), slice(16, 22))]
    made = [(batches(corruption=MaskingNoise(0.3), **given[0]), held_out(**given[1])) for _ in range(2)]
    expected, weights = by_hand(*made[0])
    model = linear_model()
    history = run(model, *made[1])
    assert list(history) == ["loss", "val_loss"]
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    # Patience enough for all epochs, but the weights are those of the best.
    for weight, same in zip(model.get_weights(), weights[np.argmin(expected["val_loss"])], strict=True):
        np.testing.assert_allclose(weight, same, rtol=1e-5, atol=1e-6)


def test_weighted_metrics_count_each_row_of_an_epoch_by_its_weight():
    """Not each batch by its rows: the batches of an epoch weigh differently."""
    kinds = np.eye(3, dtype="float32")[RNG.integers(0, 3, 22)]
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.SGD(1e-12), "categorical_crossentropy", weighted_metrics=["accuracy"])
    neighbors = keras.ops.convert_to_numpy(model(X)).argmax(axis=1) == kinds.argmax(axis=1)
    assert 0 < neighbors[:16].mean() < 1
    history = run(model, batches(targets=kinds[:16], weights=WEIGHTS[:16]), epochs=1)
    assert list(history) == ["accuracy", "loss"] or list(history) == ["loss", "accuracy"]
    np.testing.assert_allclose(history["accuracy"], [(neighbors * WEIGHTS)[:16].sum() / WEIGHTS[:16].sum()], rtol=1e-5)


class WithOwnLoss(keras.layers.Layer):
    """A layer with a loss of its own, as a Boltzmann machine has: the mean of ``(w x)^2``."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs * self.w)))
        return inputs * self.w

    def compute_output_shape(self, shape):
        return shape


def test_a_layer_that_adds_its_own_loss():
    model = keras.Sequential([keras.Input((4,)), WithOwnLoss()])
    model.compile(keras.optimizers.SGD(RATE), loss=None, metrics=["mse"])
    read, w, expected = batches(targets=None), np.ones(4), {"loss": [], "mse": []}
    for epoch in range(EPOCHS):
        read.start_at(epoch)
        sums = np.zeros(2)
        for x, _ in (read[i] for i in range(read.num_batches)):
            sums += len(x) * np.array([np.square(x * w).mean(), np.square(x * w - x).mean()])
            w = w - RATE * 2 * np.square(x).sum(axis=0) * w / x.size
        for name, value in zip(expected, sums / 16, strict=True):
            expected[name].append(value)
    history = run(model, batches(targets=None))
    assert set(history) == {"loss", "mse"}
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.get_weights()[0], w, rtol=1e-5)


def two_outputs():
    inputs = keras.Input((4,))
    outputs = {
        "classifier": keras.layers.Dense(3, kernel_initializer="ones", name="classifier")(inputs),
        "latent": keras.layers.Dense(2, kernel_initializer="ones", name="latent")(inputs),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(RATE),
        {"classifier": "mse", "latent": "mae"},
        loss_weights={"classifier": 2.0, "latent": 0.5},
    )
    return model


def test_several_outputs_have_a_loss_each():
    """Against steps of Keras over the same batches one by one, from the same weights."""
    targets = {"classifier": Y[:16], "latent": Y[:16, :2]}
    weights = {"classifier": WEIGHTS[:16], "latent": np.ones(16, "float32")}
    read = {"targets": targets, "weights": weights}
    later = {"targets": {"classifier": Y[16:], "latent": Y[16:, :2]}, "weights": {k: v[:6] for k, v in weights.items()}}
    ours, single = two_outputs(), two_outputs()
    history = run(ours, batches(**read), held_out(**later), monitor="val_classifier_loss")
    assert np.argmin(history["val_classifier_loss"]) == EPOCHS - 1, "choose data that are learnt"
    assert set(history) == {
        "loss",
        "classifier_loss",
        "latent_loss",
        "val_loss",
        "val_classifier_loss",
        "val_latent_loss",
    }
    training, validation = batches(**read), held_out(**later)
    for epoch in range(EPOCHS):
        training.start_at(epoch)
        for prefix, step, rows in (
            ("", single.train_on_batch, training),
            ("val_", single.test_on_batch, validation),
        ):
            found = [
                (len(batch[0]), step(*batch, return_dict=True)) for batch in (rows[i] for i in range(rows.num_batches))
            ]
            for name in ("loss", "classifier_loss", "latent_loss"):
                expected = np.average([logs[name] for _, logs in found], weights=[n for n, _ in found])
                np.testing.assert_allclose(history[prefix + name][epoch], expected, rtol=1e-5)
    for one, other in zip(ours.get_weights(), single.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    # The sum is that of the parts, as they are weighted.
    parts = 2 * np.array(history["classifier_loss"]) + 0.5 * np.array(history["latent_loss"])
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-5)


# Which batches, when.


class Watched(Batches):
    """Batches that record which were read: the epoch, and their rows."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.read = []

    def __getitem__(self, index):
        batch = super().__getitem__(index)
        self.read.append((self._epoch, index, batch[0].copy()))
        return batch


@pytest.mark.parametrize("first", [0, 2])
def test_every_epoch_reads_its_own_batches_wherever_training_begins(first):
    """Keras reads a batch to build the model, and ends an epoch before the first: neither may shift the order."""
    read, begun = batches(kind=Watched, corruption=MaskingNoise(0.5)), []
    begin = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(len(read.read)))
    history = run_epochs(linear_model(), read, None, first=first, epochs=4, callbacks=[begin])
    assert len(history["loss"]) == 4 - first
    seen = read.read[begun[0] :]
    expected = batches(corruption=MaskingNoise(0.5))
    assert [(epoch, index) for epoch, index, _ in seen] == [(e, i) for e in range(first, 4) for i in range(3)]
    for epoch, index, x in seen:
        expected.start_at(epoch)
        np.testing.assert_array_equal(x, expected[index][0])


def test_callbacks_see_the_losses_of_each_epoch():
    seen, order = [], []
    watch = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: order.append("begin"),
        on_epoch_begin=lambda epoch, logs: order.append(epoch),
        on_epoch_end=lambda epoch, logs: seen.append(dict(logs)),
        on_train_end=lambda logs: order.append("end"),
    )
    history = run(linear_model(), batches(), held_out(), callbacks=[watch])
    assert order == ["begin", 0, 1, 2, "end"]
    assert [set(logs) for logs in seen] == [{"loss", "val_loss"}] * 3
    for name, values in history.items():
        assert [logs[name] for logs in seen] == values
        assert all(type(value) is float for value in values)


def test_many_runs_in_a_process_are_not_warned_of(caplog):
    # TensorFlow counts the tracings of all models together; each of these is traced twice, for its smaller last batch.
    for _ in range(8):
        run(linear_model(), batches(), epochs=1)
    assert not [record for record in caplog.records if "retracing" in record.getMessage()]


def test_without_validation_there_are_no_losses_of_it():
    assert set(run(linear_model(), batches(), patience=1)) == {"loss"}


def test_early_stopping_keeps_the_weights_of_the_best_epoch():
    # Held-out targets are the opposite of what is learnt: every epoch is worse than the one before, from the second on.
    model, kept = linear_model(), []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: kept.append(model.get_weights()))
    history = run(
        model,
        batches(targets=np.full((16, 3), 9, "float32")),
        held_out(targets=np.full((6, 3), -9, "float32")),
        epochs=9,
        patience=2,
        callbacks=[watch],
    )
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 3 < 9
    for weight, of_best, of_last in zip(model.get_weights(), kept[best], kept[-1], strict=True):
        np.testing.assert_array_equal(weight, of_best)
        assert np.abs(weight - of_last).max() > 1e-3


def test_a_loss_that_is_not_finite_is_an_error():
    with pytest.raises(TrainingError, match=r"Training diverged: `loss` should be finite, but is (nan|inf) in epoch"):
        run(linear_model(), batches(targets=np.full((16, 3), np.nan, "float32")))


def test_balanced_batches_are_read_whole():
    types = np.arange(16) % 4
    read = batches(kind=BalancedBatches, types=types, batch_size=8, n_cells=2)
    assert read.num_batches == 2
    assert len(run(linear_model(), read)["loss"]) == EPOCHS


# Batches that are read ahead.


class OnDisk(MatrixRows):
    """Rows that are said to be on a disk, and who reads them."""

    on_disk = True

    def __init__(self, matrix, fail_at=None):
        super().__init__(matrix)
        self.threads = []
        self.fail_at = fail_at

    def take(self, indices):
        self.threads.append(threading.current_thread())
        if len(self.threads) == self.fail_at:
            msg = "the disk is gone"
            raise OSError(msg)
        return super().take(indices)


def test_rows_on_a_disk_give_the_same_batches():
    noise = MaskingNoise(0.5)
    here, there = batches(corruption=noise), batches(rows=OnDisk(X), corruption=noise)
    assert not here.on_disk
    assert there.on_disk
    for epoch in range(2):
        for one in (here, there):
            one.start_at(epoch)
        read = [list(read_batches(one)) for one in (here, there)]
        assert [len(batch[0]) for batch in read[0]] == [7, 7, 2]
        for one, other in zip(*read, strict=True):
            for array, same in zip(one, other, strict=True):
                np.testing.assert_array_equal(array, same)
    # By one thread, which is not this one.
    assert threading.main_thread() not in there.rows.threads
    assert {len(set(there.rows.threads[i : i + 3])) for i in (0, 3)} == {1}


def test_one_batch_is_read_ahead():
    rows = OnDisk(X)
    reader = read_batches(batches(np.arange(22), targets=Y, rows=rows, batch_size=4))
    assert len(rows.threads) == 0
    for n_asked in range(1, 7):
        next(reader)
        # The next one is read while this one is used, and no more than that.
        expected = min(n_asked + 1, 6)
        for _ in range(500):
            if len(rows.threads) >= expected:
                break
            time.sleep(0.01)
        time.sleep(0.02)
        assert len(rows.threads) == expected
    with pytest.raises(StopIteration):
        next(reader)


def test_rows_on_a_disk_train_as_rows_in_memory_do():
    here, there = linear_model(), linear_model()
    assert run(here, batches(), held_out()) == run(there, batches(rows=OnDisk(X)), held_out(rows=OnDisk(X)))
    for one, other in zip(here.get_weights(), there.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_an_error_while_reading_ahead_surfaces(fail_at):
    n_threads = threading.active_count()
    with pytest.raises(OSError, match="the disk is gone"):
        list(read_batches(batches(rows=OnDisk(X, fail_at))))
    assert threading.active_count() == n_threads


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Keras reads the batches there")
def test_an_error_while_reading_ahead_ends_training():
    with pytest.raises(OSError, match="the disk is gone"):
        run(linear_model(), batches(rows=OnDisk(X, 5)))


def test_leaving_early_leaves_no_thread():
    n_threads = threading.active_count()
    reader = read_batches(batches(rows=OnDisk(X)))
    next(reader)
    reader.close()
    assert threading.active_count() == n_threads


# Batches that are divided among devices.


def test_batches_can_be_shared_among_devices():
    read = batches(batch_size=7)
    sizes = lambda: [len(read[i][0]) for i in range(read.num_batches)]  # noqa: E731
    assert sizes() == [7, 7, 2]
    read.divide_among(2)
    assert sizes() == [6, 6, 2]
    # What does not give a row to each is left out.
    read.divide_among(3)
    assert sizes() == [6, 6]
    read.divide_among(1)
    assert sizes() == [7, 7, 2]


def test_rows_that_are_left_over_wait_for_another_epoch():
    read = batches(batch_size=5)
    read.divide_among(4)
    seen = []
    for epoch in range(30):
        read.start_at(epoch)
        found = np.concatenate([read[i][1] for i in range(read.num_batches)])
        assert len(found) == 12
        seen.append(np.flatnonzero((Y[:16, None] == found[None]).all(axis=2).any(axis=1)))
    assert len(set(map(tuple, seen))) > 20
    assert set(np.concatenate(seen)) == set(range(16))


def test_too_few_rows_for_the_devices():
    with pytest.raises(
        ArgumentError,
        match=r"Batches are divided among 8 devices, and each device needs a row\. Received batches of 7 from 16 rows",
    ):
        batches().divide_among(8)
    with pytest.raises(
        ArgumentError, match=r"divided among 7 devices.* Received batches of 40 from 6 rows; .*`validation"
    ):
        batches(np.arange(6), batch_size=40).divide_among(7)
