"""Reading cells from AnnData in batches; never a dense whole."""

from scquery_ae.loaders.cells import CellRows, GeneColumns
from scquery_ae.loaders.open import OpenedCells, fitted_transform, gene_names, open_cells, open_training

__all__ = ["CellRows", "GeneColumns", "OpenedCells", "fitted_transform", "gene_names", "open_cells", "open_training"]
