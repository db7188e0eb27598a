"""Embedded cells: the input of all predictors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np

from scquery_ae.annotate.per_cell import PerCell, PerCellArrays


@dataclass(frozen=True)
class EmbeddedCells(PerCellArrays):
    """Arrays that an encoder computes for each cell.

    Attributes
    ----------
    embedding
        Unit-length embedding, float32 ``(n, n_latent)``.
    projected
        Principal component scores, float32 ``(n, n_components)``.
    decision
        Decision function of the discriminant for each type of the classifier, float32 ``(n, n_classifier_types)``.
    totals
        Counts in the model genes, float64 ``(n,)``.
    """

    embedding: Annotated[np.ndarray, PerCell("float32", "n_latent")]
    projected: Annotated[np.ndarray, PerCell("float32", "n_components")]
    decision: Annotated[np.ndarray, PerCell("float32", "n_classifier_types")]
    totals: Annotated[np.ndarray, PerCell("float64")]

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.embedding)

    def take(self, rows: Any) -> Self:
        """Return the cells at some rows, given as integers or a boolean mask, in memory."""
        # A memory-mapped array would otherwise stay a view of its file's class.
        return replace(self, **{name: np.ascontiguousarray(values[rows]) for name, values in self.arrays.items()})
