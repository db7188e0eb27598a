"""Embeddings as tables and as files that cellxgene opens."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from scquery_ae._checks import check_obs_key
from scquery_ae._slots import Slots
from scquery_ae.cli import echo
from scquery_ae.cli.failures import Problem
from scquery_ae.cli.outputs import write
from scquery_ae.input_state import is_lazy
from scquery_ae.reference import Reference


def of_reference(reference: Reference, prefix: str) -> AnnData:
    """Return the cells of a reference with their embedding, which is ``X`` too: a reference keeps no expression."""
    latent = np.array(reference.embedding)
    names = pd.Index([f"{prefix}_{i}" for i in range(latent.shape[1])])
    return AnnData(latent.copy(), obs=reference.obs.copy(), var=pd.DataFrame(index=names), obsm={f"X_{prefix}": latent})


def require_embedding(adata: AnnData, source: Path, prefix: str) -> None:
    """Raise if cells have not been embedded."""
    slot = Slots(prefix).embedding
    if slot not in adata.obsm:
        there = ", ".join(map(str, adata.obsm)) or "none"
        msg = (
            f"{source} has no embedding obsm[{slot!r}] (its obsm: {there}). Name the reference to embed by with "
            "--reference, or give an .h5ad file that scquery-ae query wrote."
        )
        raise Problem(msg)


def table_of(adata: AnnData, prefix: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return one row a cell: columns of ``obs``, and the position in each dimension."""
    latent = np.asarray(adata.obsm[Slots(prefix).embedding])
    kept = {name: check_obs_key(adata, name, "columns") for name in columns}
    names = [f"{prefix}_{i}" for i in range(latent.shape[1])]
    table = pd.DataFrame(latent, index=adata.obs_names, columns=names)
    for position, (name, values) in enumerate(kept.items()):
        table.insert(position, name, values.to_numpy())
    table.index.name = "cell"
    return table


def write_for_cellxgene(path: Path, adata: AnnData, prefix: str, *, umap: bool, n_neighbors: int, seed: int) -> None:
    """Write what cellxgene asks of a file: unique names, a float32 matrix, plain annotation, an embedding of two axes.

    It shows the first two axes of an embedding, which say little of ours: hence the UMAP, which it shows first.
    """
    slot = Slots(prefix).embedding
    X = adata.X.compute() if is_lazy(adata.X) else adata.X
    shown = AnnData(
        None if X is None else X.astype(np.float32),
        obs=_plain(adata.obs),
        var=_plain(adata.var) if adata.n_vars else adata.var,
    )
    shown.obs_names_make_unique()
    shown.var_names_make_unique()
    if "X_umap" in adata.obsm:
        shown.obsm["X_umap"] = np.asarray(adata.obsm["X_umap"], dtype=np.float32)
    elif umap:
        shown.obsm["X_umap"] = _umap(np.asarray(adata.obsm[slot]), n_neighbors, seed)
    shown.obsm[slot] = np.asarray(adata.obsm[slot], dtype=np.float32)
    write(path, shown.write_h5ad)


def _umap(latent: np.ndarray, n_neighbors: int, seed: int) -> np.ndarray:
    echo.note("computing a UMAP")
    with echo.hushed():
        import scanpy as sc

        import_module("umap")  # which imports TensorFlow where there is one

    laid = AnnData(obs=pd.DataFrame(index=pd.RangeIndex(len(latent)).astype(str)), obsm={"X": latent})
    sc.pp.neighbors(laid, n_neighbors=min(n_neighbors, len(latent) - 1), use_rep="X", random_state=seed)
    sc.tl.umap(laid, random_state=seed)
    return np.asarray(laid.obsm["X_umap"], dtype=np.float32)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return columns as cellxgene takes them: booleans, int32, float32, and categories of text for all others."""
    kept = {}
    for name in dict.fromkeys(table.columns):
        column = table.iloc[:, list(table.columns).index(name)]
        dtype = column.dtype
        if isinstance(dtype, np.dtype) and dtype.kind == "b":
            kept[str(name)] = column
        elif isinstance(dtype, np.dtype) and dtype.kind in "iuf":
            whole = dtype.kind in "iu" and (column.abs().max() if len(column) else 0) < 2**31
            kept[str(name)] = column.astype(np.int32 if whole else np.float32)
        else:
            kept[str(name)] = column.astype(object).map(str, na_action="ignore").astype("category")
    return pd.DataFrame(kept, index=table.index.astype(str))
