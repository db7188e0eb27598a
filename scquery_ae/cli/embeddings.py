"""Embeddings that ``scquery-ae export`` writes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData

from scquery_ae._checks import check_obs_key
from scquery_ae._slots import Slots
from scquery_ae.cli.console import show_progress, silence_libraries
from scquery_ae.cli.exit_codes import CommandError
from scquery_ae.reference import Reference


def reference_as_adata(reference: Reference, prefix: str) -> AnnData:
    """Return the cells of a reference; a reference keeps no expression, so ``X`` is the embedding."""
    latent = np.array(reference.embedding)
    names = pd.Index([f"{prefix}_{i}" for i in range(latent.shape[1])])
    return AnnData(
        latent.copy(),
        obs=reference.obs.copy(),
        var=pd.DataFrame(index=names),
        obsm={Slots(prefix).embedding: latent},
    )


def require_embedding(adata: AnnData, source: Path, prefix: str) -> None:
    """Raise unless the cells have an embedding."""
    slot = Slots(prefix).embedding
    if slot not in adata.obsm:
        there = ", ".join(map(str, adata.obsm)) or "none"
        msg = (
            f"{source} has no embedding obsm[{slot!r}] (its obsm: {there}). Embed the cells with --reference, or give "
            "an .h5ad file that scquery-ae query wrote."
        )
        raise CommandError(msg)


def make_table(adata: AnnData, prefix: str, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return one row per cell: columns of ``obs``, and one column per dimension of the embedding."""
    latent = np.asarray(adata.obsm[Slots(prefix).embedding])
    kept = {name: check_obs_key(adata, name, "columns") for name in columns}
    names = [f"{prefix}_{i}" for i in range(latent.shape[1])]
    table = pd.DataFrame(latent, index=adata.obs_names, columns=names)
    for position, (name, values) in enumerate(kept.items()):
        table.insert(position, name, values.to_numpy())
    table.index.name = "cell"
    return table


def collect_embeddings(
    adata: AnnData, prefix: str, *, umap: bool, n_neighbors: int, seed: int
) -> dict[str, np.ndarray]:
    """Return the arrays that cellxgene shows: a UMAP first, and the embedding.

    cellxgene shows two dimensions, and the first two of our embedding mean little.
    """
    slot = Slots(prefix).embedding
    found = {}
    if "X_umap" in adata.obsm:
        found["X_umap"] = np.asarray(adata.obsm["X_umap"])
    elif umap:
        found["X_umap"] = _compute_umap(np.asarray(adata.obsm[slot]), n_neighbors, seed)
    return {**found, slot: np.asarray(adata.obsm[slot])}


def _compute_umap(latent: np.ndarray, n_neighbors: int, seed: int) -> np.ndarray:
    show_progress("computing a UMAP")
    with silence_libraries():
        import scanpy as sc

        import_module("umap")  # imports TensorFlow if it is installed

    cells = AnnData(obs=pd.DataFrame(index=pd.RangeIndex(len(latent)).astype(str)), obsm={"X": latent})
    sc.pp.neighbors(cells, n_neighbors=min(n_neighbors, len(latent) - 1), use_rep="X", random_state=seed)
    sc.tl.umap(cells, random_state=seed)
    return np.asarray(cells.obsm["X_umap"])
