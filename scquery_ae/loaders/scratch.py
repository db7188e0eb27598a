"""Sparse rows in a temporary file, for cells that do not fit into memory."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import sparse

from scquery_ae._errors import StorageError

#: Pages of the file that reading leaves in memory are given back after so many bytes.
KEPT_BYTES = 128 << 20


#: What Linux maps around a page that is asked for, if it is in its cache.
BROUGHT = 64 << 10


class ScratchRows:
    """A CSR matrix that is written once, chunk by chunk, and then read by rows, in any order.

    Made for the model genes of cells that lie in files: a file of all genes is slow to read in the random order that
    training needs, and this one has a tenth of its size. It has no name in the file system and is gone with the
    process that made it, however that ends. Set ``TMPDIR`` to have it on another disk.

    Checked first: Zarr and HDF5, which read whole chunks for each of the scattered rows of a batch, and a memory-mapped
    ``scipy.sparse.csr_matrix``, whose two index arrays must be of one type: twice the bytes.

    Parameters
    ----------
    chunks
        CSR float32, ``(n, n_columns)`` each.
    n_columns
        Number of columns.
    """

    def __init__(self, chunks: Iterable[sparse.csr_matrix], n_columns: int) -> None:
        self._index_type = np.dtype(np.uint16 if n_columns <= np.iinfo(np.uint16).max + 1 else np.int32)
        lengths = [np.zeros(1, dtype=np.int64)]
        source, reading = iter(chunks), False
        try:
            with tempfile.TemporaryFile() as values, tempfile.TemporaryFile() as columns:
                while True:
                    reading = True
                    chunk = next(source, None)
                    reading = False
                    if chunk is None:
                        break
                    values.write(chunk.data.astype(np.float32).tobytes())
                    columns.write(chunk.indices.astype(self._index_type).tobytes())
                    lengths.append(np.diff(chunk.indptr).astype(np.int64))
                values.flush()
                columns.flush()
                self._maps = [_mapped(file.fileno()) for file in (values, columns)]
        except OSError as error:
            if reading:  # which is about the cells' own file
                raise
            msg = (
                f"The cells could not be written to a temporary file in {tempfile.gettempdir()}: {error}. Training on "
                "cells in files needs about 6 bytes for each value above zero in the model genes; set `TMPDIR` to a "
                "folder with room."
            )
            raise StorageError(msg) from error
        self.indptr = np.cumsum(np.concatenate(lengths))
        self.shape = (len(self.indptr) - 1, n_columns)
        self._touched = 0

    @property
    def nnz(self) -> int:
        """Number of stored values."""
        return int(self.indptr[-1])

    def __getitem__(self, rows: Any) -> sparse.csr_matrix:
        """Return the rows of a slice or at some positions, CSR float32."""
        rows = np.arange(self.shape[0])[rows]
        starts, lengths = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        values = self._array(0, np.dtype(np.float32))[positions]
        columns = self._array(1, self._index_type)[positions].astype(np.int32)
        # Each row of each of the two files brings its neighborhood with it.
        self._touched += max(2 * len(rows) * BROUGHT, 6 * len(positions))
        if self._touched > KEPT_BYTES:
            self._release()
        return sparse.csr_matrix((values, columns, indptr), shape=(len(rows), self.shape[1]))

    def _array(self, which: int, dtype: np.dtype[Any]) -> np.ndarray:
        mapped = self._maps[which]
        return np.zeros(0, dtype) if mapped is None else np.frombuffer(mapped, dtype)

    def _release(self) -> None:
        """Let go of the pages that were read; what the system still holds of them is not lost."""
        self._touched = 0
        for mapped in self._maps:
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


def _mapped(file: int) -> mmap.mmap | None:
    """Return a file in memory, None where it is empty, which cannot be mapped."""
    return mmap.mmap(file, 0, access=mmap.ACCESS_READ) if os.fstat(file).st_size else None
