"""Settings of fine-tuning: checks, checkpoint fingerprint, provenance and cross-fitting share this class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from scquery_ae._array_checks import check_margin
from scquery_ae._checks import check_choice, check_fraction_range, check_integer, check_number, check_rate, plain
from scquery_ae._errors import ArgumentError, NotFittedError
from scquery_ae.training.steps import MOST_FINETUNING, default_batch_size

#: What to do with label issues.
LABEL_ISSUES = ("auto", "keep", "drop")

#: Losses on the embedding.
METRIC_LOSSES = ("triplet", "contrastive")


@dataclass(frozen=True)
class FinetuneSettings:
    """Settings of fine-tuning, checked and stored as plain Python values.

    All fields are keyword arguments of :func:`scquery_ae.tl.finetune`, which describes them. A new setting is a new
    field here and a new argument there: the fingerprint of checkpoints, ``encoder.parameters["finetune"]`` and
    cross-fitting include every field.

    Attributes
    ----------
    gene_masking
        Smallest and largest fraction of missing genes, in [0, 1). A single number is the largest.
    margin
        One margin, or a table with one for each pair of types in their order, ``(n_types, n_types)``.

    Raises
    ------
    ArgumentError
        If a value is out of its range.
    """

    class_weight_power: float = 0.5
    label_smoothing: float = 0.1
    corruption_level: float = 0.3
    gene_masking: tuple[float, float] = (0.0, 0.5)
    metric_loss: str | None = None
    metric_weight: float = 0.5
    margin: Any = 0.5
    adversarial_weight: float = 0.0
    dropout: float = 0.0
    epochs: int = 30
    patience: int = 5
    batch_size: int | None = None
    learning_rate: float = 1e-3
    validation_fraction: float = 0.1
    label_issues: str = "auto"
    random_state: int = 0

    def __post_init__(self) -> None:
        for name in ("label_smoothing", "corruption_level", "dropout", "validation_fraction"):
            self._set(name, check_rate(name, getattr(self, name)))
        self._set("gene_masking", check_fraction_range("gene_masking", self.gene_masking))
        check_choice("metric_loss", self.metric_loss, METRIC_LOSSES, optional=True)
        self._set("metric_weight", check_number("metric_weight", self.metric_weight, 0, 1))
        if self.metric_weight == 0:
            msg = (
                "`metric_weight` must be in (0, 1]. Received 0; use `metric_loss=None` for the classifier's loss alone."
            )
            raise ArgumentError(msg)
        self._set("margin", _nested(check_margin(self.margin).tolist()))
        weight = check_number("adversarial_weight", self.adversarial_weight, 0, np.inf, closed="left")
        self._set("adversarial_weight", weight)
        self._set("class_weight_power", check_number("class_weight_power", self.class_weight_power, 0, 1))
        rate = check_number("learning_rate", self.learning_rate, 0, np.inf, closed="neither")
        self._set("learning_rate", rate)
        for name in ("epochs", "patience"):
            self._set(name, check_integer(name, getattr(self, name)))
        if self.batch_size is not None:
            self._set("batch_size", check_integer("batch_size", self.batch_size))
        check_choice("label_issues", self.label_issues, LABEL_ISSUES)
        self._set("random_state", check_integer("random_state", self.random_state, 0))

    def to_parameters(self) -> dict[str, Any]:
        """Return all fields as plain values, for provenance and for the fingerprint of a checkpoint."""
        return plain(asdict(self))

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> FinetuneSettings:
        """Return the settings that an encoder was fine-tuned with, from ``encoder.parameters``.

        Raises
        ------
        NotFittedError
            If `parameters` has no settings of fine-tuning.
        """
        if "finetune" not in parameters:
            msg = (
                "Cross-fitting repeats fine-tuning with the same settings, and `encoder.parameters` does not hold any. "
                "Fine-tune the encoder with `scq.tl.finetune`."
            )
            raise NotFittedError(msg)
        recorded = parameters["finetune"]
        return cls(**{field.name: recorded[field.name] for field in fields(cls)})

    def cells_per_step(self, n_labelled: int) -> int:
        """Return `batch_size`, or a default suited to the number of labelled cells."""
        return self.batch_size or default_batch_size(n_labelled, MOST_FINETUNING)

    @property
    def is_plain(self) -> bool:
        """Whether the classifier's loss is the only loss."""
        return self.metric_loss is None and not self.adversarial_weight

    @property
    def detach_classifier(self) -> bool:
        """Whether the classifier's gradient stops at the embedding, so that the metric loss alone shapes it."""
        return self.metric_loss is not None and self.metric_weight == 1

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


def _nested(values: Any) -> Any:
    """Return nested lists as tuples, which compare and hash with the other fields."""
    return tuple(map(_nested, values)) if isinstance(values, list) else values
