"""Expected accuracy of a query, from held-out cells of the reference with fewer genes and counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from scquery_ae.annotate import combine, leave_one_out_members
from scquery_ae.loaders import GeneColumns
from scquery_ae.reference.reference import Reference
from scquery_ae.transform import row_sums


@dataclass(frozen=True)
class ExpectedAccuracy:
    """How well the types of a reference's held-out cells are predicted in a simulated query.

    Attributes
    ----------
    f1
        F1 score of each type that has held-out cells.
    n_cells
        Number of held-out cells of each of these types.
    accuracy, macro_f1
        Over all of these cells.
    """

    f1: dict[str, float]
    n_cells: dict[str, int]
    accuracy: float
    macro_f1: float


def simulate_query(
    reference: Reference, *, present: np.ndarray | None = None, depth: float | None = None, random_state: int = 0
) -> ExpectedAccuracy | None:
    """Predict the types of stored held-out cells from fewer genes and counts, and compare them with their labels.

    Parameters
    ----------
    reference
        The reference.
    present
        Which model genes the query has, bool ``(n_genes,)``; None for all.
    depth
        Median counts of the query in these genes. Deeper cells are thinned to it, binomially as with fewer reads; None
        leaves the counts as they are.
    random_state
        Seed of the thinning.

    Returns
    -------
    The expected accuracy; None if the reference keeps no held-out cells.
    """
    from sklearn.metrics import f1_score

    stored = reference.simulation_cells
    rows = reference.obs.index.get_indexer(pd.Index(stored.names))
    labels = np.where(rows >= 0, reference.label_codes[rows], -1)
    used = labels >= 0
    if not used.any() or np.count_nonzero(reference.label_codes >= 0) < 2:
        return None
    counts, truth, rows = stored.counts[used], labels[used], rows[used]
    columns = np.arange(counts.shape[1])
    if present is not None:
        columns = np.where(present, columns, -1)
        counts = counts @ sparse.diags(present.astype(np.float32)).tocsr()
    simulated = GeneColumns(_thinned(counts.tocsr(), depth, np.random.default_rng(random_state)), columns)
    members = leave_one_out_members(
        reference.predictors,
        reference.embed(simulated),
        rows,
        np.asarray(reference.cells.embedding[rows]),
        reference.search_index,
        reference.type_sums,
    )
    predicted = combine(reference.calibration.combination, members, simulated.gene_fraction).argmax(axis=1)
    kinds = np.unique(truth)
    f1 = f1_score(truth, predicted, labels=kinds, average=None, zero_division=0)
    return ExpectedAccuracy(
        f1={reference.types[kind]: float(value) for kind, value in zip(kinds, f1, strict=True)},
        n_cells={reference.types[kind]: int((truth == kind).sum()) for kind in kinds},
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(np.mean(f1)),
    )


def _thinned(counts: sparse.csr_matrix, depth: float | None, rng: np.random.Generator) -> sparse.csr_matrix:
    own = float(np.median(row_sums(counts)))
    if depth is None or own <= depth or own == 0:
        return counts
    thinned = counts.copy()
    # Estimated counts may be fractional, but binomial thinning needs integers.
    thinned.data = rng.binomial(np.round(counts.data).astype(np.int64), depth / own).astype(np.float32)
    thinned.eliminate_zeros()
    return thinned
