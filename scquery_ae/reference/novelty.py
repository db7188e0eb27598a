"""What fine-tuning collapses: a view of the cells that no label has shaped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scquery_ae.encoder import Encoder, Head
from scquery_ae.stats import TypeGaussians

#: Principal components that are kept.
N_COMPONENTS = 50


@dataclass(frozen=True)
class Novelty:
    """Principal components of the reference's cells, and how its types lie in them.

    A network that was trained to tell types apart puts a cell of a type that it never saw on top of one that it did.
    The directions that told those two apart are still here.

    Attributes
    ----------
    projection
        Principal directions of the log-normalised model genes, float32 ``(n_genes, n_components)``.
    gaussians
        The types in them.
    """

    projection: np.ndarray
    gaussians: TypeGaussians


def strangeness_of(
    head: Head, gaussians: TypeGaussians, codes: np.ndarray, projected: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Return how strange cells are for the types that they are given, ``(n, 2)``, larger is stranger.

    Minus the greatest logit of the head, and the Mahalanobis distance to the type.
    """
    return np.stack([-head.logits(codes).max(axis=1), gaussians.distances(projected, labels)], axis=1)


def principal_directions(logged: sparse.csr_matrix) -> np.ndarray:
    """Return the first principal directions of sparse rows, float32 ``(n_genes, n_components)``."""
    from sklearn.decomposition import PCA

    n_components = min(N_COMPONENTS, logged.shape[0] - 1, logged.shape[1])
    fitted = PCA(max(n_components, 1), svd_solver="covariance_eigh").fit(logged.astype(np.float64))
    return np.ascontiguousarray(fitted.components_.T, dtype=np.float32)


def project(
    logged: sparse.csr_matrix, encoder: Encoder, projection: np.ndarray, present: np.ndarray | None = None
) -> np.ndarray:
    """Return log-normalised rows in principal components; genes that are not there stand at their mean."""
    mean = encoder.transform.mean if present is None else np.where(present, encoder.transform.mean, np.float32(0))
    return np.asarray(logged @ projection - mean @ projection, dtype=np.float32)
