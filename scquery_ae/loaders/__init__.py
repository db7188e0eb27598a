"""Cells of an AnnData as batches of the model genes. The whole matrix is never dense."""

from scquery_ae.loaders.cells import CHUNK, CellRows, CountRows, GeneColumns
from scquery_ae.loaders.open import OpenedCells, fitted_transform, gene_names, open_cells, open_training
from scquery_ae.loaders.scratch import ScratchRows

__all__ = [
    "CHUNK",
    "CellRows",
    "CountRows",
    "GeneColumns",
    "OpenedCells",
    "ScratchRows",
    "fitted_transform",
    "gene_names",
    "open_cells",
    "open_training",
]
