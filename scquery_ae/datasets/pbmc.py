"""700 PBMC from the scanpy package."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from scquery_ae.datasets.counts import recover_counts

if TYPE_CHECKING:
    from anndata import AnnData


def pbmc68k_reduced() -> AnnData:
    """Return counts and cell types of 700 peripheral blood mononuclear cells.

    The cells are a subset of the 68,579 PBMC of Zheng et al. They are part of the scanpy package, so no network is
    needed. scanpy holds log-normalised values. This function recovers the counts and checks that they are whole
    numbers.

    Returns
    -------
    AnnData ``(700, 765)`` with

    ``X`` : CSR float32
        Counts. Their sum is below the library size of a cell, because scanpy's file lacks part of the genes.
    ``obs["cell_type"]`` : categorical
        Ten types, assigned by correlation with bead-purified PBMC.
    ``obs["study"]`` : categorical
        ``"Zheng68k"`` for every cell.

    Raises
    ------
    DatasetError
        If the installed scanpy holds other values than expected.

    References
    ----------
    Zheng et al., Nature Communications 8, 14049 (2017).

    Examples
    --------
    >>> import scquery_ae as scq
    >>> scq.datasets.pbmc68k_reduced().shape
    (700, 765)
    """
    import anndata
    import pandas as pd
    import scanpy as sc

    with warnings.catch_warnings():
        # The file has an old AnnData format; reading it warns.
        warnings.simplefilter("ignore")
        source = sc.datasets.pbmc68k_reduced()
    counts = recover_counts(
        source.raw.X,
        source.obs["n_counts"],
        1e4,
        tolerance=0.2,
        source="`scanpy.datasets.pbmc68k_reduced()` of the installed scanpy",
        remedy="Install scanpy 1.10 or 1.11.",
    )
    return anndata.AnnData(
        counts,
        obs=pd.DataFrame(
            {
                "cell_type": source.obs["bulk_labels"].astype("category"),
                "study": pd.Categorical(["Zheng68k"] * source.n_obs),
            },
            index=source.obs_names.astype(str),
        ),
        var=pd.DataFrame(index=source.raw.var_names.astype(str)),
    )
