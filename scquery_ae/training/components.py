"""Principal components: a view of the cells that no label has shaped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows

#: Components that are kept.
N_COMPONENTS = 50

#: Genes are divided by their standard deviation, but not by less than about this: what is hardly seen is mostly noise.
LEAST_SPREAD = 0.05

#: Cells that the components are fitted to at most, evenly spaced.
MAX_CELLS = 20_000


def with_components(encoder: Encoder, rows: CellRows) -> Encoder:
    """Return the encoder with principal components, fitted to the cells if it has none."""
    return encoder if encoder.components is not None else replace(encoder, components=principal_components(rows.logged))


def principal_components(logged: Any) -> np.ndarray:
    """Return directions in which cells differ, their genes on one scale, float32 ``(n_genes, n_components)``.

    On one scale, because the genes that vary most tell of activity; a marker of few cells tells a new type.
    Cells times this, less their mean, have a variance of one on average over the components.

    Parameters
    ----------
    logged
        Log-normalised rows, CSR ``(n, n_genes)`` or anything else that gives them by position.
    """
    from sklearn.decomposition import PCA
    from sklearn.utils.sparsefuncs import mean_variance_axis

    n = logged.shape[0]
    logged = logged[np.linspace(0, n - 1, min(n, MAX_CELLS)).astype(int)].astype(np.float64)
    _, variance = mean_variance_axis(logged, axis=0)
    scale = 1 / np.sqrt(variance + LEAST_SPREAD**2)
    n_components = max(min(N_COMPONENTS, logged.shape[0] - 1, logged.shape[1]), 1)
    # Cells that do not differ have no share of their variance to tell, and no spread to be divided by.
    with np.errstate(invalid="ignore"):
        fitted = PCA(n_components, svd_solver="covariance_eigh").fit(logged @ sparse.diags(scale).tocsr())
    spread = max(float(np.sqrt(fitted.explained_variance_.mean())), 1e-3)
    directions = fitted.components_.T * (scale / spread)[:, None]
    return np.ascontiguousarray(directions, dtype=np.float32)
