"""Cells that stay in their files: one AnnData over one file or several, read a block at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scquery_ae._checks import check_choice, check_integer, check_path, check_text, is_several, shown
from scquery_ae._errors import ArgumentError, MissingKeyError, warn

if TYPE_CHECKING:
    from anndata import AnnData

#: Cells that are read at once.
ROWS = 4096


def read_lazy(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    join: str = "inner",
    file_key: str | None = None,
    rows: int = ROWS,
) -> AnnData:
    """Open files of cells without reading their matrices: they may be larger than memory.

    Every call of the package takes the result, and reads it a block of cells at a time. Annotation of cells and genes
    is read at once. The matrices are Dask arrays, so that a ``dask.distributed`` cluster can work on them.

    Parameters
    ----------
    paths
        An ``.h5ad`` file or a ``.zarr`` folder, or several: their cells are put one after the other.
    join
        Which genes several files give: ``"inner"`` those that all have, ``"outer"`` those that any has, with zeros for
        the others' cells.
    file_key
        Column of ``obs`` to write each cell's file into (its name without the ending), for use as `batch_key`.
    rows
        Cells in a block.

    Returns
    -------
    An AnnData whose ``X`` and ``layers`` are Dask arrays of CSR or dense blocks.

    Raises
    ------
    MissingKeyError
        If there is no file at a path.
    ArgumentError
        If a file is not of AnnData, holds its matrix by columns (CSC), or Dask is not installed.

    Warns
    -----
    ScqueryWarning
        If names of cells repeat across files: they get the names of their files.

    Examples
    --------
    >>> import scquery_ae as scq
    >>> adata = scq.read_lazy(["lung.h5ad", "liver.zarr"], file_key="study")  # doctest: +SKIP
    >>> scq.pp.normalize(adata, batch_key="study")  # doctest: +SKIP
    """
    import anndata
    import pandas as pd

    check_choice("join", join, ("inner", "outer"))
    check_integer("rows", rows)
    if file_key is not None:
        check_text("file_key", file_key)
    several = is_several(paths)
    listed: list[Any] = list(paths) if several else [paths]  # type: ignore[arg-type]
    if not listed:
        msg = "`paths` must name at least one file. Received none."
        raise ArgumentError(msg)
    files = [_existing(path) for path in listed]
    opened = [_open(file, rows) for file in files]
    names = _distinct([file.name.removesuffix("".join(file.suffixes[-1:])) for file in files])
    if file_key is not None:
        for adata, name in zip(opened, names, strict=True):
            adata.obs[file_key] = pd.Categorical([name] * adata.n_obs, categories=names)
    if len(opened) == 1:
        return opened[0]
    for file, adata in zip(files, opened, strict=True):
        if not adata.var_names.is_unique:
            msg = f"{file} names genes more than once, so that they cannot be matched with others'. Rename them first."
            raise ArgumentError(msg)
        if adata.X is None and any(other.X is not None for other in opened):
            msg = f"{file} has no X, and others have. Expected one in each file or in none; leave the file out."
            raise ArgumentError(msg)
    cells = pd.Index([name for adata in opened for name in adata.obs_names])
    if not cells.is_unique:
        warn(
            f"Cells of different files have the same name, such as {shown(cells[cells.duplicated()])}: each gets the "
            "name of its file behind its own."
        )
    _agree(opened)
    joined = anndata.concat(
        opened,
        join=join,
        merge="same",
        keys=names,
        index_unique=None if cells.is_unique else "-",
        fill_value=0,  # NaN in dense matrices otherwise
    )
    if joined.n_vars == 0:
        msg = "The files have no gene name in common. Expected names of one kind; see their `var`."
        raise ArgumentError(msg)
    return joined


def _existing(path: Any) -> Path:
    file = check_path("paths", path)
    if not file.exists():
        msg = f"There is no file at {file}. Expected an .h5ad file or a .zarr folder."
        raise MissingKeyError(msg)
    return file


def _open(file: Path, rows: int) -> AnnData:
    """Return an AnnData over one file, annotation in memory, matrices as Dask arrays."""
    import anndata

    try:
        import dask.array  # noqa: F401
        from anndata.experimental import read_elem_lazy
    except ImportError as error:
        msg = f"`read_lazy` needs Dask and anndata 0.12 ({error}). Run `pip install 'scquery-ae[scale]'`."
        raise ArgumentError(msg) from error
    group = _group(file)
    obs, var = (anndata.io.read_elem(group[name]) for name in ("obs", "var"))
    matrices = {}
    for name in ("X", *(f"layers/{layer}" for layer in group.get("layers", ()))):
        if name not in group:
            continue
        encoding = dict(group[name].attrs).get("encoding-type")
        if encoding == "csc_matrix":
            msg = (
                f"{file} holds {name!r} by columns (CSC), which cannot be read by cells. Write it again as CSR: "
                "`adata.X = adata.X.tocsr(); adata.write_h5ad(...)`."
            )
            raise ArgumentError(msg)
        matrices[name] = read_elem_lazy(group[name], chunks=(min(rows, max(len(obs), 1)), len(var)))
    return anndata.AnnData(
        X=matrices.pop("X", None),
        obs=obs,
        var=var,
        uns=anndata.io.read_elem(group["uns"]) if "uns" in group else None,
        layers={name.removeprefix("layers/"): matrix for name, matrix in matrices.items()},
    )


def _agree(opened: list[AnnData]) -> None:
    """Let a matrix be sparse in all files if it is in any: Dask cannot take rows out of sparse and dense blocks."""
    from scipy import sparse

    for name in {None, *(layer for adata in opened for layer in adata.layers)}:
        matrices = [adata.X if name is None else adata.layers.get(name) for adata in opened]
        kinds = [sparse.issparse(matrix._meta) for matrix in matrices if matrix is not None]
        if all(kinds) or not any(kinds):
            continue
        for adata, matrix in zip(opened, matrices, strict=True):
            if matrix is None or sparse.issparse(matrix._meta):
                continue
            converted = matrix.map_blocks(sparse.csr_matrix, meta=sparse.csr_matrix((0, 0), dtype=matrix.dtype))
            if name is None:
                adata.X = converted
            else:
                adata.layers[name] = converted


def _group(file: Path) -> Any:
    try:
        if file.is_dir():
            import zarr

            group = zarr.open_group(file, mode="r")
        else:
            import h5py

            group = h5py.File(file, "r")
        kinds = [dict(group[name].attrs).get("encoding-type") for name in ("obs", "var") if name in group]
        if kinds == ["dataframe"] * 2:
            return group
        reason = "it has no `obs` and `var`"
        if len(kinds) == 2:
            reason = (
                "its `obs` and `var` are no tables as anndata writes them since 0.7 (if it is older, take "
                "`anndata.read_h5ad(...).write_h5ad(...)` first)"
            )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error)
    msg = f"{file} cannot be read as an AnnData: {reason}. Expected an .h5ad file or a .zarr folder."
    raise ArgumentError(msg)


def _distinct(names: list[str]) -> list[str]:
    """Return names that do not repeat: files of one name in several folders are numbered."""
    distinct: list[str] = []
    for name in names:
        numbers = itertools.count(1)
        own = name
        while own in distinct or (own == name and names.count(name) > 1) or (own != name and own in names):
            own = f"{name}_{next(numbers)}"
        distinct.append(own)
    return distinct
