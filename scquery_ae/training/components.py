"""Principal components of log-normalised cells, which no label has influenced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows

#: Number of components.
N_COMPONENTS = 50

#: Added in quadrature to the standard deviation of each gene before scaling: genes with little variance are mostly
#: noise.
LEAST_SPREAD = 0.05

#: Largest number of cells that components are fitted to. Evenly spaced cells are used where there are more.
MAX_CELLS = 20_000


def with_components(encoder: Encoder, rows: CellRows) -> Encoder:
    """Return the encoder with principal components, fitted to the cells if it has none."""
    return encoder if encoder.components is not None else replace(encoder, components=principal_components(rows.logged))


def principal_components(logged: Any) -> np.ndarray:
    """Return the principal components of scaled genes, float32 ``(n_genes, n_components)``.

    Genes are scaled because the genes with the largest variance reflect cell activity, while the marker of a rare type
    has a small variance. Cells times these components have a variance of one on average over the components.

    Parameters
    ----------
    logged
        Log-normalised cells, CSR ``(n, n_genes)`` or an object that returns rows by position.
    """
    from sklearn.decomposition import PCA
    from sklearn.utils.sparsefuncs import mean_variance_axis

    n = logged.shape[0]
    logged = logged[np.linspace(0, n - 1, min(n, MAX_CELLS)).astype(int)].astype(np.float64)
    _, variance = mean_variance_axis(logged, axis=0)
    scale = 1 / np.sqrt(variance + LEAST_SPREAD**2)
    n_components = max(min(N_COMPONENTS, logged.shape[0] - 1, logged.shape[1]), 1)
    # The explained variance ratio of identical cells is 0 / 0.
    with np.errstate(invalid="ignore"):
        fitted = PCA(n_components, svd_solver="covariance_eigh").fit(logged @ sparse.diags(scale).tocsr())
    spread = max(float(np.sqrt(fitted.explained_variance_.mean())), 1e-3)
    directions = fitted.components_.T * (scale / spread)[:, None]
    return np.ascontiguousarray(directions, dtype=np.float32)
