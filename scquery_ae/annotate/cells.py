"""Embedded cells: the input of all predictors."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np


def per_cell(dtype: str, width: str | None = None) -> Any:
    """Declare an array with one row per cell: its dtype, and the name of its width (None for one value per cell)."""
    return field(metadata={"dtype": dtype, "width": width})


@dataclass(frozen=True)
class EmbeddedCells:
    """Cells after an encoder.

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

    embedding: np.ndarray = per_cell("float32", "n_latent")
    projected: np.ndarray = per_cell("float32", "n_components")
    decision: np.ndarray = per_cell("float32", "n_classifier_types")
    totals: np.ndarray = per_cell("float64")

    @classmethod
    def array_types(cls) -> dict[str, tuple[np.dtype[Any], str | None]]:
        """Return dtype and name of the width of every per-cell array, by name."""
        return {
            each.name: (np.dtype(each.metadata["dtype"]), each.metadata["width"])
            for each in fields(cls)
            if "dtype" in each.metadata
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All per-cell arrays by name."""
        return {name: getattr(self, name) for name in self.array_types()}

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return len(self.embedding)

    def take(self, rows: Any) -> Self:
        """Return the cells at some rows, given as integers or a boolean mask, in memory."""
        # A memory-mapped array would otherwise stay a view of its file's class.
        return replace(self, **{name: np.ascontiguousarray(values[rows]) for name, values in self.arrays.items()})
