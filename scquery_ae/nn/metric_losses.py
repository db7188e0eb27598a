"""Metric losses on the embedding: contrastive (Siamese) and batch-hard triplet loss."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from scquery_ae._array_checks import check_margin
from scquery_ae._checks import check_choice

METRIC_LOSSES = ("contrastive", "triplet")


class _MetricLoss(keras.losses.Loss):
    """A loss over the pairs of a batch. Targets are types ``(n,)``, predictions are embeddings ``(n, units)``.

    Parameters
    ----------
    margin
        A number, or a matrix with a number for each pair of types, ``(n_types, n_types)``, such as larger margins
        between types that are farther apart in the Cell Ontology.
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
        """Return, for all pairs of the batch, the distance, whether the types are the same, and the margin."""
        types = ops.cast(ops.reshape(y_true, (-1,)), "int32")
        same = ops.equal(types[:, None], types[None, :])
        margin = ops.convert_to_tensor(self.margin, dtype="float32")
        if self.margin.ndim == 2:
            margin = ops.take(ops.take(margin, types, axis=0), types, axis=1)
        return distances(ops.cast(y_pred, "float32")), same, margin


@keras.saving.register_keras_serializable(package="scquery_ae")
class ContrastiveLoss(_MetricLoss):
    """Contrastive (Siamese) loss over all pairs of a batch.

    The loss of a pair is the squared distance for cells of the same type, and ``relu(margin - distance) ** 2`` for
    cells of different types. The loss of a cell is the mean over its pairs of the same type plus the mean over its
    other pairs, because with many types almost all pairs are of different types.

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
    """Batch-hard triplet loss, with the farthest cell of the same type and the hardest cell of another type.

    The hardest cell of another type has the largest ``margin - distance``: with one margin for all types, it is the
    nearest. The loss is zero for a cell whose batch has no other cell of its type, or no cell of another type.

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
    """Return the Euclidean distances of all pairs, ``(n, n)``; for equal embeddings zero, with gradient zero."""
    # From differences: from squares and products, equal embeddings would be about 0.001 apart.
    squared = ops.sum(ops.square(latent[:, None] - latent[None, :]), axis=-1)
    # The derivative of the square root is infinite at zero.
    positive = squared > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squared, ops.ones_like(squared))), ops.zeros_like(squared))


def get_metric_loss(name: str, margin: Any) -> keras.losses.Loss:
    """Return the loss ``"contrastive"`` or ``"triplet"``."""
    check_choice("metric_loss", name, METRIC_LOSSES)
    return ContrastiveLoss(margin) if name == "contrastive" else TripletLoss(margin)
