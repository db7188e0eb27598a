"""Matrices as Cell Ranger, STARsolo and similar programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae._errors import ReadError

if TYPE_CHECKING:
    from anndata import AnnData

GENES = "Gene Expression"
MATRIX = ("matrix.mtx", "matrix.mtx.gz")


def read_10x_h5(path: Path) -> AnnData:
    """Read a 10x HDF5 file of Cell Ranger 2 or later.

    Raises
    ------
    ReadError
        If it is another kind of HDF5 file, or holds cells of several genomes.
    """
    import h5py
    import scanpy as sc

    with h5py.File(path, "r") as file:
        groups = [name for name, group in file.items() if isinstance(group, h5py.Group) and "indptr" in group]
        there = ", ".join(file) or "none"
    if not groups:
        msg = f"{path} is neither a 10x .h5 file nor an AnnData: no group holds a matrix. Its groups: {there}."
        raise ReadError(msg)
    if len(groups) > 1:
        msg = f"{path} holds cells of several genomes, {', '.join(groups)}. Write each genome to a file of its own."
        raise ReadError(msg)
    return _keep_genes(sc.read_10x_h5(path, gex_only=False))


def read_10x_mtx(folder: Path) -> AnnData:
    """Read a folder with a matrix, its barcodes and its genes, each compressed or not.

    Checked first: :func:`scanpy.read_10x_mtx`, which reads neither a compressed ``genes.tsv``, as many GEO entries have
    it, nor a ``features.tsv`` of two columns, nor a folder in which only some files are compressed.

    Raises
    ------
    ReadError
        If a file is missing, there are two matrices, or lengths differ.
    """
    import anndata
    import pandas as pd
    from scipy import sparse
    from scipy.io import mmread

    matrices = {p.name.removesuffix(".gz") for p in folder.iterdir() if p.name.endswith(MATRIX)}
    if len(matrices) > 1:
        msg = f"{folder} holds several matrices, {', '.join(sorted(matrices))}. Put each into a folder of its own."
        raise ReadError(msg)
    matrix = find_matrix(folder)
    if matrix is None:
        msg = f"{folder} holds no matrix.mtx, compressed or not."
        raise ReadError(msg)
    prefix = matrix.name.partition("matrix.mtx")[0]
    # Cell Ranger 2 wrote two columns; the third is the type of the feature.
    genes = pd.read_csv(_find(folder, prefix, "features.tsv", "genes.tsv"), sep="\t", header=None, dtype=str)
    barcodes = pd.read_csv(_find(folder, prefix, "barcodes.tsv"), sep="\t", header=None, dtype=str)
    counts = sparse.csr_matrix(mmread(matrix).T, dtype=np.float32)
    if counts.shape != (len(barcodes), len(genes)):
        msg = (
            f"{folder} holds a matrix of {counts.shape[1]} genes and {counts.shape[0]} cells, but names {len(genes)} "
            f"genes and {len(barcodes)} cells. Check that its three files belong together."
        )
        raise ReadError(msg)
    symbols = genes[min(1, genes.shape[1] - 1)]
    var = pd.DataFrame({"gene_ids": genes[0].to_numpy()}, index=pd.Index(symbols.to_numpy(dtype=object)))
    if genes.shape[1] > 2:
        var["feature_types"] = genes[2].to_numpy()
    return _keep_genes(
        anndata.AnnData(counts, obs=pd.DataFrame(index=pd.Index(barcodes[0].to_numpy(dtype=object))), var=var)
    )


def find_matrix(folder: Path) -> Path | None:
    """Return the matrix in a folder; its name may have a prefix, as in GEO. None if there is no matrix."""
    return next((p for p in sorted(folder.iterdir()) if p.name.endswith(MATRIX)), None)


def _find(folder: Path, prefix: str, *names: str) -> Path:
    for name in names:
        for suffix in ("", ".gz"):
            if (folder / f"{prefix}{name}{suffix}").is_file():
                return folder / f"{prefix}{name}{suffix}"
    msg = f"{folder} has no {prefix}{' or '.join(names)}, compressed or not. Put it beside the matrix."
    raise ReadError(msg)


def _keep_genes(adata: AnnData) -> AnnData:
    """Drop antibodies, guides and other features, and number symbols that repeat."""
    if "feature_types" in adata.var and (adata.var["feature_types"] == GENES).any():
        adata = adata[:, (adata.var["feature_types"] == GENES).to_numpy()].copy()
    adata.var_names_make_unique()
    return adata
