"""The format of a file of cells, told from its content."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from scquery_ae._errors import ReadError
from scquery_ae.io.tenx import find_matrix

Kind = Literal["h5ad", "zarr", "10x h5", "10x mtx"]

#: The formats that are read, for messages.
FORMATS = "an .h5ad file, a .zarr folder, a 10x .h5 file or a folder with a 10x matrix.mtx"

NAMES: dict[Kind, str] = {
    "h5ad": "an .h5ad file",
    "zarr": "a .zarr folder of AnnData",
    "10x h5": "a 10x .h5 file",
    "10x mtx": "a folder with a 10x matrix",
}

#: Formats whose matrix can be read block by block.
IN_BLOCKS: tuple[Kind, ...] = ("h5ad", "zarr")


def find_kind(path: Path) -> Kind:
    """Return the format of a file or folder of cells.

    Raises
    ------
    ReadError
        If there is nothing at the path, or it holds no cells.
    """
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.suffix else []
        there = f" {path.parent} holds {', '.join(near[:5])}." if near else ""
        msg = f"There is no file of cells at {path}. Expected {FORMATS}; check the path.{there}"
        raise ReadError(msg)
    return _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)


def _kind_of_folder(path: Path) -> Kind:
    if any((path / name).exists() for name in (".zgroup", "zarr.json")):
        return "zarr"
    if find_matrix(path) is not None:
        return "10x mtx"
    inside = sorted(p.name for p in path.iterdir())
    msg = (
        f"{path} is a folder without cells. Expected a .zarr folder, or a folder with matrix.mtx, barcodes.tsv and "
        f"features.tsv (or genes.tsv), compressed or not. It holds {', '.join(inside[:5]) or 'nothing'}."
    )
    raise ReadError(msg)


def _kind_of_file(path: Path) -> Kind:
    import h5py

    try:
        with path.open("rb"):
            pass
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return "h5ad" if "obs" in file or path.suffix == ".h5ad" else "10x h5"
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}. Check that it is complete and that you may read it."
        raise ReadError(msg) from error
    if path.name.endswith((".mtx", ".mtx.gz")):
        msg = f"{path} is one of the three files of a 10x matrix. Give the folder that holds them, {path.parent}."
        raise ReadError(msg)
    msg = f"{path} is not a file of cells: it is not HDF5. Expected {FORMATS}."
    raise ReadError(msg)
