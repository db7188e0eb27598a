"""Losses that place embeddings by their types: contrastive (Siamese) and batch-hard triplets."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from scquery_ae._array_checks import check_margin
from scquery_ae._checks import check_choice

METRIC_LOSSES = ("contrastive", "triplet")


class _MetricLoss(keras.losses.Loss):
    """A loss over the pairs of a batch: the truth is types, int ``(n,)``, the prediction embeddings ``(n, units)``.

    Parameters
    ----------
    margin
        A number, or one for each pair of types, ``(n_types, n_types)``: a wider one between types that are less
        alike, say by the Cell Ontology.
    """

    def __init__(
        self, margin: Any = 0.5, name: str | None = None, reduction: str = "sum_over_batch_size", **kwargs: Any
    ) -> None:
        super().__init__(name=name, reduction=reduction, **kwargs)
        self.margin = check_margin(margin)

    def get_config(self) -> dict[str, Any]:
        """Return every constructor argument."""
        return {**super().get_config(), "margin": self.margin.tolist()}

    def _pairs(self, y_true: Any, y_pred: Any) -> tuple[Any, Any, Any]:
        """Return for all pairs of the batch distance, whether the types are the same, and the margin."""
        types = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        same = ops.equal(types[:, None], types[None, :])
        margin = ops.convert_to_tensor(self.margin, dtype="float32")
        if self.margin.ndim == 2:
            margin = ops.take(ops.take(margin, types, axis=0), types, axis=1)
        return distances(ops.cast(y_pred, "float32")), same, margin


@keras.saving.register_keras_serializable(package="scquery_ae")
class ContrastiveLoss(_MetricLoss):
    """Siamese loss over all pairs of a batch: squared distance of the same type, squared shortfall of the margin else.

    The value of a cell is the mean over the cell's pairs with the others, those of its own type and those of
    other types weighing the same, or with many types almost all pairs would push.

    References
    ----------
    Hadsell et al., Computer Vision and Pattern Recognition (2006).
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each cell, ``(n,)``."""
        distance, same, margin = self._pairs(y_true, y_pred)
        others = 1 - ops.eye(ops.shape(distance)[0])
        alike = ops.cast(same, "float32") * others
        unlike = 1 - ops.cast(same, "float32")
        pull = ops.sum(alike * ops.square(distance), axis=1) / ops.maximum(ops.sum(alike, axis=1), 1)
        push = ops.sum(unlike * ops.square(ops.relu(margin - distance)), axis=1)
        return pull + push / ops.maximum(ops.sum(unlike, axis=1), 1)


@keras.saving.register_keras_serializable(package="scquery_ae")
class TripletLoss(_MetricLoss):
    """Batch-hard triplet loss: the farthest cell of the same type against the hardest of the others.

    The hardest of the others is the one that falls short of its margin the most: with one margin for all types, the
    nearest. A cell without a partner, or without a stranger, in its batch has loss zero.

    References
    ----------
    Hermans et al., arXiv:1703.07737 (2017).
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the loss of each cell, ``(n,)``."""
        distance, same, margin = self._pairs(y_true, y_pred)
        n = ops.shape(distance)[0]
        alike = ops.logical_and(same, ops.logical_not(ops.cast(ops.eye(n), "bool")))
        farthest = ops.max(ops.where(alike, distance, ops.zeros_like(distance)), axis=1)
        shortfall = ops.where(same, ops.full_like(distance, -1e9), margin - distance)
        complete = ops.logical_and(ops.any(alike, axis=1), ops.logical_not(ops.all(same, axis=1)))
        return ops.where(complete, ops.relu(farthest + ops.max(shortfall, axis=1)), ops.zeros_like(farthest))


def distances(latent: Any) -> Any:
    """Return Euclidean distances of all pairs, ``(n, n)``; of equal embeddings zero, with gradient zero."""
    # By differences: squares less products would leave equal embeddings a thousandth apart.
    squared = ops.sum(ops.square(latent[:, None] - latent[None, :]), axis=-1)
    # The slope of a root is infinite at zero.
    positive = squared > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squared, ops.ones_like(squared))), ops.zeros_like(squared))


def get_metric_loss(name: str, margin: Any) -> keras.losses.Loss:
    """Return the loss called ``"contrastive"`` or ``"triplet"``."""
    check_choice("metric_loss", name, METRIC_LOSSES)
    return ContrastiveLoss(margin) if name == "contrastive" else TripletLoss(margin)
