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

#: Bytes read from the file after which its pages in memory are released.
KEPT_BYTES = 128 << 20


#: Bytes that Linux maps around a page that is read, if they are in its cache.
READ_AROUND = 64 << 10


class ScratchRows:
    """A CSR matrix that is written once, chunk by chunk, and then read by rows in any order.

    It holds the model genes of cells that are in files. A file of all genes is slow to read in the random order of
    training, and ten times as large. The temporary file has no name in the file system and disappears with its process,
    however that ends. Set ``TMPDIR`` to put it on another disk.

    Checked first: Zarr and HDF5, which read a whole chunk for each row of a random batch, and a memory-mapped
    ``scipy.sparse.csr_matrix``, whose two index arrays must have one type and so take twice the bytes.

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
            if reading:  # the error is about the file of the cells
                raise
            msg = (
                f"The cells could not be written to a temporary file in {tempfile.gettempdir()}: {error}. Training on "
                "cells in files needs about 6 bytes per nonzero value of the model genes; set `TMPDIR` to a folder "
                "with enough space."
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
        """Return the rows of a slice or an array of positions, CSR float32."""
        rows = np.arange(self.shape[0])[rows]
        starts, lengths = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        values = self._array(0, np.dtype(np.float32))[positions]
        columns = self._array(1, self._index_type)[positions].astype(np.int32)
        # Each row maps the pages around it, in both files.
        self._touched += max(2 * len(rows) * READ_AROUND, 6 * len(positions))
        if self._touched > KEPT_BYTES:
            self._release()
        return sparse.csr_matrix((values, columns, indptr), shape=(len(rows), self.shape[1]))

    def _array(self, which: int, dtype: np.dtype[Any]) -> np.ndarray:
        mapped = self._maps[which]
        return np.zeros(0, dtype) if mapped is None else np.frombuffer(mapped, dtype)

    def _release(self) -> None:
        """Release the pages that were read; the system may keep them in its cache."""
        self._touched = 0
        for mapped in self._maps:
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)


def _mapped(file: int) -> mmap.mmap | None:
    """Map a file into memory; None for an empty file, which cannot be mapped."""
    return mmap.mmap(file, 0, access=mmap.ACCESS_READ) if os.fstat(file).st_size else None
