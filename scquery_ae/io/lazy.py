"""Cells whose matrices stay in their files, as Dask arrays."""

from __future__ import annotations

from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scquery_ae._caller import argument
from scquery_ae._errors import ArgumentError, ReadError

if TYPE_CHECKING:
    from anndata import AnnData

#: Bytes of the matrices in memory above which they stay in their files. Training needs a multiple of it.
LAZY_ABOVE = 2 << 30

#: No compression makes a matrix smaller by more than this factor.
COMPRESSION = 64


def open_lazy(file: Path, rows: int) -> AnnData:
    """Return an AnnData with annotation in memory and matrices as Dask arrays.

    Checked first: :func:`anndata.experimental.read_lazy`, whose annotation is lazy too, so that scanpy does not take
    it, and whose blocks have an own default length.

    Raises
    ------
    ArgumentError
        If Dask is not installed.
    ReadError
        If the file is no AnnData, or holds a matrix by columns.
    """
    import anndata

    try:
        import dask.array  # noqa: F401
        from anndata.experimental import read_elem_lazy
    except ImportError as error:
        msg = f"{argument('lazy', True)} needs Dask and anndata 0.12 ({error}). Run `pip install 'scquery-ae[scale]'`."
        raise ArgumentError(msg) from error
    group = _open_group(file)
    obs, var = (anndata.io.read_elem(group[name]) for name in ("obs", "var"))
    matrices = {}
    for name in ("X", *(f"layers/{layer}" for layer in group.get("layers", ()))):
        if name not in group:
            continue
        if dict(group[name].attrs).get("encoding-type") == "csc_matrix":
            msg = (
                f"{file} holds {name!r} by columns (CSC), which cannot be read by cells. Write it again as CSR: "
                "`adata.X = adata.X.tocsr(); adata.write_h5ad(...)`."
            )
            raise ReadError(msg)
        matrices[name] = read_elem_lazy(group[name], chunks=(min(rows, max(len(obs), 1)), len(var)))
    return anndata.AnnData(
        X=matrices.pop("X", None),
        obs=obs,
        var=var,
        uns=anndata.io.read_elem(group["uns"]) if "uns" in group else None,
        layers={name.removeprefix("layers/"): matrix for name, matrix in matrices.items()},
    )


def is_large(files: list[Path]) -> bool:
    """Return whether the matrices would take much memory, and can stay in their files."""
    if find_spec("dask") is None:
        return False
    if all(file.is_file() for file in files) and sum(file.stat().st_size for file in files) < LAZY_ABOVE // COMPRESSION:
        return False
    matrices = [_stored_matrix(file) for file in files]
    if any(matrix is None or dict(matrix.attrs).get("encoding-type") == "csc_matrix" for matrix in matrices):
        return False
    return sum(map(_n_bytes, matrices)) > LAZY_ABOVE


def _stored_matrix(file: Path) -> Any:
    """Return the stored ``X``, None where there is none."""
    try:
        return _open(file).get("X")
    except (OSError, ValueError, KeyError):
        return None


def _n_bytes(matrix: Any) -> int:
    """Return the bytes of a stored matrix in memory."""
    arrays = [matrix[name] for name in ("data", "indices")] if "data" in matrix else [matrix]
    return sum(prod(map(int, array.shape)) * int(array.dtype.itemsize) for array in arrays)


def _open(file: Path) -> Any:
    if file.is_dir():
        import zarr

        return zarr.open_group(file, mode="r")
    import h5py

    return h5py.File(file, "r")


def _open_group(file: Path) -> Any:
    """Return the root of a stored AnnData."""
    try:
        group = _open(file)
        kinds = [dict(group[name].attrs).get("encoding-type") for name in ("obs", "var") if name in group]
    except (OSError, ValueError, KeyError) as error:
        reason = str(error)
    else:
        if kinds == ["dataframe"] * 2:
            return group
        reason = "it has no `obs` and `var`"
        if len(kinds) == 2:
            reason = (
                "its `obs` and `var` are not tables as anndata has written them since 0.7 (write an older file again "
                "with `anndata.read_h5ad(...).write_h5ad(...)`)"
            )
    msg = f"{file} cannot be read as an AnnData: {reason}. Expected an .h5ad file or a .zarr folder."
    raise ReadError(msg)
