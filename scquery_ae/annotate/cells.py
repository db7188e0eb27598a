"""Embedded cells: the input of all predictors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Self, get_type_hints

import numpy as np


@dataclass(frozen=True)
class PerCell:
    """Marks an array with one row per cell.

    Attributes
    ----------
    dtype
        Its dtype.
    width
        Name of its number of columns; None for one value per cell.
    """

    dtype: str
    width: str | None = None


@dataclass(frozen=True)
class EmbeddedCells:
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

    @classmethod
    @cache
    def per_cell(cls) -> dict[str, PerCell]:
        """Return the per-cell arrays by name."""
        hints = get_type_hints(cls, include_extras=True)
        return {
            name: mark
            for name, hint in hints.items()
            for mark in getattr(hint, "__metadata__", ())
            if isinstance(mark, PerCell)
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All per-cell arrays by name."""
        return {name: getattr(self, name) for name in self.per_cell()}

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.embedding)

    def take(self, rows: Any) -> Self:
        """Return the cells at some rows, given as integers or a boolean mask, in memory."""
        # A memory-mapped array would otherwise stay a view of its file's class.
        return replace(self, **{name: np.ascontiguousarray(values[rows]) for name, values in self.arrays.items()})
