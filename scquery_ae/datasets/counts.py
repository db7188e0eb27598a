"""Counts recovered from log-normalised values."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from scquery_ae._errors import DatasetError


def recover_counts(
    values: sparse.spmatrix, totals: ArrayLike, target_sum: float, *, tolerance: float, source: str, remedy: str
) -> sparse.csr_matrix:
    """Undo ``log1p(counts / totals * target_sum)`` and return the counts, ``(n_obs, n_vars)``, as float32.

    Parameters
    ----------
    values
        Log-normalised values, ``(n_obs, n_vars)``.
    totals
        Counts of each cell before the normalisation, ``(n_obs,)``.
    target_sum
        Total to which each cell was scaled.
    tolerance
        Largest difference from a whole number.
    source, remedy
        Subject and last sentence of the error message.

    Raises
    ------
    DatasetError
        If a result differs from a whole number by more than `tolerance`, or is below 1.
    """
    logged = sparse.csr_matrix(values)
    per_value = np.repeat(np.asarray(totals, dtype=np.float64), np.diff(logged.indptr))
    counts = np.expm1(logged.data.astype(np.float64)) * per_value / target_sum
    whole = np.round(counts)
    if np.abs(counts - whole).max() > tolerance or whole.min() < 1:
        msg = (
            f"{source} cannot be converted back to counts: undoing log1p and the scaling to {target_sum:,g} does not "
            f"give whole numbers. {remedy}"
        )
        raise DatasetError(msg)
    return sparse.csr_matrix((whole.astype(np.float32), logged.indices, logged.indptr), shape=logged.shape)
