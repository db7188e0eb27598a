"""Expression matrices read by rows, a chunk or a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from scquery_ae.input_state import in_memory, read_rows, row_blocks
from scquery_ae.loaders.scratch import ScratchRows
from scquery_ae.transform import Transform, row_sums

#: Cells read at once by passes over a whole matrix: 4096 by 20,000 genes at 5 % filled are about 50 MB.
CHUNK = 4096


@dataclass(frozen=True)
class GeneColumns:
    """The columns of a matrix that hold some genes, in the order of the genes, with zeros where there is none.

    Attributes
    ----------
    matrix
        ``(n_obs, n_vars)``: array, CSR, CSC, Dask array or the matrix of a backed AnnData.
    columns
        For each gene its column, or -1, int ``(n_genes,)``.
    logged
        Whether the matrix holds logarithms of one plus the values, which are turned back when they are read.
    base
        Base of the logarithms.
    """

    matrix: Any
    columns: np.ndarray
    logged: bool = False
    base: float = np.e

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and genes."""
        return int(self.matrix.shape[0]), len(self.columns)

    @property
    def in_memory(self) -> bool:
        """Whether the matrix is in memory: not backed by a file, and no Dask array."""
        return in_memory(self.matrix)

    @property
    def present(self) -> np.ndarray | None:
        """Which genes there are, bool ``(n_genes,)``; None if all."""
        present = self.columns >= 0
        return None if present.all() else present

    @property
    def gene_fraction(self) -> float:
        """Fraction of the genes that are present."""
        return float(np.mean(self.columns >= 0))

    def chunks(self, size: int = CHUNK) -> Iterator[sparse.csr_matrix]:
        """Yield all rows in order, `size` at a time, CSR float32 ``(n, n_genes)``."""
        # Rows of a CSC matrix are scattered: cutting each chunk out of it would read all of it each time.
        if sparse.issparse(self.matrix) and self.matrix.format != "csr":
            yield from GeneColumns(self._select(self.matrix), np.arange(len(self.columns))).chunks(size)
            return
        for block in row_blocks(self.matrix, size):
            yield self._select(block)

    def take(self, rows: np.ndarray) -> sparse.csr_matrix:
        """Return some rows, CSR float32 ``(n, n_genes)``."""
        return self._select(read_rows(self.matrix, rows))

    def depth(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each cell its counts in the genes, float64 ``(n_obs,)``, and how many of them it has, int."""
        totals, detected = zip(*((row_sums(chunk), np.diff(chunk.indptr)) for chunk in self.chunks()), strict=True)
        return np.concatenate(totals), np.concatenate(detected)

    def load(self) -> sparse.csr_matrix:
        """Return the whole of the genes' columns, CSR float32 ``(n_obs, n_genes)``."""
        return sparse.vstack(list(self.chunks()), format="csr")

    def _select(self, block: Any) -> sparse.csr_matrix:
        found = np.flatnonzero(self.columns >= 0)
        # Picking columns takes a third of the time of embedding, and genes that stand in order need none of it.
        as_is = np.array_equal(self.columns, np.arange(block.shape[1]))
        chosen = sparse.csr_matrix(block if as_is else block[:, self.columns[found]], dtype=np.float32)
        if (chosen.data == 0).any():
            # Perhaps the user's own matrix.
            chosen = chosen.copy() if as_is else chosen
            chosen.eliminate_zeros()
        # Indices refer to columns: spreading them over the wider matrix moves no values.
        indices = chosen.indices if as_is else found.astype(np.int32)[chosen.indices]
        values = chosen.data
        if self.logged:
            values = np.expm1(values * np.float32(np.log(self.base)))
        return sparse.csr_matrix((values, indices, chosen.indptr), shape=(chosen.shape[0], self.shape[1]))


@dataclass(frozen=True)
class CellRows:
    """Cells as training sees them: log-normalised and sparse when stored, centred when dense.

    Attributes
    ----------
    logged
        Log-normalised model genes, ``(n_obs, n_genes)``: CSR float32, or in a temporary file if the cells are not in
        memory.
    transform
        What made them.
    totals
        Counts of each cell in the model genes, float64 ``(n_obs,)``.
    target
        What they were scaled to.
    """

    logged: sparse.csr_matrix | ScratchRows
    transform: Transform
    totals: np.ndarray
    target: float

    @classmethod
    def read(cls, cells: GeneColumns, transform: Transform) -> CellRows:
        """Normalise all `cells`, keeping only the model genes and those sparse."""
        totals: list[np.ndarray] = []

        def normalized() -> Iterator[sparse.csr_matrix]:
            for chunk in cells.chunks():
                totals.append(row_sums(chunk))
                # Noise is drawn on stored values one after the other: the same cells are to get the same.
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
        """Cells and model genes."""
        return int(self.logged.shape[0]), int(self.logged.shape[1])

    @property
    def on_disk(self) -> bool:
        """Whether rows are read from a file."""
        return isinstance(self.logged, ScratchRows)

    @property
    def detected(self) -> np.ndarray:
        """How many model genes each cell has, int ``(n_obs,)``."""
        return np.diff(self.logged.indptr)

    def take(self, indices: np.ndarray) -> sparse.csr_matrix:
        """Return log-normalised rows, CSR ``(n, n_genes)``."""
        return self.logged[indices]

    def counts(self) -> CountRows:
        """Return the counts that the log-normalised values were made of."""
        return CountRows(self)

    def dense(self, batch: Any) -> np.ndarray:
        """Return the network's input, float32 ``(n, n_genes)``."""
        return self.transform.center(batch)


@dataclass(frozen=True)
class CountRows:
    """The counts of some cells, made of their log-normalised values when they are read."""

    cells: CellRows

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and model genes."""
        return self.cells.shape

    def take(self, indices: np.ndarray) -> sparse.csr_matrix:
        """Return the counts of some cells, CSR float32 ``(n, n_genes)``."""
        logged = self.cells.take(indices)
        factors = np.repeat(self.cells.totals[indices] / self.cells.target, np.diff(logged.indptr))
        counts = (np.expm1(logged.data) * factors).astype(np.float32)
        return sparse.csr_matrix((counts, logged.indices, logged.indptr), shape=logged.shape)

    def dense(self, batch: Any) -> np.ndarray:
        """Return them as an array."""
        return np.asarray(batch.toarray())
