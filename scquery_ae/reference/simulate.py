"""The reference's own cells seen through a query's genes and depth: what accuracy to expect before querying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from scquery_ae.loaders import GeneColumns
from scquery_ae.reference.members import leave_one_out_members
from scquery_ae.transform import row_sums

if TYPE_CHECKING:
    from scquery_ae.reference.reference import Reference

#: Held-out cells that are kept with their counts, and most of one type.
KEPT, KEPT_OF_TYPE = 1000, 150


@dataclass(frozen=True)
class SimulationCells:
    """Counts of some held-out cells.

    Attributes
    ----------
    counts
        Counts of the model genes, CSR float32 ``(m, n_genes)``.
    names
        Their names in the reference, ``(m,)``.
    """

    counts: sparse.csr_matrix
    names: np.ndarray

    @classmethod
    def choose(cls, cells: GeneColumns, names: np.ndarray, labels: np.ndarray, held_out: np.ndarray) -> SimulationCells:
        """Choose among labelled held-out cells, evenly over each type, so that rare types are seen.

        Parameters
        ----------
        cells, names, labels, held_out
            Of all cells; -1 for no label.
        """
        chosen = []
        for kind in np.unique(labels[held_out & (labels >= 0)]):
            members = np.flatnonzero(held_out & (labels == kind))
            chosen.append(members[_evenly(len(members), KEPT_OF_TYPE)])
        rows = np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=int)
        rows = rows[_evenly(len(rows), KEPT)]
        return cls(cells.take(rows), np.asarray(names, dtype=object)[rows])

    def join(self, other: SimulationCells) -> SimulationCells:
        """Return the cells of both, thinned out evenly where they are too many."""
        counts = sparse.vstack([self.counts, other.counts], format="csr")
        rows = _evenly(counts.shape[0], KEPT)
        return SimulationCells(counts[rows], np.concatenate([self.names, other.names])[rows])


def _evenly(n: int, most: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, most)).astype(int)


@dataclass(frozen=True)
class ExpectedAccuracy:
    """How well the reference names its own held-out cells under a query's conditions.

    Attributes
    ----------
    f1
        F1 of each type that has held-out cells.
    n_cells
        Held-out cells of each.
    accuracy, macro_f1
        Over these cells.
    """

    f1: dict[str, float]
    n_cells: dict[str, int]
    accuracy: float
    macro_f1: float


def simulate_query(
    reference: Reference, *, present: np.ndarray | None = None, depth: float | None = None, random_state: int = 0
) -> ExpectedAccuracy | None:
    """Name the held-out cells that were kept, with fewer genes and counts, and compare with their labels.

    Parameters
    ----------
    reference
        Whose cells.
    present
        Which model genes the query has, bool ``(n_genes,)``; None for all.
    depth
        The query's median count in these genes. Deeper cells of the reference are thinned to it (binomially, as fewer
        reads would have); None leaves them as they are.
    random_state
        Seed of the thinning.

    Returns
    -------
    None where no held-out cells were kept.
    """
    from sklearn.metrics import f1_score

    kept = reference.simulation_cells
    rows = reference.obs.index.get_indexer(pd.Index(kept.names))
    labels = np.where(rows >= 0, reference.label_codes[rows], -1)
    used = labels >= 0
    if not used.any() or np.count_nonzero(reference.label_codes >= 0) < 2:
        return None
    counts, truth, rows = kept.counts[used], labels[used], rows[used]
    columns = np.arange(counts.shape[1])
    if present is not None:
        columns = np.where(present, columns, -1)
        counts = counts @ sparse.diags(present.astype(np.float32)).tocsr()
    counts = _thinned(counts.tocsr(), depth, np.random.default_rng(random_state))
    seen = GeneColumns(counts, columns)
    members = leave_one_out_members(reference, reference.embed(seen), rows)
    given = reference.calibration.probabilities(members, seen.share).argmax(axis=1)
    kinds = np.unique(truth)
    f1 = f1_score(truth, given, labels=kinds, average=None, zero_division=0)
    return ExpectedAccuracy(
        f1={reference.types[kind]: float(value) for kind, value in zip(kinds, f1, strict=True)},
        n_cells={reference.types[kind]: int((truth == kind).sum()) for kind in kinds},
        accuracy=float((given == truth).mean()),
        macro_f1=float(np.mean(f1)),
    )


def median_depth(totals: np.ndarray, detected: np.ndarray) -> dict[str, float]:
    """Return the medians of the cells' counts in the model genes, and of the numbers of them detected."""
    return {"counts": float(np.median(totals)), "genes": float(np.median(detected))}


def _thinned(counts: sparse.csr_matrix, depth: float | None, rng: np.random.Generator) -> sparse.csr_matrix:
    own = float(np.median(row_sums(counts)))
    if depth is None or own <= depth or own == 0:
        return counts
    thinned = counts.copy()
    # Estimated counts are not whole; thinning is about reads, which are.
    thinned.data = rng.binomial(np.round(counts.data).astype(np.int64), depth / own).astype(np.float32)
    thinned.eliminate_zeros()
    return thinned
