"""Principal components, the linear baseline of greedy pretraining."""

from __future__ import annotations

import numpy as np

from scquery_ae._errors import ArgumentError
from scquery_ae.nn.rows import Rows, chunks


def principal_weights(rows: Rows, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the kernel and bias of a layer that computes the first principal components of its input.

    The covariance is accumulated over chunks, so that sparse rows are never dense as a whole. Checked first:
    scikit-learn's IncrementalPCA, which decomposes each chunk and takes many times as long.

    Parameters
    ----------
    rows
        Rows, ``(n, d)``.
    units
        Number of components, at most n and d.

    Returns
    -------
    Orthonormal kernel, float32 ``(d, units)``, with signs such that the largest entry of each column is positive, and
    bias ``(units,)``, with which the components have mean zero.

    Raises
    ------
    ArgumentError
        If there are more units than components.
    """
    n, d = rows.shape
    if units > min(n, d):
        msg = (
            f'`module="pca"` needs at most as many units as there are components. Received {units} units for '
            f"{min(n, d)} components ({n} rows of {d} features); use a smaller layer."
        )
        raise ArgumentError(msg)
    total, products = np.zeros(d), np.zeros((d, d))
    # Subtracting an approximate mean first avoids cancellation where means are large.
    offset = next(chunks(rows)).mean(axis=0, dtype=np.float64)
    for chunk in chunks(rows):
        near = (chunk - offset).astype(np.float32)
        total += near.sum(axis=0, dtype=np.float64)
        products += near.T @ near
    mean = total / n
    _, vectors = np.linalg.eigh(products / n - np.outer(mean, mean))
    mean = mean + offset
    kernel = vectors[:, ::-1][:, :units]
    kernel *= np.sign(kernel[np.abs(kernel).argmax(axis=0), np.arange(units)])
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)
