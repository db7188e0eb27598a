"""Annotation of all query cells, block by block; the blocks of a Dask array are annotated by Dask's workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from scquery_ae._logging import logger
from scquery_ae.annotate import Annotation, EmbeddedCells, PerCell, PerCellArrays
from scquery_ae.input_state import is_lazy
from scquery_ae.loaders import GeneColumns
from scquery_ae.loaders.dask_blocks import map_blocks
from scquery_ae.reference import (
    Reference,
    ReferenceNotFoundError,
    SavedReference,
    SearchFilter,
    prepare_for_threads,
)

#: Cells embedded and annotated at once: probabilities of all types for all cells may take gigabytes.
CELLS = 65_536


@dataclass
class QueryResult(PerCellArrays):
    """Results of a query for each cell.

    Attributes
    ----------
    embedding
        Unit-length embedding, float32 ``(n, n_latent)``.
    detected
        Whether the cell has a count in the model genes, bool ``(n,)``; nothing is predicted for other cells.
    labels
        Label code of the most probable type, int32 ``(n,)``; -1 for a cell without a count.
    confidence
        Probability of this type, float32 ``(n,)``; 0 for a cell without a count.
    pvalues
        Conformal p-value, float64 ``(n,)`` so that it compares exactly with a level; 0 for a cell without a count.
    novelty
        Novelty score, float32 ``(n,)``, larger is more novel; NaN for a cell without a count.
    prediction_sets
        Prediction set, most probable type first, object ``(n,)``: tuples of label codes. Equal sets of a block are one
        object.
    indices, distances
        Nearest reference cells, int64 and float32 ``(n, n_neighbors)``.
    """

    embedding: Annotated[np.ndarray, PerCell("float32", "n_latent")]
    detected: Annotated[np.ndarray, PerCell("bool")]
    labels: Annotated[np.ndarray, PerCell("int32")]
    confidence: Annotated[np.ndarray, PerCell("float32")]
    pvalues: Annotated[np.ndarray, PerCell("float64")]
    novelty: Annotated[np.ndarray, PerCell("float32")]
    prediction_sets: Annotated[np.ndarray, PerCell("object")]
    indices: Annotated[np.ndarray, PerCell("int64", "n_neighbors")]
    distances: Annotated[np.ndarray, PerCell("float32", "n_neighbors")]

    def fill(self, start: int, cells: EmbeddedCells, found: Annotation) -> None:
        """Write the annotation of some cells, from row `start` on."""
        rows = slice(start, start + cells.n_obs)
        detected = cells.totals > 0
        self.embedding[rows] = cells.embedding
        self.detected[rows] = detected
        self.labels[rows] = np.where(detected, found.labels, -1)
        self.confidence[rows] = np.where(detected, found.probabilities.max(axis=1), 0)
        self.pvalues[rows] = np.where(detected, found.pvalues, 0)
        self.novelty[rows] = np.where(detected, found.novelty, np.nan)
        self.prediction_sets[rows] = _ordered_sets(found)
        self.indices[rows] = found.neighbors.indices
        self.distances[rows] = found.neighbors.distances


def query_cells(
    reference: Reference,
    source: Reference | str | PathLike[str],
    sha256: str,
    cells: GeneColumns,
    *,
    n_neighbors: int,
    coverage: float,
    rules: SearchFilter,
) -> QueryResult:
    """Embed and annotate all cells.

    Parameters
    ----------
    reference
        The reference.
    source, sha256
        The reference itself, or its path and hash. Only the path and the hash are then sent to a cluster.
    cells
        Counts of the reference's genes.
    n_neighbors, coverage, rules
        As for :meth:`Reference.annotate`.
    """
    result = _allocate(cells.shape[0], reference, n_neighbors)
    if not is_lazy(cells.matrix):
        _fill(result, 0, reference, cells, n_neighbors, coverage, rules)
        return result
    own, distinct = _numbered(cells.shape[0], rules.excluded)
    task = _BlockQuery(n_neighbors, coverage, replace(rules, excluded=distinct), result, cells.matrix.numblocks[0])
    prepare_for_threads(reference)
    if isinstance(source, Reference):
        returned = map_blocks(task, cells, reference, own)
    else:
        try:
            returned = map_blocks(task, cells, SavedReference(Path(source).absolute(), sha256, reference), own)
        except ReferenceNotFoundError as error:
            logger.debug("%s; it is sent to the workers", error)
            returned = map_blocks(task, cells, reference, own)
    return QueryResult(**returned) if returned else result


def _allocate(n: int, reference: Reference, n_neighbors: int) -> QueryResult:
    return QueryResult.allocate(n, {"n_latent": reference.encoder.n_latent, "n_neighbors": n_neighbors})


def _ordered_sets(found: Annotation) -> np.ndarray:
    """Return the members of each prediction set, most probable first, object ``(n,)``."""
    sizes = found.prediction_sets.sum(axis=1)
    # A set holds all types above a threshold, so its members come first in the order of probability. Single precision
    # keeps rounding errors from deciding this order.
    order = np.argsort(-found.probabilities.astype(np.float32), axis=1, kind="stable")[:, : sizes.max(initial=0)]
    ranked = np.where(np.arange(order.shape[1]) < sizes[:, None], order, -1)
    # Few distinct sets occur.
    distinct, which = np.unique(ranked, axis=0, return_inverse=True)
    sets = np.empty(len(distinct), dtype=object)
    sets[:] = [tuple(row[row >= 0].tolist()) for row in distinct]
    return sets[which.ravel()]


def _numbered(n: int, excluded: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the row and the excluded values of each cell as integers, and the distinct values of each column.

    The integers, int64 ``(n, 1 + n_columns)``, are the row and, for each column, the position of the cell's value among
    the distinct values. The last distinct value is None, at position -1.
    """
    own, distinct = np.empty((n, 1 + len(excluded)), dtype=np.int64), {}
    own[:, 0] = np.arange(n)
    for i, (key, values) in enumerate(excluded.items(), start=1):
        # Values are compared as text: 1 and True would be the same value otherwise.
        own[:, i], text = pd.factorize(pd.Series(values, dtype=object).map(str, na_action="ignore"))
        distinct[key] = np.array([*text, None], dtype=object)
    return own, distinct


