"""The cells of a reference: their annotation and every per-cell array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd

from scquery_ae._errors import ArgumentError
from scquery_ae.annotate import EmbeddedCells, PerCell
from scquery_ae.reference.to_storable import to_storable


@dataclass(frozen=True)
class ReferenceCells(EmbeddedCells):
    """Reference cells: the arrays of :class:`~scquery_ae.annotate.EmbeddedCells`, and what a reference adds to them.

    All arrays marked as :class:`~scquery_ae.annotate.PerCell` are validated, subset, concatenated and stored together.
    A new array is declared here and computed where the cells are made.

    Attributes
    ----------
    held_out
        Whether training did not see the cell, bool ``(n_obs,)``.
    added
        Whether the cell was added after training, bool ``(n_obs,)``.
    obs
        Annotation, one row per cell. Its index holds the names of the cells.
    """

    held_out: Annotated[np.ndarray, PerCell("bool")]
    added: Annotated[np.ndarray, PerCell("bool")]
    obs: pd.DataFrame

    @classmethod
    def from_embedded(cls, cells: EmbeddedCells, obs: pd.DataFrame, *, held_out: np.ndarray, added: np.ndarray) -> Self:
        """Return embedded cells as reference cells."""
        return cls(**cells.arrays, obs=obs, held_out=held_out, added=added)

    def take(self, rows: Any) -> Self:
        """Return the cells at some rows, given as integers or a boolean mask, in memory."""
        return replace(super().take(rows), obs=self.obs.iloc[rows])

    def concat(self, other: ReferenceCells, label_key: str) -> Self:
        """Return these cells followed by others, with the ``obs`` columns of these cells and labels as text."""
        theirs = other.arrays
        return replace(
            self,
            **{name: np.concatenate([mine, theirs[name]]) for name, mine in self.arrays.items()},
            obs=_concat_obs(self.obs, other.obs, label_key),
        )

    def validate(self, widths: Mapping[str, int]) -> None:
        """Check dtypes and shapes of all arrays, with widths by name such as ``{"n_latent": 64}``.

        Raises
        ------
        ArgumentError
            If a shape or a dtype differs.
        """
        n = len(self.obs)
        for name, expected in self.per_cell().items():
            values = getattr(self, name)
            shape = expected.shape(n, widths)
            if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != expected.dtype:
                is_array = isinstance(values, np.ndarray)
                received = f"{values.dtype} {values.shape}" if is_array else type(values).__name__
                msg = (
                    f"A reference needs {expected.dtype} `{name}` of shape {shape}, one row for each of its {n} cells "
                    f"in `obs`. Received {received}."
                )
                raise ArgumentError(msg)


def _concat_obs(first: pd.DataFrame, second: pd.DataFrame, label_key: str) -> pd.DataFrame:
    """Return both tables with the columns of the first, in its dtypes where possible, and labels as text."""
    index = first.index.append(second.index)
    columns = {}
    for name in first.columns:
        mine = first[name]
        if name not in second.columns:
            columns[name] = mine.reindex(index)
            continue
        theirs = second[name]
        joined = pd.concat([mine.astype(object), theirs.astype(object)])
        if name == label_key:
            # A missing number would turn whole numbers into fractions, and type "1" into "1.0".
            columns[name] = joined.map(str, na_action="ignore")
        elif mine.dtype == theirs.dtype:
            columns[name] = pd.concat([mine, theirs])
        elif pd.api.types.is_datetime64_any_dtype(mine):
            columns[name] = pd.to_datetime(joined, errors="coerce").astype(mine.dtype)
        elif pd.api.types.is_numeric_dtype(mine):
            columns[name] = pd.to_numeric(joined, errors="coerce")
        else:
            columns[name] = joined
    return to_storable(pd.DataFrame(columns, index=index))
