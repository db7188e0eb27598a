"""Cells of several files in one AnnData."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from scquery_ae._caller import argument
from scquery_ae._checks import shown
from scquery_ae._errors import ReadError, warn

if TYPE_CHECKING:
    from anndata import AnnData


def join_cells(opened: list[AnnData], files: list[Path], names: list[str], join: str) -> AnnData:
    """Put the cells of several files one after the other.

    Parameters
    ----------
    opened
        The cells of each file.
    files, names
        The path of each file, and a name for it.
    join
        ``"inner"`` or ``"outer"``.

    Raises
    ------
    ReadError
        If the files cannot be joined.
    """
    import anndata
    import pandas as pd

    for file, adata in zip(files, opened, strict=True):
        if not adata.var_names.is_unique:
            msg = (
                f"{file} names genes more than once, so they cannot be matched across files. Rename them, or pass "
                f"{argument('make_unique', True)} to number them."
            )
            raise ReadError(msg)
        if adata.X is None and any(other.X is not None for other in opened):
            msg = f"{file} has no X, and other files have one. Expected X in every file or in none; leave the file out."
            raise ReadError(msg)
    cells = pd.Index([name for adata in opened for name in adata.obs_names])
    if not cells.is_unique:
        warn(
            f"Cells of different files have the same name, such as {shown(cells[cells.duplicated()])}. The name of "
            "its file is added to the name of each cell."
        )
    _make_alike(opened)
    joined = anndata.concat(
        opened,
        join=join,
        merge="same",
        keys=names,
        index_unique=None if cells.is_unique else "-",
        fill_value=0,  # anndata fills dense matrices with NaN otherwise
    )
    if joined.n_vars == 0:
        msg = "The files have no gene name in common. Expected names of one kind; see `var` of each file."
        raise ReadError(msg)
    return joined


def _make_alike(opened: list[AnnData]) -> None:
    """Make a matrix sparse in all files if it is sparse in any: Dask cannot slice across sparse and dense blocks."""
    from scipy import sparse

    for name in {None, *(layer for adata in opened for layer in adata.layers)}:
        matrices = [adata.X if name is None else adata.layers.get(name) for adata in opened]
        kinds = [_is_sparse(matrix) for matrix in matrices if matrix is not None]
        if all(kinds) or not any(kinds):
            continue
        for adata, matrix in zip(opened, matrices, strict=True):
            if matrix is None or _is_sparse(matrix):
                continue
            if hasattr(matrix, "map_blocks"):
                converted = matrix.map_blocks(sparse.csr_matrix, meta=sparse.csr_matrix((0, 0), dtype=matrix.dtype))
            else:
                converted = sparse.csr_matrix(matrix)
            if name is None:
                adata.X = converted
            else:
                adata.layers[name] = converted


def _is_sparse(matrix: Any) -> bool:
    """Return whether a matrix, or the blocks of a Dask array, are sparse."""
    from scipy import sparse

    return bool(sparse.issparse(getattr(matrix, "_meta", matrix)))
