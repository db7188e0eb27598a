"""Matrices as Cell Ranger, STARsolo and their like write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

GENES = "Gene Expression"


def find_matrix(folder: Path) -> Path | None:
    """Return the matrix in a folder, its name perhaps with something before it, as in GEO; None if there is none."""
    names = [p for p in sorted(folder.iterdir()) if p.name.endswith(("matrix.mtx", "matrix.mtx.gz"))]
    return names[0] if names else None


def read_mtx(folder: Path) -> AnnData:
    """Read a folder with a matrix, its barcodes and its genes, each zipped or not.

    Raises
    ------
    ValueError
        If a file is not there, there are two matrices, or lengths differ.
    """
    import pandas as pd
    from scipy import sparse
    from scipy.io import mmread

    matrices = {
        p.name.removesuffix(".gz") for p in folder.iterdir() if p.name.endswith(("matrix.mtx", "matrix.mtx.gz"))
    }
    if len(matrices) > 1:
        msg = f"it holds several matrices, {', '.join(sorted(matrices))}; put each into a folder of its own"
        raise ValueError(msg)
    matrix = find_matrix(folder)
    if matrix is None:
        msg = "it holds no matrix.mtx, zipped or not"
        raise ValueError(msg)
    prefix = matrix.name.partition("matrix.mtx")[0]
    # Three columns with a kind of feature, or two as Cell Ranger 2 wrote them.
    genes = pd.read_csv(_beside(folder, prefix, "features.tsv", "genes.tsv"), sep="\t", header=None, dtype=str)
    cells = pd.read_csv(_beside(folder, prefix, "barcodes.tsv"), sep="\t", header=None, dtype=str)
    counts = sparse.csr_matrix(mmread(matrix).T, dtype=np.float32)
    if counts.shape != (len(cells), len(genes)):
        shape = f"{counts.shape[1]} genes and {counts.shape[0]} cells"
        msg = f"its matrix is of {shape}, and it names {len(genes)} and {len(cells)}"
        raise ValueError(msg)
    symbols = genes[1] if genes.shape[1] > 1 else genes[0]
    kinds = genes[2] if genes.shape[1] > 2 else None
    return _assembled(counts, cells[0], symbols, genes[0], kinds)


def _beside(folder: Path, prefix: str, *names: str) -> Path:
    for name in names:
        for ending in ("", ".gz"):
            if (folder / f"{prefix}{name}{ending}").is_file():
                return folder / f"{prefix}{name}{ending}"
    msg = f"it has no {prefix}{' or '.join(names)}, zipped or not"
    raise ValueError(msg)


def read_h5(path: Path) -> AnnData:
    """Read a 10x HDF5 file, of Cell Ranger 3 or later or of 2.

    Raises
    ------
    ValueError
        If it is none.
    """
    import h5py
    from scipy import sparse

    with h5py.File(path, "r") as file:
        groups = [name for name, group in file.items() if isinstance(group, h5py.Group) and "indptr" in group]
        if not groups:
            msg = f"it has neither a group of cells nor `obs`; its groups are {', '.join(file) or 'none'}"
            raise ValueError(msg)
        if len(groups) > 1:
            msg = f"it has cells of several genomes, {', '.join(groups)}; split them first"
            raise ValueError(msg)
        group = file[groups[0]]
        listed = group.get("features")
        if listed is not None:
            ids, symbols = _text(listed["id"]), _text(listed["name"])
            kinds = _text(listed["feature_type"]) if "feature_type" in listed else None
        else:
            ids, symbols, kinds = _text(group["genes"]), _text(group["gene_names"]), None
        # Columns are cells, so that the arrays are a CSR of cells by genes.
        shape = (int(group["shape"][1]), int(group["shape"][0]))
        arrays = (group["data"][()].astype(np.float32), group["indices"][()], group["indptr"][()])
        return _assembled(sparse.csr_matrix(arrays, shape=shape), _text(group["barcodes"]), symbols, ids, kinds)


def _text(values: Any) -> np.ndarray:
    return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in values[()]], dtype=object)


def _assembled(counts: Any, cells: Any, symbols: Any, ids: Any, kinds: pd.Series | np.ndarray | None) -> AnnData:
    """Return cells by genes; antibodies, guides and the like are left out, and symbols that repeat are numbered."""
    import anndata
    import pandas as pd

    var = pd.DataFrame({"gene_ids": np.asarray(ids, dtype=object)}, index=pd.Index(np.asarray(symbols, dtype=object)))
    adata = anndata.AnnData(counts, obs=pd.DataFrame(index=pd.Index(np.asarray(cells, dtype=object))), var=var)
    if kinds is not None and (np.asarray(kinds) == GENES).any():
        adata = adata[:, np.asarray(kinds) == GENES].copy()
    adata.var_names_make_unique()
    return adata
