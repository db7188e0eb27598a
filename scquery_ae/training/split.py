"""Held-out cells for early stopping and calibration."""

from __future__ import annotations

import numpy as np


def stratified_split(
    types: np.ndarray, fraction: float, random_state: int, batches: np.ndarray | None = None
) -> np.ndarray:
    """Choose about `fraction` of each type at random, spread evenly over its batches, but never all of a type.

    Checked first: scikit-learn's stratified splitters refuse a class with a single member.

    Parameters
    ----------
    types
        Type of each cell, ``(n,)``.
    fraction
        Share to hold out, in [0, 1). Each type lends the nearest whole number of cells: rare types, whose few
        cells all matter to training, lend none.
    random_state
        Seed.
    batches
        Batch of each cell, ``(n,)``. Within a type, cells are taken at even steps from a list ordered by batch, so that
        each batch lends its share to within one cell.

    Returns
    -------
    Which cells are held out, bool ``(n,)``.
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
