"""What fine-tuning minimises: the loss of the type, and beside it losses of the embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Objective:
    """The losses of fine-tuning and their weights.

    Attributes
    ----------
    metric_loss
        ``"triplet"``, ``"contrastive"``, or None for the classifier's loss alone.
    metric_weight
        Weight of the metric loss, in (0, 1]; the classifier has the rest. With 1 the metric loss alone shapes the
        code, and the classifier is trained on it as a probe.
    margin
        Of the metric loss: a number, or one for each pair of types, ``(n_types, n_types)``.
    adversarial_weight
        Strength of the reversed gradient of a classifier that tells batches apart; 0 for none.
    """

    metric_loss: str | None = None
    metric_weight: float = 0.5
    margin: Any = 0.5
    adversarial_weight: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing but the classifier."""
        return self.metric_loss is None and not self.adversarial_weight

    @property
    def detach_classifier(self) -> bool:
        """Whether the classifier only probes the embedding."""
        return self.metric_loss is not None and self.metric_weight == 1

    def losses(self, classifier: Any) -> dict[str, Any]:
        """Return the loss of each output; `classifier` is that of the classifier."""
        import keras

        from scquery_ae.nn import get_metric_loss

        losses = {"classifier": classifier}
        if self.metric_loss is not None:
            losses["latent"] = get_metric_loss(self.metric_loss, self.margin)
        if self.adversarial_weight:
            losses["batch"] = keras.losses.SparseCategoricalCrossentropy()
        return losses

    def weights(self) -> dict[str, float]:
        """Return the weight of each output's loss."""
        classifier = 1.0 if self.metric_loss is None or self.detach_classifier else 1 - self.metric_weight
        weights = {"classifier": classifier}
        if self.metric_loss is not None:
            weights["latent"] = self.metric_weight
        if self.adversarial_weight:
            weights["batch"] = 1.0
        return weights

    def targets(self, one_hot: np.ndarray, types: np.ndarray, batches: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return what each output is compared with."""
        targets: dict[str, np.ndarray] = {"classifier": one_hot}
        if self.metric_loss is not None:
            targets["latent"] = types
        if self.adversarial_weight and batches is not None:
            targets["batch"] = batches
        return targets


def plain_history(history: dict[str, list[float]]) -> dict[str, list[float]]:
    """Return losses by epoch with the classifier's under the names that they have without other outputs."""
    if "classifier_loss" not in history:
        return history
    renamed = {}
    for name, values in history.items():
        prefix, rest = ("val_", name[4:]) if name.startswith("val_") else ("", name)
        rest = "total_loss" if rest == "loss" else rest.removeprefix("classifier_")
        renamed[prefix + rest] = values
    return renamed
