"""Cells with results as an ``.h5ad`` file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scquery_ae.input_state import is_lazy
from scquery_ae.io.write_whole import write_whole

if TYPE_CHECKING:
    from anndata import AnnData


def write_h5ad(path: Path, adata: AnnData, source: Path | None = None) -> None:
    """Write cells with everything that a call added to them.

    Parameters
    ----------
    path
        File to write.
    adata
        The cells.
    source
        The ``.h5ad`` file whose matrix `adata` left there. It is copied with all its slots, and results are written
        into the copy: this needs no memory for the matrix.
    """
    if source is not None and source.is_file() and is_lazy(adata.X):
        write_whole(path, lambda draft: _write_into_copy(draft, adata, source))
    else:
        write_whole(path, adata.write_h5ad)


def _write_into_copy(draft: Path, adata: AnnData, source: Path) -> None:
    import anndata
    import h5py

    shutil.copyfile(source, draft)
    with h5py.File(draft, "r+") as file:
        anndata.io.write_elem(file, "obs", adata.obs)
        for slot, values in (("obsm", adata.obsm), ("uns", adata.uns)):
            if slot not in file:
                anndata.io.write_elem(file, slot, {})
            for name, value in values.items():
                anndata.io.write_elem(file[slot], name, value)
