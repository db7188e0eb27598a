"""One way to run Keras' ``fit``: with a bar, early stopping on held-out rows, and a check that losses stayed finite."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from scquery_ae.nn.batches import Batches
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
) -> dict[str, list[float]]:
    """Train a compiled model and return its losses by epoch.

    Parameters
    ----------
    model
        Compiled.
    training, validation
        Batches to learn from, and those to stop by; None trains for all `epochs`.
    epochs, patience
        Most epochs, and epochs without a lower `monitor` before training stops. The weights of the best epoch are kept.
    monitor
        Which of the losses on `validation`.
    title, progress
        Of the progress bar, and whether there is one.
    callbacks
        Further ones.

    Raises
    ------
    TrainingError
        If a loss is not finite.
    """
    watching = (
        []
        if validation is None
        else [keras.callbacks.EarlyStopping(monitor, patience=patience, mode="min", restore_best_weights=True)]
    )
    fitted = model.fit(
        training,
        validation_data=validation,
        epochs=epochs,
        callbacks=[ProgressBar(title, epochs, enabled=progress), *watching, *callbacks],
        verbose=0,
        shuffle=False,
    )
    check_converged(fitted.history)
    return {name: [float(v) for v in values] for name, values in fitted.history.items()}
