"""Principal directions, the linear baseline of greedy pretraining."""

from __future__ import annotations

import numpy as np

from scquery_ae._errors import ArgumentError
from scquery_ae.nn.rows import Rows, chunks


def principal_weights(rows: Rows, units: int) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias of the layer that gives the first principal components of some rows.

    The covariance is summed up over chunks, which reads sparse rows without a dense whole; checked first:
    scikit-learn's IncrementalPCA, which decomposes each chunk and takes many times as long.

    Parameters
    ----------
    rows
        ``(n, d)``.
    units
        Number of components, at most n and d.

    Returns
    -------
    Orthonormal kernel, float32 ``(d, units)``, signs such that each column's largest entry is positive, and bias,
    ``(units,)``: embeddings have mean zero.

    Raises
    ------
    ArgumentError
        If there are more units than components.
    """
    n, d = rows.shape
    if units > min(n, d):
        msg = (
            f"Principal components cannot fill a layer of {units} units: there are at most {min(n, d)} "
            f"({n} rows of {d} features). Use a smaller layer."
        )
        raise ArgumentError(msg)
    total, products = np.zeros(d), np.zeros((d, d))
    # Near the mean, so that large means do not drown the variance.
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
