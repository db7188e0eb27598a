"""Training of Keras models with a progress bar, early stopping and checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import keras

from scquery_ae.nn.batches import Batches
from scquery_ae.nn.checkpoint import ResumePoint
from scquery_ae.nn.progress import ProgressBar, check_converged


def fit(
    model: keras.Model,
    training: Batches,
    validation: Batches | None,
    *,
    epochs: int,
    patience: int,
    monitor: str = "val_loss",
    title: str,
    progress: bool,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    resume: ResumePoint | None = None,
) -> dict[str, list[float]]:
    """Train a compiled model and return its losses by epoch.

    Parameters
    ----------
    model
        Compiled model.
    training, validation
        Batches for training, and for early stopping. None trains for all `epochs`.
    epochs, patience
        Largest number of epochs, and number of epochs without a lower `monitor` after which training stops. The weights
        of the best epoch are kept.
    monitor
        Loss on `validation` for early stopping.
    title, progress
        Title of the progress bar, and whether to show it.
    callbacks
        Further callbacks.
    resume
        Checkpoint to save each epoch to, and to resume from. None saves nothing.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    stopper = None
    if validation is not None:
        stopper = keras.callbacks.EarlyStopping(monitor, patience=patience, mode="min", restore_best_weights=True)
    first = 0 if resume is None else resume.restore(model, stopper, epochs)
    if first is None:
        return dict(resume.history) if resume is not None else {}
    watching = [ProgressBar(title, epochs, first=first, enabled=progress), stopper, *callbacks, resume]
    history = run_epochs(
        model, training, validation, first=first, epochs=epochs, callbacks=[each for each in watching if each]
    )
    if resume is not None:
        history = resume.history
    check_converged(history)
    # After the check: a run that diverged is not finished, and diverges again when it is resumed.
    if resume is not None:
        resume.finish(model)
    return {name: [float(v) for v in values] for name, values in history.items()}


def run_epochs(
    model: keras.Model,
    training: Batches,
    validation: Batches | None,
    *,
    first: int,
    epochs: int,
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, list[float]]:
    """Train from the epoch `first` on, and return the losses by epoch.

    On one TensorFlow device, batches are passed to the train step directly: ``fit`` passes them through ``tf.data``,
    which takes up to a third of the time of a step of a small network. Otherwise, ``fit`` is used.
    """
    n_devices = count_devices(model)
    for batches in (training, validation):
        if batches is not None:
            batches.divide_among(n_devices)
    if keras.backend.backend() != "tensorflow" or n_devices > 1:
        # Keras calls `on_epoch_end` before the first epoch too: without this, order and noise would be one epoch ahead.
        order = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _logs: training.start_at(epoch))
        fitted = model.fit(
            training,
            validation_data=validation,
            initial_epoch=first,
            epochs=epochs,
            callbacks=[order, *callbacks],
            verbose=0,
            shuffle=False,
        )
        return dict(fitted.history)
    watching = keras.callbacks.CallbackList(callbacks, add_history=True, model=model, epochs=epochs)
    model.stop_training = False
    model.make_train_function()
    model.make_test_function()
    watching.on_train_begin()
    logs: dict[str, float] = {}
    for epoch in range(first, epochs):
        watching.on_epoch_begin(epoch)
        training.start_at(epoch)
        with _quiet_tracing():
            logs = _losses(model, model.train_function, training)
            if validation is not None:
                held_out = _losses(model, model.test_function, validation)
                logs |= {f"val_{name}": value for name, value in held_out.items()}
        watching.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    watching.on_train_end(logs)
    return dict(model.history.history)


def count_devices(model: keras.Model) -> int:
    """Return the number of devices that share a batch, under TensorFlow's strategy or Keras' distribution."""
    if keras.backend.backend() == "tensorflow":
        return int(model.distribute_strategy.num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else int(distribution.num_model_replicas)


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """Hide TensorFlow's warning about retracing, which the smaller last batch of an epoch causes."""

    def other(record: logging.LogRecord) -> bool:
        return "tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _losses(model: keras.Model, step: Callable[[Iterator[Any]], dict[str, Any]], batches: Batches) -> dict[str, float]:
    """Return the losses and metrics of an epoch, as means over the rows of all batches."""
    model.reset_metrics()
    sums: dict[str, float] = {}
    n_rows = n_since = size = 0

    def add_up() -> None:
        # Keras averages metrics over rows. With several outputs it averages the loss of each over batches, whatever
        # their size, so that means are collected before the smaller last batch.
        for tracker in model.metrics:
            if isinstance(tracker, keras.metrics.Mean):
                sums[tracker.name] = sums.get(tracker.name, 0.0) + n_since * float(tracker.result())
                tracker.reset_state()

    for batch in read_batches(batches):
        if n_since and len(batch[0]) != size:
            add_up()
            n_since = 0
        step(iter([batch]))
        size = len(batch[0])
        n_since += size
        n_rows += size
    metrics = {name: float(value) for name, value in model.get_metrics_result().items()}
    add_up()
    return metrics | {name: total / n_rows for name, total in sums.items()}


def read_batches(batches: Batches) -> Iterator[tuple[Any, ...]]:
    """Yield all batches of an epoch. From a disk, the next batch is read while the model is trained on one."""
    if not batches.on_disk:
        for index in range(batches.num_batches):
            yield batches[index]
        return
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(batches.__getitem__, 0)
        for index in range(batches.num_batches):
            batch = ahead.result()
            if index + 1 < batches.num_batches:
                ahead = reader.submit(batches.__getitem__, index + 1)
            yield batch
