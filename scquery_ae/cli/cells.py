"""Files of cells, of whatever kind, as an AnnData; and saved references."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scquery_ae._errors import ScqueryError
from scquery_ae.cli.echo import note
from scquery_ae.cli.failures import Problem

if TYPE_CHECKING:
    from anndata import AnnData

    from scquery_ae.reference import Reference

KINDS = "an .h5ad file, a .zarr folder, a 10x .h5 file or a folder with a 10x matrix.mtx"

#: Bytes of a matrix in memory above which it stays in its file. Training needs a multiple of it.
LAZY_ABOVE = 2 << 30


def existing(path: Path, what: str) -> Path:
    """Return a path at which there is something."""
    if not path.exists():
        near = (
            sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.suffix and path.parent.is_dir() else []
        )
        there = f" In {path.parent} there are {', '.join(near[:5])}." if near else ""
        msg = f"There is no {what} at {path}; check the path.{there}"
        raise Problem(msg)
    return path


def is_reference(path: Path) -> bool:
    """Whether a path is, by its looks, a saved reference."""
    from scquery_ae.reference.serialize import MANIFEST

    if path.is_dir():
        return (path / MANIFEST).is_file()
    return path.suffix == ".zip" and path.is_file() and zipfile.is_zipfile(path)


def load_reference(path: Path) -> Reference:
    """Open a saved reference."""
    from scquery_ae.reference import Reference

    existing(path, "reference")
    if path.is_file() and path.suffix != ".zip":
        msg = (
            f"{path} is a file, and a reference is a .scq folder or a .zip of one. "
            "Give the cells first, and then the reference."
        )
        raise Problem(msg)
    note(f"opening {path}")
    return Reference.load(path)


def read_cells(path: Path, *, lazy: bool | None = None, use_raw: bool = False, make_unique: bool = False) -> AnnData:
    """Read a file of cells.

    Parameters
    ----------
    path
        Of any of the kinds.
    lazy
        Whether to leave the matrix in its file; None to go by its size.
    use_raw
        Take the raw matrix and its genes.
    make_unique
        Number names that repeat.

    Raises
    ------
    Problem
        If it cannot be read, with the reason in one line.
    """
    existing(path, "file of cells")
    kind = _kind(path)
    if lazy and (use_raw or kind not in ("h5ad", "zarr")):
        asked = "--use-raw" if use_raw else f"{path} ({kind})"
        msg = f"{asked} is read into memory as a whole. Leave out --lazy, or write the cells as .h5ad first."
        raise Problem(msg)
    if lazy is None:
        lazy = not use_raw and kind in ("h5ad", "zarr") and _large(path)
    note(f"reading {path}{' in blocks' if lazy else ''}")
    try:
        with warnings.catch_warnings():  # of what --make-unique is for
            warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique", UserWarning)
            adata = _read(path, kind, lazy=lazy)
    except MemoryError as error:
        msg = f"{path} does not fit into memory. Pass --lazy to read it in blocks."
        raise Problem(msg) from error
    except ScqueryError:
        raise
    except _unreadable() as error:
        reason = str(error).strip("'\"").partition("\n")[0] or type(error).__name__
        msg = f"{path} cannot be read as {_NAMES[kind]}: {reason.rstrip('.')}. Expected {KINDS}; is it complete?"
        raise Problem(msg) from error
    if use_raw:
        adata = _raw(adata, path)
    if make_unique:
        adata.obs_names_make_unique()
        adata.var_names_make_unique()
    return adata


_NAMES = {
    "h5ad": "an .h5ad file",
    "zarr": "a .zarr folder of AnnData",
    "10x h5": "a 10x .h5 file",
    "10x mtx": "a folder with a 10x matrix",
}


def _kind(path: Path) -> str:
    """Tell the kind of a file from what it is, and from its name where that does not say."""
    from scquery_ae.cli.tenx import find_matrix

    if is_reference(path):
        msg = f"{path} is a reference, and cells are expected here: {KINDS}. Give the cells first, then the reference."
        raise Problem(msg)
    if path.is_dir():
        if any((path / name).exists() for name in (".zgroup", "zarr.json")):
            return "zarr"
        if find_matrix(path) is not None:
            return "10x mtx"
        inside = sorted(p.name for p in path.iterdir())
        msg = (
            f"{path} is a folder without cells. Expected a .zarr folder, or one with matrix.mtx, barcodes.tsv and "
            f"features.tsv (or genes.tsv), zipped or not. It holds {', '.join(inside[:5]) or 'nothing'}."
        )
        raise Problem(msg)
    import h5py

    try:
        with path.open("rb"):
            pass
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return "h5ad" if "obs" in file or path.suffix == ".h5ad" else "10x h5"
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}. Is it complete, and may you read it?"
        raise Problem(msg) from error
    if not path.name.endswith((".mtx", ".mtx.gz")):
        msg = f"{path} is not a file of cells: it is no HDF5. Expected {KINDS}."
        raise Problem(msg)
    msg = f"{path} is one of three files of a 10x matrix. Give the folder that holds them, {path.parent}."
    raise Problem(msg)


def _read(path: Path, kind: str, *, lazy: bool) -> AnnData:
    import anndata

    if lazy:
        from scquery_ae.loaders.files import read_lazy

        return read_lazy(path)
    if kind == "h5ad":
        return anndata.read_h5ad(path)
    if kind == "zarr":
        return anndata.read_zarr(path)
    from scquery_ae.cli import tenx

    return tenx.read_h5(path) if kind == "10x h5" else tenx.read_mtx(path)


def _unreadable() -> tuple[type[Exception], ...]:
    """Return what readers of damaged or foreign files raise."""
    kinds: list[type[Exception]] = [
        ArithmeticError, AttributeError, EOFError, ImportError, LookupError, NotImplementedError, OSError, RuntimeError,
        TypeError, ValueError,
    ]  # fmt: skip
    try:
        from anndata._io.specs.registry import IORegistryError

        kinds.append(IORegistryError)
    except ImportError:
        pass
    return tuple(kinds)


def _large(path: Path) -> bool:
    """Whether the matrix would take much memory, and can be read in blocks."""
    from importlib.util import find_spec

    if find_spec("dask") is None:
        return False
    if path.is_file() and path.stat().st_size < LAZY_ABOVE // 64:  # no compression does better
        return False
    matrix = _group(path)
    if matrix is None or dict(matrix.attrs).get("encoding-type") == "csc_matrix":
        return False
    arrays = [matrix[name] for name in ("data", "indices")] if "data" in matrix else [matrix]
    return sum(_size(array) for array in arrays) > LAZY_ABOVE


def _group(path: Path) -> Any:
    """Return the stored X; None where there is none."""
    try:
        if path.is_dir():
            import zarr

            return zarr.open_group(path, mode="r").get("X")
        import h5py

        return h5py.File(path, "r").get("X")
    except (OSError, ValueError, KeyError):
        return None


def _size(array: Any) -> int:
    n = 1
    for length in array.shape:
        n *= int(length)
    return n * int(array.dtype.itemsize)


def _raw(adata: AnnData, path: Path) -> AnnData:
    if adata.raw is None:
        msg = f"{path} has no raw matrix. Leave out --use-raw, or name a layer with --layer."
        raise Problem(msg)
    raw: AnnData = adata.raw.to_adata()
    return raw