@dataclass(frozen=True)
class _BlockQuery:
    """The query of every block of a Dask array.

    Attributes
    ----------
    n_neighbors, coverage
        As for :meth:`Reference.annotate`.
    rules
        Restrictions of the search, with the distinct values of each excluded column.
    result
        Result of all cells. Threads of this process write to it directly, to save memory; other processes return
        theirs.
    n_blocks
        Number of blocks.
    """

    n_neighbors: int
    coverage: float
    rules: SearchFilter
    result: QueryResult | None
    n_blocks: int

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "result": None}

    def __call__(
        self, reference: Reference | SavedReference, cells: GeneColumns, own: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Query one block, given its rows of :func:`_numbered`, and return the arrays to send back by name."""
        opened = reference.open() if isinstance(reference, SavedReference) else reference
        positions = zip(self.rules.excluded.items(), own[:, 1:].T, strict=True)
        excluded = {key: distinct[which] for (key, distinct), which in positions}
        arguments = (opened, cells, self.n_neighbors, self.coverage, replace(self.rules, excluded=excluded))
        if self.result is not None:
            with _few_threads(self.n_blocks):
                _fill(self.result, own[0, 0], *arguments)
            return {}
        result = _allocate(len(own), opened, self.n_neighbors)
        _fill(result, 0, *arguments)
        return result.arrays


@contextmanager
def _few_threads(n_blocks: int) -> Iterator[None]:
    """Limit the searches of this thread to its part of faiss' threads, because other blocks are searched too."""
    import faiss

    available = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(max(available // n_blocks, 1))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(available)


def _fill(
    result: QueryResult,
    start: int,
    reference: Reference,
    cells: GeneColumns,
    n_neighbors: int,
    coverage: float,
    rules: SearchFilter,
) -> None:
    """Query cells that are not a Dask array, and write the results from row `start` on."""
    done = 0
    for embedded in reference.embed_blocks(cells, CELLS):
        rows = slice(done, done + embedded.n_obs)
        own = replace(rules, excluded={key: values[rows] for key, values in rules.excluded.items()})
        found = reference.annotate(
            embedded, n_neighbors=n_neighbors, coverage=coverage, rules=own, gene_fraction=cells.gene_fraction
        )
        result.fill(start + done, embedded, found)
        done = rows.stop
