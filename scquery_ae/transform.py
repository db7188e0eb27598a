"""The normalisation that is fitted to a reference and applied to every query cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from scquery_ae._errors import ArgumentError


class Chunked(Protocol):
    """Counts that can be read repeatedly, in chunks."""

    def chunks(self) -> Iterable[sparse.csr_matrix]:
        """Yield chunks of all rows in order, CSR ``(n, n_genes)``."""
        ...


@dataclass(frozen=True)
class Transform:
    """Normalisation of counts to the input of the network, independently for each cell.

    Each cell is scaled to `target_sum` counts in the model genes, then ``log1p`` is applied. The input of the network
    is the difference from each gene's mean in the reference, so that a missing gene is set to its mean instead of to
    "not expressed". Genes are not scaled, because scaling would give the noise of rare genes the weight of markers. If
    genes are missing, cells are scaled to the fraction of `target_sum` that the measured genes have in the reference.

    Only counts in the model genes are summed, so that a cell has the same embedding whether its file holds all genes or
    only highly variable ones.

    Attributes
    ----------
    genes
        Names of the model genes, ``(n_genes,)``, in the order of the network's inputs.
    target_sum
        Median over the reference's cells of the counts in the model genes.
    mean
        Mean log-normalised value of each gene, float32 ``(n_genes,)``.
    fraction
        Mean fraction of a reference cell's counts that are in each gene, float32 ``(n_genes,)``; sums to 1.
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
                f"A transform needs a mean and a fraction for each of its {n_genes} genes and a positive target sum. "
                f"Received shapes {shapes} and target_sum={self.target_sum!r}."
            )
            raise ArgumentError(msg)

    @classmethod
    def fit(cls, cells: Chunked, genes: np.ndarray) -> Transform:
        """Fit to counts of the model genes, which are read twice.

        Cells without a count in the model genes are ignored.
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
        """Return the attributes as values and arrays that ``write_h5ad`` can write."""
        return {
            "genes": np.asarray(self.genes, dtype=object),
            "target_sum": self.target_sum,
            "mean": self.mean,
            "fraction": self.fraction,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transform:
        """Return the transform from the result of :meth:`to_dict`, also after writing it to a file and reading it."""
        arrays = {name: np.asarray(values[name], dtype=np.float32) for name in ("mean", "fraction")}
        return cls(genes=np.asarray(values["genes"], dtype=object), target_sum=float(values["target_sum"]), **arrays)

    @property
    def n_genes(self) -> int:
        """Number of model genes."""
        return len(self.genes)

    def target(self, present: np.ndarray | None = None) -> float:
        """Return the counts to which cells are scaled: the fraction of the target sum in the measured genes."""
        return self.target_sum if present is None else self.target_sum * float(self.fraction[present].sum())

    def log_normalize(self, counts: Any, present: np.ndarray | None = None) -> sparse.csr_matrix:
        """Return ``log1p`` of counts scaled to the target sum, CSR float32 ``(n, n_genes)``.

        Parameters
        ----------
        counts
            Counts of the model genes in their order, ``(n, n_genes)``, sparse or dense, with zeros for missing genes.
        present
            Which model genes were measured, bool ``(n_genes,)``; None for all.
        """
        matrix = sparse.csr_matrix(counts, dtype=np.float32)
        total = row_sums(matrix)
        matrix = _scale_rows(matrix, self.target(present) / np.where(total > 0, total, 1))
        np.log1p(matrix.data, out=matrix.data)
        return matrix

    def center(self, logged: Any) -> np.ndarray:
        """Return log-normalised rows minus the mean of each gene, float32 ``(n, n_genes)``: the network's input."""
        dense = logged.toarray() if sparse.issparse(logged) else np.array(logged, dtype=np.float32)
        dense -= self.mean
        return np.asarray(dense)


def row_sums(matrix: Any) -> np.ndarray:
    """Return the sum of each row, float64 ``(n,)``."""
    return np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()


def _scale_rows(matrix: sparse.csr_matrix, factors: np.ndarray) -> sparse.csr_matrix:
    data = matrix.data * np.repeat(factors, np.diff(matrix.indptr))
    return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)
