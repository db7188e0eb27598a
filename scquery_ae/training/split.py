"""Held-out cells for early stopping and calibration."""

from __future__ import annotations

import numpy as np


def stratified_split(strata: np.ndarray, fraction: float, random_state: int) -> np.ndarray:
    """Choose about `fraction` of each stratum at random, but never all of one.

    Checked first: scikit-learn's stratified splitters refuse a class with a single member.

    Parameters
    ----------
    strata
        Group of each cell, ``(n,)``.
    fraction
        Share to hold out, in [0, 1). Each stratum lends the nearest whole number of cells: rare types, whose few
        cells all matter to training, lend none.
    random_state
        Seed.

    Returns
    -------
    Which cells are held out, bool ``(n,)``.
    """
    rng = np.random.default_rng([random_state, 1])
    held_out = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        n = round(fraction * len(members))
        held_out[members[: min(n, len(members) - 1)]] = True
    return held_out
