"""Held-out cells for early stopping and calibration."""

from __future__ import annotations

import numpy as np


def stratified_split(
    types: np.ndarray, fraction: float, random_state: int, batches: np.ndarray | None = None
) -> np.ndarray:
    """Choose about `fraction` of the cells of each type at random, spread evenly over its batches.

    Checked first: the stratified splitters of scikit-learn, which refuse a class with a single member.

    Parameters
    ----------
    types
        Type of each cell, ``(n,)``.
    fraction
        Fraction of cells to hold out, in [0, 1). The number of cells of a type is rounded, and one cell is always left:
        of a rare type, no cell is held out.
    random_state
        Random seed.
    batches
        Batch of each cell, ``(n,)``. The cells of a type are ordered by batch and held out at even steps, so that the
        same fraction of each batch is held out, to within one cell.

    Returns
    -------
    Whether each cell is held out, bool ``(n,)``.
    """
    rng = np.random.default_rng([random_state, 1])
    held_out = np.zeros(len(types), dtype=bool)
    for kind in np.unique(types):
        members = rng.permutation(np.flatnonzero(types == kind))
        if batches is not None:
            members = members[np.argsort(batches[members], kind="stable")]
        n = min(round(fraction * len(members)), len(members) - 1)
        steps = (rng.random() + np.arange(n)) * len(members) / max(n, 1)
        held_out[members[steps.astype(int)]] = True
    return held_out
