"""Computation of all arrays of embedded cells in one pass over their counts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scquery_ae.annotate import EmbeddedCells
from scquery_ae.encoder import Encoder
from scquery_ae.loaders import CellRows, GeneColumns
from scquery_ae.transform import row_sums


def embed_block(encoder: Encoder, cells: GeneColumns) -> dict[str, np.ndarray]:
    """Return the arrays of :class:`~scquery_ae.annotate.EmbeddedCells` for cells that are not a Dask array."""
    return next(embedded_blocks(encoder, cells, cells.shape[0])).arrays


def embed_rows(encoder: Encoder, rows: CellRows) -> EmbeddedCells:
    """Return the cells of a training set, embedded from their log-normalised rows."""
    return EmbeddedCells(
        embedding=encoder.encode_logged(rows.logged),
        projected=encoder.project(rows.logged),
        decision=encoder.decision(rows.logged, rows.totals),
        totals=rows.totals,
    )


def embedded_blocks(encoder: Encoder, cells: GeneColumns, size: int) -> Iterator[EmbeddedCells]:
    """Yield embedded cells in order, `size` at a time: a multiple of the chunk size, or the number of cells."""
    n_obs, chunks = cells.shape[0], cells.chunks()
    for first in range(0, max(n_obs, 1), max(size, 1)):
        n = min(size, n_obs - first)
        block = _empty(encoder, n)
        start = 0
        while start < n:
            chunk = next(chunks)
            rows = slice(start, start + chunk.shape[0])
            logged = encoder.transform.log_normalize(chunk, cells.present)
            block.embedding[rows] = encoder.encode_logged(logged, cells.present)
            block.projected[rows] = encoder.project(logged, cells.present)
            block.totals[rows] = row_sums(chunk)
            block.decision[rows] = encoder.decision(logged, block.totals[rows], cells.present)
            start = rows.stop
        yield block


def _empty(encoder: Encoder, n: int) -> EmbeddedCells:
    widths = {
        "n_latent": encoder.n_latent,
        "n_components": encoder.fitted_components.shape[1],
        "n_classifier_types": len(encoder.fitted_discriminant.means),
    }
    return EmbeddedCells.allocate(n, widths)
