"""Rows of a matrix that training reads batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scquery_ae._errors import ArgumentError

#: Encodings are kept in memory up to this size, which holds 130,000 cells by 512 units.
KEPT_BYTES = 256 << 20


class Rows(Protocol):
    """A matrix of cells, or an array of images, that is read by rows and is never dense as a whole.

    A batch is read in two steps, so that noise can be drawn on the stored values of a sparse batch: `take` returns the
    stored values, and `dense` the input of the network.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row: its features, or the axes of an image."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """Return the rows at `indices` as an array or a CSR matrix."""
        ...

    def dense(self, batch: Any) -> np.ndarray:
        """Return a batch from `take` as the input of the network, a float32 array."""
        ...


@dataclass(frozen=True)
class MatrixRows:
    """Rows of an array or a CSR matrix, which are the input of the network without any transformation."""

    matrix: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one row."""
        return tuple(int(n) for n in self.matrix.shape)

    def take(self, indices: np.ndarray) -> Any:
        """Return the rows at `indices`, as an array or a CSR matrix."""
        return self.matrix[indices]

    def dense(self, batch: Any) -> np.ndarray:
        """Return a batch as a float32 array."""
        return np.asarray(batch if isinstance(batch, np.ndarray) else batch.toarray(), dtype=np.float32)


@dataclass(frozen=True)
class EncodedRows:
    """Clean encodings of `base` by a trained layer, computed batch by batch; see :func:`encoded_rows`."""

    base: Rows
    layer: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one encoding."""
        return (self.base.shape[0], *self.layer.latent_shape(self.base.shape)[1:])

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the encodings of the rows at `indices`."""
        import keras

        clean = self.base.dense(self.base.take(indices))
        return np.asarray(keras.ops.convert_to_numpy(self.layer.encode(clean)), dtype=np.float32)

    def dense(self, batch: Any) -> np.ndarray:
        """Return the batch as an array."""
        return np.asarray(batch)


def encoded_rows(base: Rows, layer: Any) -> Rows:
    """Return the clean encodings of rows, computed once if they are small, and otherwise each time they are read.

    Every epoch reads the encodings, so that keeping them saves time. The encodings of a million cells would need more
    memory than the cells.
    """
    rows = EncodedRows(base, layer)
    if 4 * math.prod(rows.shape) > KEPT_BYTES:
        return rows
    latent = np.empty(rows.shape, dtype=np.float32)
    start = 0
    for chunk in chunks(rows):
        latent[start : start + len(chunk)] = chunk
        start += len(chunk)
    return MatrixRows(latent)


def as_rows(x: Any) -> Rows:
    """Return `x` if it has the methods of :class:`Rows`; wrap an array or a sparse matrix."""
    if hasattr(x, "take") and hasattr(x, "dense"):
        return x  # type: ignore[no-any-return]
    # Recognises SciPy's sparse matrices without importing SciPy. CSR can be indexed by rows.
    matrix = x.tocsr() if hasattr(x, "tocsr") else np.asarray(x)
    if matrix.ndim < 2:
        msg = f"Training data must be a matrix, (n, d), or images. Received an array of shape {matrix.shape}."
        raise ArgumentError(msg)
    if matrix.dtype.kind not in "biuf":
        msg = f"Training data must be real numbers. Received values of type {matrix.dtype}; convert them to float32."
        raise ArgumentError(msg)
    values: Any = matrix.data if hasattr(x, "tocsr") else matrix
    if values.dtype.itemsize > 4 and values.size:
        largest = max(-float(values.min()), float(values.max()))
        if np.finfo(np.float32).max.item() < largest < np.inf:
            msg = f"Training data must be in the range of float32. Received values up to {largest:.3g}; scale them."
            raise ArgumentError(msg)
    return MatrixRows(matrix)


def pooled_std(rows: Rows) -> float:
    """Return the square root of the mean variance of the features."""
    total, squares = np.zeros(rows.shape[1:]), np.zeros(rows.shape[1:])
    for chunk in chunks(rows):
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += np.square(chunk, dtype=np.float64).sum(axis=0)
    return float(np.sqrt(np.mean(squares / rows.shape[0] - np.square(total / rows.shape[0]))))


def chunks(rows: Rows, size: int = 4096) -> Iterator[np.ndarray]:
    """Yield all rows in order, as dense arrays of `size` rows."""
    for start in range(0, rows.shape[0], size):
        yield rows.dense(rows.take(np.arange(start, min(start + size, rows.shape[0]))))
