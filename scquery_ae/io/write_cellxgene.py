"""Cells as an ``.h5ad`` file that cellxgene opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scquery_ae.input_state import is_lazy
from scquery_ae.io.write_whole import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def write_cellxgene(path: Path, adata: AnnData, embeddings: Mapping[str, np.ndarray]) -> None:
    """Write what cellxgene requires: unique names, a float32 matrix, plain annotation, and embeddings.

    Parameters
    ----------
    path
        File to write.
    adata
        The cells.
    embeddings
        Arrays for ``obsm``, ``(n_obs, n_dimensions)``. cellxgene shows the first two dimensions of each, and the first
        one first.
    """
    from anndata import AnnData

    X = adata.X.compute() if is_lazy(adata.X) else adata.X
    plain = AnnData(
        None if X is None else X.astype(np.float32),
        obs=_plain(adata.obs),
        var=_plain(adata.var) if adata.n_vars else adata.var,
    )
    plain.obs_names_make_unique()
    plain.var_names_make_unique()
    for name, embedding in embeddings.items():
        plain.obsm[name] = np.asarray(embedding, dtype=np.float32)
    write_whole(path, plain.write_h5ad)


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Convert columns to the types that cellxgene takes: bool, int32, float32, and categories of text."""
    import pandas as pd

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
