"""Cells as a reference sees them: embeddings, components and what their genes say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scquery_ae.encoder import Encoder
from scquery_ae.loaders import GeneColumns
from scquery_ae.reference.annotation import EmbeddedCells
from scquery_ae.transform import row_sums


def embed_block(encoder: Encoder, cells: GeneColumns) -> dict[str, np.ndarray]:
    """Return the fields of :class:`EmbeddedCells` for cells that are not a Dask array."""
    return vars(next(embedded_blocks(encoder, cells, cells.shape[0])))


def embedded_blocks(encoder: Encoder, cells: GeneColumns, size: int) -> Iterator[EmbeddedCells]:
    """Yield cells as an encoder sees them, `size` at a time, in one pass over their counts."""
    n_obs, chunks = cells.shape[0], cells.chunks()
    n_components = 0 if encoder.components is None else encoder.components.shape[1]
    n_decision = 0 if encoder.discriminant is None else len(encoder.discriminant.means)
    for first in range(0, max(n_obs, 1), max(size, 1)):
        n = min(size, n_obs - first)
        latent = np.empty((n, encoder.n_latent), dtype=np.float32)
        projected = np.empty((n, n_components), dtype=np.float32)
        decision = np.empty((n, n_decision), dtype=np.float32)
        totals = np.empty(n)
        start = 0
        while start < n:
            chunk = next(chunks)
            rows = slice(start, start + chunk.shape[0])
            logged = encoder.transform.log_normalize(chunk, cells.present)
            latent[rows] = encoder.encode_logged(logged, cells.present)
            projected[rows] = encoder.project(logged, cells.present)
            totals[rows] = row_sums(chunk)
            decision[rows] = encoder.decision(logged, totals[rows], cells.present)
            start = rows.stop
        yield EmbeddedCells(latent, projected, decision, totals)
