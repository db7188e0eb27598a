"""Readers and writers of cells: h5ad, Zarr, 10x and tables. Python and the command line both use them."""

from scquery_ae.io.read import read
from scquery_ae.io.write_cellxgene import write_cellxgene
from scquery_ae.io.write_h5ad import write_h5ad
from scquery_ae.io.write_table import write_table
from scquery_ae.io.write_whole import write_whole

__all__ = ["read", "write_cellxgene", "write_h5ad", "write_table", "write_whole"]
