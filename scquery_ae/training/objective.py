"""Losses of fine-tuning: one for each output of the network, with its weight and its targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from scquery_ae.training.finetune_settings import FinetuneSettings


def output_losses(settings: FinetuneSettings) -> dict[str, Any]:
    """Return the Keras loss of each output: ``"classifier"``, and where asked for ``"latent"`` and ``"batch"``."""
    import keras

    from scquery_ae.nn import get_metric_loss

    losses: dict[str, Any] = {
        "classifier": keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    }
    if settings.metric_loss is not None:
        losses["latent"] = get_metric_loss(settings.metric_loss, settings.margin)
    if settings.adversarial_weight:
        losses["batch"] = keras.losses.SparseCategoricalCrossentropy()
    return losses


def output_weights(settings: FinetuneSettings) -> dict[str, float]:
    """Return the weight of each output's loss.

    A detached classifier has full weight: it cannot take anything from the metric loss. The loss of the batch
    classifier has full weight as well; `adversarial_weight` scales the gradient that reaches the embedding.
    """
    shared = settings.metric_loss is not None and not settings.detach_classifier
    weights = {"classifier": 1 - settings.metric_weight if shared else 1.0}
    if settings.metric_loss is not None:
        weights["latent"] = settings.metric_weight
    if settings.adversarial_weight:
        weights["batch"] = 1.0
    return weights


def output_targets(
    settings: FinetuneSettings, one_hot: np.ndarray, types: np.ndarray, batches: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return the targets of each output.

    Parameters
    ----------
    settings
        Settings that decide which outputs there are.
    one_hot
        Type of each cell, one-hot, ``(n, n_types)``.
    types
        Type of each cell, int ``(n,)``.
    batches
        Batch of each cell, int ``(n,)``, or None.
    """
    targets: dict[str, np.ndarray] = {"classifier": one_hot}
    if settings.metric_loss is not None:
        targets["latent"] = types
    if settings.adversarial_weight and batches is not None:
        targets["batch"] = batches
    return targets


def plain_history(history: dict[str, list[float]]) -> dict[str, list[float]]:
    """Rename the losses of a network with several outputs, so that ``"loss"`` is always the classifier's.

    The sum of all losses becomes ``"total_loss"``.
    """
    if "classifier_loss" not in history:
        return history
    renamed = {}
    for name, values in history.items():
        prefix, rest = ("val_", name[4:]) if name.startswith("val_") else ("", name)
        rest = "total_loss" if rest == "loss" else rest.removeprefix("classifier_")
        renamed[prefix + rest] = values
    return renamed
