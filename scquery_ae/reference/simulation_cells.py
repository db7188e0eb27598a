"""Counts of some held-out cells, kept in a reference for simulated queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from scquery_ae.loaders import GeneColumns

#: Largest number of cells, in all and of each type.
MAX_CELLS, MAX_OF_TYPE = 1000, 150


@dataclass(frozen=True)
class SimulationCells:
    """Counts of some held-out cells.

    Attributes
    ----------
    counts
        Counts in the model genes, CSR float32 ``(m, n_genes)``.
    names
        Names of the cells in the reference, ``(m,)``.
    """

    counts: sparse.csr_matrix
    names: np.ndarray

    @classmethod
    def choose(cls, cells: GeneColumns, names: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> SimulationCells:
        """Choose among the labelled held-out cells, evenly spaced within each type, so that rare types are kept.

        Parameters
        ----------
        cells
            Counts of all cells.
        names, labels, held_out
            Name, label code (-1 for none) and held-out flag of all cells, ``(n,)``.
        """
        chosen = []
        for code in np.unique(labels[held_out & (labels >= 0)]):
            of_type = np.flatnonzero(held_out & (labels == code))
            chosen.append(of_type[_evenly_spaced(len(of_type), MAX_OF_TYPE)])
        rows = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=int)
        rows = rows[_evenly_spaced(len(rows), MAX_CELLS)]
        return cls(cells.take(rows), np.asarray(names, dtype=object)[rows])

    def concat(self, other: SimulationCells) -> SimulationCells:
        """Return the cells of both, or evenly spaced ones if there are too many."""
        counts = sparse.vstack([self.counts, other.counts], format="csr")
        rows = _evenly_spaced(counts.shape[0], MAX_CELLS)
        return SimulationCells(counts[rows], np.concatenate([self.names, other.names])[rows])

    def without(self, names: np.ndarray) -> SimulationCells:
        """Return the cells except those with some names."""
        kept = ~np.isin(self.names.astype(str), names.astype(str))
        return SimulationCells(self.counts[kept], self.names[kept])


def _evenly_spaced(n: int, maximum: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, maximum)).astype(int)
