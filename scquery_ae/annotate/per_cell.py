"""Arrays with one row per cell, declared once with their dtypes and widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self, get_type_hints

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

    def shape(self, n: int, widths: Mapping[str, int]) -> tuple[int, ...]:
        """Return the shape for `n` cells, given the widths by name."""
        return (n,) if self.width is None else (n, widths[self.width])


class PerCellArrays:
    """Base of dataclasses whose arrays are annotated as ``Annotated[np.ndarray, PerCell(...)]``."""

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

    @classmethod
    def allocate(cls, n: int, widths: Mapping[str, int]) -> Self:
        """Return unfilled arrays for `n` cells, with widths by name such as ``{"n_latent": 64}``."""
        return cls(**{name: np.empty(each.shape(n, widths), each.dtype) for name, each in cls.per_cell().items()})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All per-cell arrays by name."""
        return {name: getattr(self, name) for name in self.per_cell()}
