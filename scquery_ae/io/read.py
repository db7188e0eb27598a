"""``scq.read``: cells from one file or several, in memory or left in their files."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scquery_ae._caller import argument
from scquery_ae._checks import check_choice, check_flag, check_integer, check_path, check_text, is_several
from scquery_ae._errors import ArgumentError, ReadError, ScqueryError
from scquery_ae.io.join import join_cells
from scquery_ae.io.kind import FORMATS, IN_BLOCKS, NAMES, Kind, find_kind
from scquery_ae.io.lazy import is_large, open_lazy
from scquery_ae.io.tenx import read_10x_h5, read_10x_mtx

if TYPE_CHECKING:
    from anndata import AnnData


#: Cells in a block of a matrix that stays in its file.
ROWS = 4096


def read(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    lazy: bool | None = None,
    use_raw: bool = False,
    make_unique: bool = False,
    join: str = "inner",
    file_key: str | None = None,
    rows: int = ROWS,
) -> AnnData:
    """Read cells from one file or several.

    The content decides the format: an ``.h5ad`` file, a ``.zarr`` folder, a 10x ``.h5`` file, or a folder with a
    10x ``matrix.mtx``. A matrix can stay in its file: ``X`` and ``layers`` are then Dask arrays, which every call of
    the package reads block by block, on a ``dask.distributed`` cluster too. Cells may then exceed memory.

    Parameters
    ----------
    paths
        A file or folder of cells, or several. The cells of several are put one after the other.
    lazy
        Whether the matrix stays in its file, for ``.h5ad`` and ``.zarr``. None leaves it there if the matrices take
        more than 2 GB in memory and Dask is installed.
    use_raw
        Read the matrix and the genes of ``raw`` instead of ``X``.
    make_unique
        Number the names of cells and genes that repeat within a file.
    join
        Genes of several files: ``"inner"`` takes those that every file has, ``"outer"`` those that any file has, with
        zeros where a file lacks one.
    file_key
        Column of ``obs`` to write the name of each cell's file into, without its suffix. It can serve as `batch_key`.
    rows
        Cells in a block of a matrix that stays in its file.

    Returns
    -------
    An AnnData. With a matrix that stays in its file, ``obs``, ``var`` and ``uns`` are in memory, and other slots than
    ``layers`` are left out.

    Raises
    ------
    ReadError
        If a file is missing, damaged, or of another format.
    ArgumentError
        If an argument does not fit the files, such as `lazy` for a 10x file, or Dask is not installed.

    Warns
    -----
    ScqueryWarning
        If names of cells repeat across files. The name of the file is then added to each.

    Examples
    --------
    >>> import scquery_ae as scq
    >>> adata = scq.read(["lung.h5ad", "liver.zarr"], file_key="study")  # doctest: +SKIP
    >>> scq.pp.normalize(adata, batch_key="study")  # doctest: +SKIP
    """
    import pandas as pd

    check_choice("join", join, ("inner", "outer"))
    check_integer("rows", rows)
    check_flag("use_raw", use_raw)
    check_flag("make_unique", make_unique)
    if lazy is not None:
        check_flag("lazy", lazy)
    if file_key is not None:
        check_text("file_key", file_key)
    listed: list[Any] = list(paths) if is_several(paths) else [paths]  # type: ignore[arg-type]
    if not listed:
        msg = f"{argument('paths')} must name at least one file. Received none."
        raise ArgumentError(msg)
    files = [check_path("paths", path) for path in listed]
    kinds = [find_kind(file) for file in files]
    stays = _stays_in_file(files, kinds, lazy, use_raw=use_raw)
    opened = [_read_one(file, kind, use_raw, rows if stays else None) for file, kind in zip(files, kinds, strict=True)]
    names = _distinct([file.name.removesuffix(file.suffix) for file in files])
    if file_key is not None:
        for adata, name in zip(opened, names, strict=True):
            adata.obs[file_key] = pd.Categorical([name] * adata.n_obs, categories=names)
    if make_unique:
        for adata in opened:
            adata.obs_names_make_unique()
            adata.var_names_make_unique()
    return opened[0] if len(opened) == 1 else join_cells(opened, files, names, join)


def _stays_in_file(files: list[Path], kinds: list[Kind], lazy: bool | None, *, use_raw: bool) -> bool:
    """Return whether matrices stay in their files."""
    if lazy is None:
        return not use_raw and all(kind in IN_BLOCKS for kind in kinds) and is_large(files)
    if not lazy:
        return False
    if use_raw:
        msg = f"{argument('use_raw', True)} reads the matrix into memory. Leave out {argument('lazy', True)}."
        raise ArgumentError(msg)
    for file, kind in zip(files, kinds, strict=True):
        if kind not in IN_BLOCKS:
            msg = (
                f"{file} is {NAMES[kind]}, which is read into memory as a whole. Leave out {argument('lazy', True)}, "
                "or write the cells as .h5ad first."
            )
            raise ArgumentError(msg)
    return True


def _read_one(path: Path, kind: Kind, use_raw: bool, rows: int | None) -> AnnData:
    """Read one file: in blocks of `rows` cells, or into memory for None."""
    try:
        # `make_unique` is there for them.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(Variable|Observation) names are not unique", UserWarning)
            adata = _read_kind(path, kind) if rows is None else open_lazy(path, rows)
    except ScqueryError:
        raise
    except MemoryError as error:
        fix = f"Pass {argument('lazy', True)} to read it in blocks" if kind in IN_BLOCKS else "Write it as .h5ad first"
        msg = f"{path} does not fit into memory. {fix}."
        raise ReadError(msg) from error
    except Exception as error:
        reason = str(error).strip("'\"").partition("\n")[0].rstrip(".") or type(error).__name__
        msg = f"{path} cannot be read as {NAMES[kind]}: {reason}. Expected {FORMATS}; check that it is complete."
        raise ReadError(msg) from error
    if not use_raw:
        return adata
    if adata.raw is None:
        msg = f"{path} has no raw matrix. Leave out {argument('use_raw', True)}."
        raise ReadError(msg)
    raw: AnnData = adata.raw.to_adata()
    return raw


def _read_kind(path: Path, kind: Kind) -> AnnData:
    import anndata

    readers = {
        "h5ad": anndata.read_h5ad,
        "zarr": anndata.read_zarr,
        "10x h5": read_10x_h5,
        "10x mtx": read_10x_mtx,
    }
    return readers[kind](path)


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
