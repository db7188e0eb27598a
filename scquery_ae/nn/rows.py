"""Where training batches come from: rows of a matrix, read a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from scquery_ae._errors import ArgumentError

#: Encodings up to so many bytes are kept: those of 130,000 cells by 512 units.
KEPT_BYTES = 256 << 20


class Rows(Protocol):
    """A matrix of cells, or an array of images, that is read by rows and never made dense as a whole.

    Reading has two steps, so that noise can be drawn on the few stored values of a sparse batch:
    `take` returns a batch as it is stored, `dense` what the network sees.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one: its features, or the axes of an image."""
        ...

    def take(self, indices: np.ndarray) -> Any:
        """Return the rows at `indices` as an array or a CSR matrix."""
        ...

    def dense(self, batch: Any) -> np.ndarray:
        """Return a batch of `take` as the float32 array that enters the network."""
        ...


@dataclass(frozen=True)
class MatrixRows:
    """Rows of an array or a CSR matrix, entering the network as they are."""

    matrix: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of one."""
        return tuple(int(n) for n in self.matrix.shape)

    def take(self, indices: np.ndarray) -> Any:
        """Return the rows at `indices`, of the type of the matrix."""
        return self.matrix[indices]

    def dense(self, batch: Any) -> np.ndarray:
        """Return a batch as a float32 array."""
        return np.asarray(batch if isinstance(batch, np.ndarray) else batch.toarray(), dtype=np.float32)


@dataclass(frozen=True)
class EncodedRows:
    """Clean encodings of `base` under one trained layer, computed batch by batch; see :func:`encoded_rows`."""

    base: Rows
    layer: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows, and the shape of a embedding of the layer."""
        return (self.base.shape[0], *self.layer.latent_shape(self.base.shape)[1:])

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the encodings of the rows at `indices`."""
        import keras

        clean = self.base.dense(self.base.take(indices))
        return np.asarray(keras.ops.convert_to_numpy(self.layer.encode(clean)), dtype=np.float32)

    def dense(self, batch: Any) -> np.ndarray:
        """Return the batch itself."""
        return np.asarray(batch)


def encoded_rows(base: Rows, layer: Any) -> Rows:
    """Return the clean encodings of rows, computed once where they are few, else each time that they are read.

    One product is cheap beside a training step, but all epochs read them; the encodings of a million cells would take
    more memory than the cells do.
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
    """Return `x` if it already offers rows, else wrap an array or a sparse matrix."""
    if hasattr(x, "take") and hasattr(x, "dense"):
        return x  # type: ignore[no-any-return]
    # SciPy's sparse matrices, told by this method so that SciPy need not be imported; CSR is the one cut by rows.
    matrix = x.tocsr() if hasattr(x, "tocsr") else np.asarray(x)
    if matrix.ndim < 2:
        msg = f"Rows to train on must be a matrix, (n, d), or images. Received an array of shape {matrix.shape}."
        raise ArgumentError(msg)
    if matrix.dtype.kind not in "biuf":
        msg = f"Rows to train on must be real numbers. Received values of type {matrix.dtype}; convert them to float32."
        raise ArgumentError(msg)
    values: Any = matrix.data if hasattr(x, "tocsr") else matrix
    if values.dtype.itemsize > 4 and values.size:
        largest = max(-float(values.min()), float(values.max()))
        if np.finfo(np.float32).max.item() < largest < np.inf:
            msg = f"Rows to train on must be in the range of float32. Received values up to {largest:.3g}; scale them."
            raise ArgumentError(msg)
    return MatrixRows(matrix)


def pooled_std(rows: Rows) -> float:
    """Return the root of the mean variance of the features."""
    total, squares = np.zeros(rows.shape[1:]), np.zeros(rows.shape[1:])
    for chunk in chunks(rows):
        total += chunk.sum(axis=0, dtype=np.float64)
        squares += np.square(chunk, dtype=np.float64).sum(axis=0)
    return float(np.sqrt(np.mean(squares / rows.shape[0] - np.square(total / rows.shape[0]))))


def chunks(rows: Rows, size: int = 4096) -> Iterator[np.ndarray]:
    """Yield all rows in order, dense, `size` at a time."""
    for start in range(0, rows.shape[0], size):
        yield rows.dense(rows.take(np.arange(start, min(start + size, rows.shape[0]))))
