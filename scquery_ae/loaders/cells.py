"""Expression matrices read by rows, one chunk or batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from scquery_ae.input_state import in_memory, read_rows, row_blocks
from scquery_ae.loaders.scratch import ScratchRows
from scquery_ae.transform import Transform, row_sums

#: Cells in a chunk. 4096 cells by 20,000 genes with 5 % nonzero values take about 50 MB.
CHUNK = 4096


@dataclass(frozen=True)
class GeneColumns:
    """The model genes of a matrix, in the order of the model. Genes that the matrix lacks are zero.

    Attributes
    ----------
    matrix
        ``(n_obs, n_vars)``: array, CSR, CSC, Dask array or the matrix of a backed AnnData.
    columns
        Column of each gene, or -1, int ``(n_genes,)``.
    logged
        Whether the matrix holds logarithms of one plus the values. Reading inverts them.
    base
        Base of the logarithm.
    """

    matrix: Any
    columns: np.ndarray
    logged: bool = False
    base: float = np.e

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of model genes."""
        return int(self.matrix.shape[0]), len(self.columns)

    @property
    def in_memory(self) -> bool:
        """Whether the matrix is in memory, and neither backed by a file nor a Dask array."""
        return in_memory(self.matrix)

    @property
    def present(self) -> np.ndarray | None:
        """Whether the matrix has each gene, bool ``(n_genes,)``; None if it has all."""
        present = self.columns >= 0
        return None if present.all() else present

    @property
    def gene_fraction(self) -> float:
        """Fraction of the genes that are present."""
        return float(np.mean(self.columns >= 0))

    def chunks(self, size: int = CHUNK) -> Iterator[sparse.csr_matrix]:
        """Yield all rows in order, at most `size` at a time, CSR float32 ``(n, n_genes)``."""
        # Slicing rows of a CSC matrix reads all of it, so it is converted once.
        if sparse.issparse(self.matrix) and self.matrix.format != "csr":
            yield from GeneColumns(self._select(self.matrix), np.arange(len(self.columns))).chunks(size)
            return
        for block in row_blocks(self.matrix, size):
            yield self._select(block)

    def take(self, rows: np.ndarray) -> sparse.csr_matrix:
        """Return rows, CSR float32 ``(n, n_genes)``."""
        return self._select(read_rows(self.matrix, rows))

    def depth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return total counts, float64 ``(n_obs,)``, and number of detected genes, int ``(n_obs,)``, of each cell."""
        totals, detected = zip(*((row_sums(chunk), np.diff(chunk.indptr)) for chunk in self.chunks()), strict=True)
        return np.concatenate(totals), np.concatenate(detected)

    def load(self) -> sparse.csr_matrix:
        """Return all rows, CSR float32 ``(n_obs, n_genes)``."""
        return sparse.vstack(list(self.chunks()), format="csr")

    def _select(self, block: Any) -> sparse.csr_matrix:
        found = np.flatnonzero(self.columns >= 0)
        # Selecting columns takes a third of the time of embedding. Genes in order need no selection.
        as_is = np.array_equal(self.columns, np.arange(block.shape[1]))
        chosen = sparse.csr_matrix(block if as_is else block[:, self.columns[found]], dtype=np.float32)
        if (chosen.data == 0).any():
            # It may be the matrix of the user.
            chosen = chosen.copy() if as_is else chosen
            chosen.eliminate_zeros()
        # Renumbering the indices puts the columns into place without moving values.
        indices = chosen.indices if as_is else found.astype(np.int32)[chosen.indices]
        values = chosen.data
        if self.logged:
            values = np.expm1(values * np.float32(np.log(self.base)))
        return sparse.csr_matrix((values, indices, chosen.indptr), shape=(chosen.shape[0], self.shape[1]))


@dataclass(frozen=True)
class CellRows:
    """Cells for training: stored log-normalised and sparse, returned dense and centred.

    Attributes
    ----------
    logged
        Log-normalised model genes, ``(n_obs, n_genes)``: CSR float32, or in a temporary file if the cells are not in
        memory.
    transform
        The transform that computed them.
    totals
        Total counts of each cell in the model genes, float64 ``(n_obs,)``.
    target
        Total to which the counts of each cell were scaled.
    """

    logged: sparse.csr_matrix | ScratchRows
    transform: Transform
    totals: np.ndarray
    target: float

    @classmethod
    def read(cls, cells: GeneColumns, transform: Transform) -> CellRows:
        """Normalise all cells and keep the model genes, sparse."""
        totals: list[np.ndarray] = []

        def normalized() -> Iterator[sparse.csr_matrix]:
            for chunk in cells.chunks():
                totals.append(row_sums(chunk))
                # Corruption is drawn for stored values in their order, which must be the same for the same cells.
                chunk.sort_indices()
                yield transform.log_normalize(chunk, cells.present)

        logged: sparse.csr_matrix | ScratchRows
        if cells.in_memory:
            logged = sparse.vstack(list(normalized()), format="csr")
        else:
            logged = ScratchRows(normalized(), cells.shape[1])
        return cls(logged, transform, np.concatenate(totals), transform.target(cells.present))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of model genes."""
        return int(self.logged.shape[0]), int(self.logged.shape[1])

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from a temporary file."""
        return isinstance(self.logged, ScratchRows)

    @property
    def detected(self) -> np.ndarray:
        """Number of detected model genes of each cell, int ``(n_obs,)``."""
        return np.diff(self.logged.indptr)

    def take(self, indices: np.ndarray) -> sparse.csr_matrix:
        """Return log-normalised rows, CSR ``(n, n_genes)``."""
        return self.logged[indices]

    def counts(self) -> CountRows:
        """Return the counts from which the log-normalised values were computed."""
        return CountRows(self)

    def dense(self, batch: Any) -> np.ndarray:
        """Return the input of the network, float32 ``(n, n_genes)``."""
        return self.transform.center(batch)


@dataclass(frozen=True)
class CountRows:
    """Counts of cells, computed from their log-normalised values when they are read."""

    cells: CellRows

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells and of model genes."""
        return self.cells.shape

    def take(self, indices: np.ndarray) -> sparse.csr_matrix:
        """Return counts of cells, CSR float32 ``(n, n_genes)``."""
        logged = self.cells.take(indices)
        factors = np.repeat(self.cells.totals[indices] / self.cells.target, np.diff(logged.indptr))
        counts = (np.expm1(logged.data) * factors).astype(np.float32)
        return sparse.csr_matrix((counts, logged.indices, logged.indptr), shape=logged.shape)

    def dense(self, batch: Any) -> np.ndarray:
        """Return a batch as an array."""
        return np.asarray(batch.toarray())
