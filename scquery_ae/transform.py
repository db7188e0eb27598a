"""The normalisation that a reference is fitted with and every query cell goes through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from scquery_ae._errors import ArgumentError


class Chunked(Protocol):
    """Counts that can be read more than once, a chunk at a time."""

    def chunks(self) -> Iterable[sparse.csr_matrix]:
        """Yield all rows in order, CSR ``(n, n_genes)``."""
        ...


@dataclass(frozen=True)
class Transform:
    """Counts to network input, for cells one at a time.

    A cell's values over the model genes are divided by their sum, multiplied by `target_sum`, and
    ``log1p`` is taken. The network then sees each gene centred on its mean in the reference, so that a gene
    the query lacks can enter as zero, its mean, instead of as "not expressed". Genes are not scaled: that
    would give the noise of rare genes the weight of markers. Where genes are lacking, the sum runs over those
    present and the target is cut to the share that these genes have in the reference.

    The sum runs over the model genes, not over whatever genes a file happens to hold: a cell gets the same
    embedding from a full matrix and from one that was cut to variable genes.

    Attributes
    ----------
    genes
        Names of the model genes, ``(n_genes,)``, in the order of the network's inputs.
    target_sum
        Median over the reference's cells of the counts in the model genes.
    mean
        Mean of each gene's log-normalised value, float32 ``(n_genes,)``.
    fraction
        Mean share of a reference cell's counts that each gene holds, float32 ``(n_genes,)``; sums to 1.
    """

    genes: np.ndarray
    target_sum: float
    mean: np.ndarray
    fraction: np.ndarray

    def __post_init__(self) -> None:
        n_genes = len(self.genes)
        shapes = {name: np.shape(getattr(self, name)) for name in ("mean", "fraction")}
        if any(shape != (n_genes,) for shape in shapes.values()) or not self.target_sum > 0:
            msg = (
                f"A transform needs one mean and fraction for each of its {n_genes} genes and a positive "
                f"target sum. Received shapes {shapes} and target_sum={self.target_sum!r}."
            )
            raise ArgumentError(msg)

    @classmethod
    def fit(cls, cells: Chunked, genes: np.ndarray) -> Transform:
        """Fit on counts of the model genes, read twice by chunks.

        Cells without a count in the model genes are passed over.
        """
        sums, fraction = [], np.zeros(len(genes))
        for chunk in cells.chunks():
            total = row_sums(chunk)
            sums.append(total[total > 0])
            fraction += np.asarray(_scale_rows(chunk, 1.0 / np.where(total > 0, total, 1)).sum(axis=0)).ravel()
        totals = np.concatenate(sums) if sums else np.zeros(0)
        if not len(totals):
            msg = (
                "The normalisation cannot be fitted: no cell has a count in the model genes. "
                "Check that the matrix holds counts."
            )
            raise ArgumentError(msg)
        fraction = (fraction / len(totals)).astype(np.float32)
        start = cls(
            genes=np.asarray(genes, dtype=object),
            target_sum=float(np.median(totals)),
            mean=np.zeros(len(genes), np.float32),
            fraction=fraction,
        )
        sums_logged = np.zeros(len(genes))
        for chunk in cells.chunks():
            sums_logged += np.asarray(start.log_normalize(chunk[row_sums(chunk) > 0]).sum(axis=0)).ravel()
        mean = (sums_logged / len(totals)).astype(np.float32)
        return replace(start, mean=mean)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and arrays that ``write_h5ad`` takes."""
        return {
            "genes": np.asarray(self.genes, dtype=object),
            "target_sum": self.target_sum,
            "mean": self.mean,
            "fraction": self.fraction,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transform:
        """Return the transform of :meth:`to_dict`, also after a round trip through a file."""
        arrays = {name: np.asarray(values[name], dtype=np.float32) for name in ("mean", "fraction")}
        return cls(genes=np.asarray(values["genes"], dtype=object), target_sum=float(values["target_sum"]), **arrays)

    @property
    def n_genes(self) -> int:
        """Number of model genes."""
        return len(self.genes)

    def target(self, present: np.ndarray | None = None) -> float:
        """Return what cells are scaled to: the target sum, or the share of it that the genes that are there have."""
        return self.target_sum if present is None else self.target_sum * float(self.fraction[present].sum())

    def log_normalize(self, counts: Any, present: np.ndarray | None = None) -> sparse.csr_matrix:
        """Return ``log1p`` of counts scaled to the target sum, CSR float32 ``(n, n_genes)``.

        Parameters
        ----------
        counts
            Counts of the model genes in their order, ``(n, n_genes)``, sparse or dense, with zeros for
            genes that the query lacks.
        present
            Which model genes the query has, bool ``(n_genes,)``; None for all.
        """
        matrix = sparse.csr_matrix(counts, dtype=np.float32)
        total = row_sums(matrix)
        matrix = _scale_rows(matrix, self.target(present) / np.where(total > 0, total, 1))
        np.log1p(matrix.data, out=matrix.data)
        return matrix

    def center(self, logged: Any) -> np.ndarray:
        """Return the network's input of log-normalised rows with all genes, float32 ``(n, n_genes)``."""
        dense = logged.toarray() if sparse.issparse(logged) else np.array(logged, dtype=np.float32)
        dense -= self.mean
        return np.asarray(dense)


def row_sums(matrix: Any) -> np.ndarray:
    """Return the sum of each row, float64 ``(n,)``."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()


def _scale_rows(matrix: sparse.csr_matrix, factors: np.ndarray) -> sparse.csr_matrix:
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
